"""Mean shift on balls that touch, against a slow reading of the formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label
from scipy.spatial.distance import cdist

from cryoscale.locate import meanshift
from cryoscale.locate.meanshift import assign, modes


def balls(centres, radius, shape=(40, 40, 60)):
    grid = np.stack(np.indices(shape), axis=-1)
    mask = np.zeros(shape, bool)
    for centre in centres:
        mask |= ((grid - np.array(centre)) ** 2).sum(axis=-1) <= radius**2
    return mask


def nearest(found, centres):
    return cdist(found, centres).min(axis=0)


@pytest.mark.parametrize("radius", [3.0, 5.0, 7.5])
@pytest.mark.parametrize("gap", [2.0, 1.8])
def test_a_pair_and_a_row_of_touching_balls(radius, gap):
    centres = [(20, 20, 12 + k * gap * radius) for k in range(3)][: 3 if radius < 7 else 2]
    mask = balls(centres, radius)
    assert label(mask, np.ones((3, 3, 3)))[1] == 1
    found = modes(np.argwhere(mask), radius)
    assert len(found) == len(centres)
    # Where balls overlap their densest places are drawn to each other.
    assert nearest(found, centres).max() < (0.1 if gap == 2 else 0.2) * radius


def test_one_ball_has_one_mode_at_its_centre():
    found = modes(np.argwhere(balls([(20.3, 19.8, 30.1)], 6.0)), 6.0)
    assert len(found) == 1 and nearest(found, [(20.3, 19.8, 30.1)]).max() < 0.2
    assert modes(np.array([[5, 6, 7]]), 4.0).tolist() == [[5, 6, 7]]


def test_a_crowd_in_all_directions():
    rng = np.random.default_rng(2)
    radius, centres = 4.0, [np.array([20.0, 20, 30])]
    while len(centres) < 9:
        way = rng.normal(size=3)
        new = centres[rng.integers(len(centres))] + 2 * radius * way / np.linalg.norm(way)
        if cdist([new], centres).min() >= 2 * radius - 1e-9 and (new > 6).all() and (new < (34, 34, 54)).all():
            centres.append(new)
    points = np.argwhere(balls(centres, radius))
    found = modes(points, radius)
    assert len(found) == 9 and nearest(found, centres).max() < 1
    owner = assign(points, found)
    truth = cdist(points, centres).argmin(axis=1)
    partner = cdist(found, centres).argmin(axis=1)
    assert (partner[owner] == truth).mean() > 0.97


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_order_changes_nothing_and_places_are_apart_and_still(seed):
    rng = np.random.default_rng(seed)
    points = np.unique(rng.integers(0, 12, (80, 3)), axis=0)
    found = modes(points, 3.0)
    np.testing.assert_array_equal(found, modes(rng.permutation(points), 3.0))
    assert len(found) >= 1
    assert (cdist(found, found) + 9 * np.eye(len(found)) >= 3.0).all()
    # A mode is the weighted mean of what is around it; a point that enters at the kernel's rim, where its weight is
    # exp(-4.5), may still move it by that much.
    distance = cdist(found, points)
    weight = np.where(distance <= 4.5, np.exp(-2 * distance**2 / 9), 0)
    np.testing.assert_allclose(weight @ points / weight.sum(axis=1, keepdims=True), found, atol=4.5 * np.exp(-4.5))


def test_a_kernel_as_wide_as_the_pair_would_see_one(monkeypatch):
    points = np.argwhere(balls([(20, 20, 14), (20, 20, 24)], 5.0))
    assert len(modes(points, 5.0)) == 2
    assert len(modes(points, 10.0)) == 1
    monkeypatch.setattr(meanshift, "_STEPS", 0)
    assert len(modes(points, 5.0)) > 2
