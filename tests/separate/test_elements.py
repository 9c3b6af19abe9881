"""The memory that is told before a run counts on so many elements of middle surface; shells have no more."""

from __future__ import annotations

import numpy as np
import pytest

from cryoscale.separate.groups import part_group
from cryoscale.separate.plan import THINNEST_ELEMENTS, USUAL_ELEMENTS


@pytest.mark.parametrize(("thickness", "at_most"), [(1.0, THINNEST_ELEMENTS), (2.5, USUAL_ELEMENTS)])
def test_shells_have_no_more_elements_than_are_expected(thickness: float, at_most: float) -> None:
    axes = np.ogrid[-24:25, -24:25, -24:25]
    for radius in (12.4, 16.0, 20.7):
        distance = np.sqrt(sum(x.astype(float) ** 2 for x in axes))
        points = np.argwhere(np.abs(distance - radius) <= thickness / 2).astype(np.int32)
        _, surfels = part_group(points, 1)
        share = len(surfels.patch) / len(points)
        assert 0.5 * at_most < share <= at_most, f"radius {radius}: {share:.3f}"
