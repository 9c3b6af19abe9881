"""Merge: from membrane voxels to separate membranes.

    d(R1, R2) = min over p in R1, q in R2 of |p - q|,     R1 and R2 are one membrane where d(R1, R2) <= eps

A tomogram is a three-dimensional grey image of a frozen piece of a cell, a stack of slices a few nanometres thick in
total blur and noise. The stage before this one decided for every voxel (the three-dimensional pixel) whether it is
membrane. It did not say *which* membrane: the result is a cloud of voxels. This stage groups them. Any two membrane
voxels that are at most `distance_voxels` apart belong together, and so does everything that hangs together through a
chain of such steps; what is farther apart is another membrane and gets another number. With a distance of 3 voxels,
gaps of two missing voxels are bridged and two vesicles three empty voxels apart stay two. Pieces that are apart in
one slice join if they meet in the slices above or below. Numbers start at 1, in the order in which the regions appear
from the first slice to the last, and 0 is background. The answer does not depend on how the volume is cut into blocks
or on how many processes work on it.

    from cryoscale.merge import merge_regions
    labels, count = merge_regions(mask, distance_voxels=3.0)
    labels, count = merge_regions(mask, distance=4.2, voxel_size=(2.8, 1.4, 1.4))    # voxels that are no cubes

The mask may be a NumPy, CuPy, Zarr or Dask array. Somebody else's instances can be passed with
``separate_values=True``: voxels then join only within equal values.

The files: `ball` (which offsets join), `runs` (foreground as intervals), `near` (which intervals are within the
distance), `unionfind` (what hangs together), `labels` (a whole volume), `statistics` (counts, boxes, sums), `shell`
(what a block tells its neighbours), `tree` (blocks joined into boxes up to the volume), `levels` (which boxes those
are), `blocks` (the same answer block by block), `stream` (painted on demand from a stored mask), `graph` (as a Dask
graph), `device` (on a GPU), `arrays` (any of them), `plan` (units of work on stored volumes).
"""

from cryoscale.merge.arrays import merge_regions
from cryoscale.merge.ball import Ball
from cryoscale.merge.blocks import merge_regions_in_blocks
from cryoscale.merge.stream import LazyLabels
from cryoscale.regions import Regions

__all__ = ["Ball", "LazyLabels", "Regions", "merge_regions", "merge_regions_in_blocks"]
