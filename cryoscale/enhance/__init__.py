"""Make a tomogram easier to read: bilateral filter, then CLAHE, slice by slice (preprint section 3).

Off by default: the shipped network is trained on tomograms as they come, and reads the enhanced volume only where a
model's card asks for it.
"""

from cryoscale.enhance.filters import enhance_slice

__all__ = ["enhance_slice"]
