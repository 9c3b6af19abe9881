"""The true rim of open shapes, against rims written out: what overshoots are measured from."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from benchmarks._fit_open import OPEN
from tests.fit.shapes import Shape, beyond_rim, rim_points, surface_points


def _written_out(shape: Shape) -> np.ndarray:
    """The rim by a formula, a place every 0.01 voxel: a circle, or the four edges of x = h(z, y)."""
    if shape is OPEN["half dome"]:
        turn = np.linspace(0, 2 * np.pi, 22_000)
        return np.stack([0 * turn - 18, 34 * np.sin(turn), 34 * np.cos(turn)], 1)
    z, y = shape.half[:2]
    edge = np.linspace(-1, 1, 12_000)
    one = np.ones_like(edge)
    q = np.concatenate([np.stack([s * z * one, y * edge, 0 * one], 1) for s in (-1, 1)])
    q = np.concatenate([q, *(np.stack([z * edge, s * y * one, 0 * one], 1) for s in (-1, 1))])
    q[:, 2] = -shape.field(q)
    return q


@pytest.mark.parametrize("name", list(OPEN))
def test_distances_beyond_the_rim(name: str) -> None:
    shape, rng = OPEN[name], np.random.default_rng(1)
    z, y, x = shape.half
    wider = Shape(shape.field, (z + 5, y + 5, x + 5), closed=False)
    q = surface_points(wider, 0.5, rng)
    q += rng.normal(0, 1, q.shape)
    foot = shape.foot(q)
    assert np.abs(shape.field(foot)).max() < 1e-9
    across = shape.gradient(foot)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    assert np.linalg.norm(np.cross(q - foot, across), axis=1).max() < 0.3
    outside = (np.abs(foot) > np.array(shape.half)).any(1)
    found = beyond_rim(shape, rim_points(shape), q)
    want = cKDTree(_written_out(shape)).query(foot)[0]
    assert (found[~outside] == 0).all() and outside.sum() > 300
    assert np.abs(found - want)[outside].max() < 0.02
    # What random places of the surface make of it.
    random = cKDTree(surface_points(shape, 4.0, rng)).query(foot)[0]
    assert (random - want)[outside].mean() > 0.1 and (random - want)[outside].max() > 0.5


def test_a_straight_rim_is_exact() -> None:
    flat = OPEN["flat"]
    q = np.array([[8.0, -63.0, -1.0], [42.0, -16.0, 0.0], [43.0, 64.0, 1.0], [40.0, 60.0, 0.0]])
    assert np.abs(beyond_rim(flat, rim_points(flat), q) - [3, 2, 5, 0]).max() < 1e-4
