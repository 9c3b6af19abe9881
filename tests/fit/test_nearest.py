"""Distances to the nearest of many points, against the definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cryoscale.fit.nearest import CELLS_PER_POINT, PointGrid

Array = NDArray[np.float64]
RNG = np.random.default_rng(3)
SPHERE = RNG.normal(size=(1500, 3))
SPHERE = 30 * SPHERE / np.linalg.norm(SPHERE, axis=1)[:, None]
CLOUDS = {
    "sphere": SPHERE,
    "belt, two caps missing": SPHERE[np.abs(SPHERE[:, 0]) < 12],
    "flat": np.column_stack([np.zeros(400), 40 * RNG.random((400, 2))]),
    "line": np.column_stack([np.arange(90.0), np.zeros((90, 2))]),
    "one": np.array([[3.0, -2.0, 5.0]]),
    "equal": np.ones((7, 3)),
    "far apart": np.concatenate([SPHERE[:100], SPHERE[:100] + 1e5]),
}


def brute_force(points: Array, places: Array) -> Array:
    return np.array([np.sqrt(((points - place) ** 2).sum(1).min()) for place in places])


def places_around(points: Array) -> Array:
    """Places on, near, inside and far outside of a cloud, in no order, then along a walk."""
    low, high = points.min(0) - 25, points.max(0) + 25
    near = points[RNG.integers(len(points), size=150)] + RNG.normal(0, 2, (150, 3))
    walk = np.linspace(low, high, 60)
    return np.concatenate([points[:20], near, RNG.uniform(low, high, (150, 3)), walk])


@pytest.mark.parametrize("name", CLOUDS)
def test_distances_are_those_of_brute_force(name: str) -> None:
    places = places_around(CLOUDS[name])
    found = PointGrid.of(CLOUDS[name]).distance(places)
    np.testing.assert_allclose(found, brute_force(CLOUDS[name], places), rtol=1e-12, atol=1e-12)


def test_the_order_of_places_decides_nothing() -> None:
    grid, places = PointGrid.of(SPHERE), places_around(SPHERE)
    turned = np.random.default_rng(0).permutation(len(places))
    np.testing.assert_array_equal(grid.distance(places)[turned], grid.distance(places[turned]))


def test_no_places() -> None:
    assert PointGrid.of(SPHERE).distance(np.zeros((0, 3))).shape == (0,)


@pytest.mark.parametrize("name", CLOUDS)
def test_memory_follows_the_points(name: str) -> None:
    grid = PointGrid.of(CLOUDS[name])
    assert len(grid.start) <= CELLS_PER_POINT * len(CLOUDS[name]) + 2


def test_a_grid_that_puts_its_cells_elsewhere_is_found_out() -> None:
    grid, places = PointGrid.of(SPHERE), places_around(SPHERE)
    moved = replace(grid, low=grid.low + grid.edge)
    assert np.abs(moved.distance(places) - brute_force(SPHERE, places)).max() > 1
