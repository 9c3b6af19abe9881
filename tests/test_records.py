"""Sizes in space and in voxels."""

from __future__ import annotations

import pytest

from cryoscale.records import Geometry


@pytest.mark.parametrize("edge", [1.0, 3.3, 10.0, 13.68, 20.0 / 3])
def test_a_volume_of_exactly_so_many_voxels_asks_for_no_more(edge: float) -> None:
    geometry = Geometry((8, 8, 8), (edge, edge, edge))
    for n in range(1, 1000):
        assert geometry.least_voxels(n * edge**3 / 1000) == n
        assert geometry.least_voxels((n + 0.001) * edge**3 / 1000) == n + 1
    assert geometry.least_voxels(0.0) == 1
