"""Connect: join pieces of membranes slice by slice, by tracing them and learning the best closed walk.

    Q <- (1 - alpha) Q + alpha (r + gamma max Q'),     r < 0 for every join, r > 0 only on return to the first segment

The way of the paper's section 4.1: a walker traces the segmented pixels of a slice into ordered segments, then learns
by trial which ends to join so that the walk comes back to where it began, smoothly. Where distance alone would fuse two
membranes that run side by side, it follows each; where it would leave a membrane in pieces, it bridges gaps as wide as
the curve on either side makes believable. It sees one slice at a time.

    from cryoscale.connect import ConnectOptions, connect_slice
    found = connect_slice(mask, ConnectOptions(), seed=0)
    found.labels, found.paths, found.closed

The kernels of a slice: `trace` (pixels to lists), `segments` (lists cut where they meet), `reward` (what a join costs),
`qlearning` (closed walks), `slice` (all of it), `connection` (options and result).
"""

from cryoscale.connect.connection import ConnectOptions, SliceConnection, options_in_voxels
from cryoscale.connect.slice import connect_slice
from cryoscale.connect.volume import connect_volume

__all__ = ["ConnectOptions", "SliceConnection", "connect_slice", "connect_volume", "options_in_voxels"]
