"""Neighbours and nearest membranes against brute force."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from cryoscale.measure.near import box_pairs, nearest_surface


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(0, 12))
def test_box_pairs_are_all_candidates(seed, count):
    rng = np.random.default_rng(seed)
    clouds = [rng.uniform(0, 5, (5, 3)) + rng.uniform(0, 40, 3) for _ in range(count)]
    low = np.array([c.min(axis=0) for c in clouds]).reshape(-1, 3)
    high = np.array([c.max(axis=0) for c in clouds]).reshape(-1, 3)
    candidates = {(a, b) for a, others in box_pairs(low, high, 8.0) for b in others}
    for a in range(count):
        for b in range(a + 1, count):
            gap = np.linalg.norm(np.maximum(np.maximum(low[a] - high[b], low[b] - high[a]), 0))
            assert ((a, b) in candidates) == (gap <= 8.0)
            assert (a, b) in candidates or cdist(clouds[a], clouds[b]).min() > 8.0


def test_nearest_surface_equals_brute_force_in_any_order():
    rng = np.random.default_rng(4)
    points = rng.uniform(0, 30, (40, 3))
    surfaces = [(number, rng.uniform(0, 30, (15, 3))) for number in (3, 1, 7)]
    surfaces.append((9, surfaces[0][1]))
    distances = {number: cdist(points, vertices).min(axis=1) for number, vertices in surfaces}
    best = [min(distances, key=lambda k: (distances[k][row], k)) for row in range(len(points))]
    for order in (surfaces, surfaces[::-1]):
        distance, number = nearest_surface(points, order)
        np.testing.assert_array_equal(number, best)
        np.testing.assert_allclose(distance, [distances[k][row] for row, k in enumerate(best)])
    assert 3 in number and 9 not in number


def test_no_surfaces_or_no_points():
    distance, number = nearest_surface(np.zeros((2, 3)), [])
    assert np.isinf(distance).all() and number.tolist() == [0, 0]
    assert nearest_surface(np.zeros((0, 3)), [(1, np.zeros((1, 3)))])[0].shape == (0,)
