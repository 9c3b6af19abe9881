"""Folds against the straight lines and circles they are made of; scrolls against the formula of the spiral."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from cryoscale.simulate.ribbon import Ribbon, meander, scroll

WALLS, RADII = (30.0, 24.0, 40.0), (6.0, 9.0)


def exact_distance(points):
    """Distance in the plane to three walls and the two half circles between them, before the meander is centred."""
    ends = [((0, 0), (30, 0)), ((30, 12), (6, 12)), ((6, 30), (46, 30))]
    away = []
    for start, end in np.array(ends, float):
        along = end - start
        part = np.clip(((points - start) @ along) / (along @ along), 0, 1)[:, None]
        away.append(np.linalg.norm(points - start - part * along, axis=1))
    for centre, radius, way in (((30, 6), 6.0, 1), ((6, 21), 9.0, -1)):
        rest = points - centre
        on_arc = rest[:, 0] * way >= 0
        away.append(np.where(on_arc, np.abs(np.linalg.norm(rest, axis=1) - radius), np.inf))
    return np.min(away, axis=0)


def test_a_meander_is_walls_and_half_circles():
    curve = meander(WALLS, RADII)
    assert np.linalg.norm(np.diff(curve, axis=0), axis=1).max() <= 1.0
    assert np.linalg.norm(np.diff(curve, axis=0), axis=1).sum() == pytest.approx(94 + np.pi * 15, rel=2e-3)
    assert exact_distance(curve - curve[0]).max() < 1e-9
    np.testing.assert_allclose(np.ptp(curve, axis=0), [49, 30], atol=0.05)


def test_the_middle_of_a_fold_equals_its_formula():
    """Distances to the ribbon against lines and circles, inside its width and beyond it."""
    rng = np.random.default_rng(0)
    curve = meander(WALLS, RADII)
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    fold = Ribbon(np.array([40.0, 50, 60]), q, curve, 20.0)
    local = np.column_stack([rng.uniform(-32, 32, (20_000, 2)), rng.uniform(-30, 30, 20_000)])
    beyond = np.maximum(np.abs(local[:, 2]) - 20, 0)
    exact = np.hypot(exact_distance(local[:, :2] - curve[0]), beyond)
    distance, normal = fold.distance(fold.centre + local @ q.T)
    assert np.abs(np.abs(distance) - exact).max() < 0.03
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-9)


def test_normals_are_the_slope_of_the_distance():
    """Central differences of the distance, a little off the middle and away from rims."""
    fold = Ribbon(np.zeros(3), np.eye(3), meander(WALLS, RADII), 20.0)
    feet = fold.samples[np.abs(fold.samples[:, 2]) < 15]
    points = feet + 2.0 * fold.distance(feet)[1]
    kept = np.abs(fold.distance(points)[0] - 2.0) < 0.02
    points, step = points[kept], 0.5
    slope = np.stack(
        [(fold.distance(points + d)[0] - fold.distance(points - d)[0]) / (2 * step) for d in step * np.eye(3)], axis=1
    )
    turn = (slope * fold.distance(points)[1]).sum(axis=1)
    assert kept.mean() > 0.8
    assert np.median(turn) > 0.9999
    assert np.quantile(turn, 0.05) > 0.99


def test_sides_and_insets():
    fold = Ribbon(np.zeros(3), np.eye(3), meander(WALLS, RADII), 20.0)
    assert np.abs(fold.distance(fold.samples)[0]).max() < 1e-6
    depth = fold.distance(fold.inset(2.0).samples)[0]
    inner = depth[(depth < -1.5)]
    assert len(inner) > 0.95 * len(depth)
    assert not fold.closed


def test_a_scroll_is_a_spiral():
    curve = scroll(10.0, 15.0, 2.5)
    rho, angle = np.hypot(*curve.T), np.unwrap(np.arctan2(curve[:, 1], curve[:, 0]))
    np.testing.assert_allclose(rho, 10 + 15 * angle / (2 * np.pi), atol=1e-9)
    assert angle[-1] == pytest.approx(5 * np.pi)
    outer, inner = curve[rho > 30], curve[rho < 28]
    assert cKDTree(inner).query(outer)[0].min() > 1.0


@pytest.mark.parametrize("bad", [((3.0,), (1.0,)), ((3.0, -1.0), (1.0,)), ((3.0, 2.0), (0.0,))])
def test_bad_meanders(bad):
    with pytest.raises(ValueError, match="one wall more than turns"):
        meander(*bad)
    with pytest.raises(ValueError, match="above 0"):
        scroll(1.0, 0.0, 1.0)
