"""Measure: what a biologist asks of a membrane, as numbers with units.

    area = sum of triangle areas,        volume = sum a . (b x c) / 6,        distance = min |a - b|

Of each membrane: area, enclosed volume where it is closed (and the reason where it is not), sphericity, which share
of it was inferred rather than seen, how sure its position is, where it lies and which membranes are near. Of each
protein: its centre and the nearest membrane.

The files: `geometry` (one membrane), `near` (distances between things), `plan` (units of work, the tables).
"""

from cryoscale.measure.geometry import SurfaceMeasures, measure_surface
from cryoscale.measure.near import nearest_surface, smallest_distance

__all__ = ["SurfaceMeasures", "measure_surface", "nearest_surface", "smallest_distance"]
