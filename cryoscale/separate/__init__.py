"""Separate: which voxels of a group are one membrane, by shape.

    membranes = join(cut(patches(middle surface of the voxels))),     groups = voxels within the join distance

Distance alone fuses membranes that touch, and leaves the pieces of one membrane apart where its gap is wider. The
stage before this one (merge) grouped voxels by a generous distance; this one looks at each group's middle surface:
what runs on smoothly is one membrane, also across a gap; what faces it is another.

    from cryoscale.separate import separate_groups
    groups, count = merge_regions(mask, distance_voxels=10.0)
    membranes, count = separate_groups(groups)

The files: `sheets` (voxels to the middle of their sheet), `surfels` (elements of the middle surface), `paraboloid` (the
local fit), `split` (patches that are one smooth surface), `rims` (folds are no cut), `evidence` (for and against every
two of them), `separate` (the whole way for one group), `edges`, `bridges` and `gaps` (pieces of one membrane over wide
gaps), `groups` (every group of a volume), `parts` and `plan` (units of work on stored volumes).
"""

from cryoscale.separate.groups import separate_groups
from cryoscale.separate.separate import separate_membranes

__all__ = ["separate_groups", "separate_membranes"]
