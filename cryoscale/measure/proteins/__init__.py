"""Proteins on membranes: where each one stands, which way it points, and how they are spread.

    foot = the nearest point of the mesh,   z axis of the particle = the normal there,   ratio = pairs seen / by chance

The files: `foot` (nearest points of a mesh), `geodesic` (distances along it), `place` (one membrane's proteins),
`pattern` (density, neighbours, pairs against chance), `orientation` (Euler angles), `plan` (units of work, tables).
"""

from cryoscale.measure.proteins.foot import Feet, nearest_feet
from cryoscale.measure.proteins.geodesic import Sheet, distances_from, distances_to
from cryoscale.measure.proteins.orientation import euler_angles
from cryoscale.measure.proteins.pattern import PairStatistics, nearest_neighbours, pair_statistics
from cryoscale.measure.proteins.place import Placed, Spread, ball_radius, place, spread

__all__ = [
    "Feet",
    "PairStatistics",
    "Placed",
    "Sheet",
    "Spread",
    "ball_radius",
    "distances_from",
    "distances_to",
    "euler_angles",
    "nearest_feet",
    "nearest_neighbours",
    "pair_statistics",
    "place",
    "spread",
]
