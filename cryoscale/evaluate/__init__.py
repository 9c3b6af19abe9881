"""Evaluate: how good a result is, where the truth is known.

    Dice = 2 TP / (2 TP + FP + FN),        F1 and panoptic quality of instances matched at IoU above 0.5,
    adjusted Rand index and variation of information of groupings

A cryo-electron tomogram is not equally good everywhere: where a membrane's normal points along the beam the missing
wedge hides it. A single score hides that too, so every score here can be split by that angle.

The files: `overlap` (voxels), `instances` (which membrane is which), `clusterings` (which voxels belong together),
`surfaces` (distances in nm), `beam` (angles), `occupancy` and `positions` (particles, as the challenges count them).
All work on arrays; counts of blocks add up to the counts of the volume.
"""

from cryoscale.evaluate.beam import AngleBin, beam_angle_degrees, scores_by_angle
from cryoscale.evaluate.clusterings import Variation, adjusted_rand_index, variation_of_information
from cryoscale.evaluate.instances import InstanceScores, add_tables, contingency, match_instances
from cryoscale.evaluate.occupancy import OccupancyScores, dilated_at, nearest_voxels, score_hits
from cryoscale.evaluate.overlap import Counts, class_counts, count_overlap, mean_dice, slice_counts
from cryoscale.evaluate.positions import count_within, f_beta, match_positions
from cryoscale.evaluate.surfaces import SurfaceScores, border_points, surface_scores

__all__ = [
    "AngleBin",
    "Counts",
    "InstanceScores",
    "OccupancyScores",
    "SurfaceScores",
    "Variation",
    "add_tables",
    "adjusted_rand_index",
    "beam_angle_degrees",
    "border_points",
    "class_counts",
    "contingency",
    "count_overlap",
    "count_within",
    "dilated_at",
    "f_beta",
    "match_instances",
    "match_positions",
    "mean_dice",
    "nearest_voxels",
    "score_hits",
    "scores_by_angle",
    "slice_counts",
    "surface_scores",
    "variation_of_information",
]
