"""How smoothly membranes go on from slice to slice (paper, fig. 13).

s(z) = max over membranes m and pixels p of m in slice z of  min over q of m in slice z + 1  |p - q|,   in pixels

A membrane that goes on smoothly moves a pixel or two between slices; a jump is a tear, or the flat top of a closed
surface. Only membranes that are in both slices count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["largest_step_pixels"]


def largest_step_pixels(here: NDArray[np.integer], there: NDArray[np.integer]) -> float:
    """Return the largest step of any membrane from one slice to the next; NaN where they share none.

    Parameters
    ----------
    here, there
        (rows, columns) numbers of membranes, 0 elsewhere.
    """
    largest = np.nan
    for number in np.intersect1d(here[here > 0], there[there > 0]):
        distances = cKDTree(np.argwhere(there == number)).query(np.argwhere(here == number))[0]
        largest = np.fmax(largest, distances.max())
    return float(largest)
