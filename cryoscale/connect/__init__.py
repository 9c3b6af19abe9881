"""Connect: join pieces of membranes slice by slice, by tracing them and learning the best closed walk.

    Q <- (1 - alpha) Q + alpha (r + gamma max Q'),     r < 0 for every join, r > 0 only on return to the first segment

The way of the paper's section 4.1: a walker traces the segmented pixels into ordered segments, then learns by trial
which ends to join so that the walk comes back to where it began, smoothly.
"""

from cryoscale.connect.connection import ConnectOptions, SliceConnection, options_in_voxels
from cryoscale.connect.slice import connect_slice

__all__ = ["ConnectOptions", "SliceConnection", "connect_slice", "options_in_voxels"]
