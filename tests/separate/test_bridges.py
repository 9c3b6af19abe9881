"""Edges and bridges: directions at a rim, contacts, the excess of a membrane over a gap of its own, what is between."""

from __future__ import annotations

import numpy as np
import pytest

from cryoscale.separate.bridges import weigh_bridges
from cryoscale.separate.edges import find_fronts
from cryoscale.separate.surfels import Surfels
from tests.separate.test_gaps import halves, membranes, plane


def reach(surfels: Surfels, voxels: float) -> np.ndarray:
    return np.full(int(surfels.patch.max()) + 1, voxels)


def test_edges_point_outwards_and_the_middle_is_none() -> None:
    surfels = membranes(plane(0, 60))
    outward = find_fronts(surfels, reach(surfels, 40.0)).outward
    y, x = surfels.position[:, 1], surfels.position[:, 2]
    inside = (np.minimum(x, 58 - x) > 8) & (np.minimum(y, 58 - y) > 8)
    assert not outward[inside].any()
    right = (x == 58) & (np.abs(y - 29) < 15)
    assert (outward[right, 2] > 0.95).all()


def test_contacts_are_as_long_as_the_gap_and_no_longer_than_the_reach() -> None:
    surfels = membranes(plane(0, 60), plane(84, 144))
    fronts = find_fronts(surfels, reach(surfels, 40.0))
    assert fronts.pair.tolist() == [[0, 1]]
    assert fronts.length[0] == pytest.approx(26.0, abs=0.5)
    assert (surfels.patch[fronts.contact] == [0, 1]).all()
    assert not find_fronts(surfels, reach(surfels, 25.0)).pair.size
    assert not find_fronts(surfels, np.array([40.0, 25.0])).pair.size


def test_a_membrane_is_its_own_measure_where_it_is_deep_enough() -> None:
    smooth = halves((45.0, 45.0, 45.0), 25.0)
    found = weigh_bridges(smooth, find_fronts(smooth, reach(smooth, 60.0)), fewest=5)
    assert found.excess[0] < 3 * found.own.max() < 1.5
    assert found.gap[0] == pytest.approx(25.0, abs=5.0)
    assert found.blocked[0] == 0.0
    shallow = membranes(plane(0, 60), plane(84, 104))
    own = weigh_bridges(shallow, find_fronts(shallow, reach(shallow, 60.0)), fewest=5).own[0]
    assert np.isnan(own[1])
    assert own[0] < 0.3


def test_the_front_is_the_line_along_which_they_meet() -> None:
    surfels = membranes(plane(0, 60), plane(84, 144))
    found = weigh_bridges(surfels, find_fronts(surfels, reach(surfels, 40.0)), fewest=5)
    assert found.front[0] == pytest.approx(60.0, rel=0.15)
    assert not weigh_bridges(surfels, find_fronts(surfels, reach(surfels, 40.0)), fewest=1000).pair.size
