"""Rotated ellipses against known ones: noise, gaps, outliers, bounds."""

import numpy as np
import pytest

from cryoscale.fit.ellipse import Bounds, Ellipse, fit_ellipse

TRUE = Ellipse(np.array([100.0, 120.0]), np.array([50.0, 30.0]), 0.7)


def cloud(seed, *, ellipse=TRUE, n=400, gap=0.0, noise=0.7, outliers=0.0):
    """Points about an ellipse, a gap in it, some of them anywhere."""
    rng = np.random.default_rng(seed)
    turn = rng.uniform(gap / 2, 2 * np.pi - gap / 2, n)
    along = np.array([np.sin(ellipse.angle_radians), np.cos(ellipse.angle_radians)])
    across = np.array([along[1], -along[0]])
    a, b = ellipse.axes
    points = ellipse.centre + a * np.outer(np.cos(turn), along) + b * np.outer(np.sin(turn), across)
    points += rng.normal(0, noise, points.shape)
    wild = int(outliers * n)
    points[:wild] = ellipse.centre + rng.uniform(-1.4 * a, 1.4 * a, (wild, 2))
    return points


@pytest.mark.parametrize(
    ("gap", "outliers", "tolerance"), [(0, 0, 0.3), (0, 0.2, 0.5), (2.0, 0.1, 0.8), (3.1, 0.05, 1.5)]
)
def test_a_rotated_ellipse_is_recovered(gap, outliers, tolerance) -> None:
    for seed in range(3):
        found = fit_ellipse(cloud(seed, gap=gap, outliers=outliers))
        np.testing.assert_allclose(found.centre, TRUE.centre, atol=tolerance)
        np.testing.assert_allclose(found.axes, TRUE.axes, atol=tolerance)
        assert abs(found.angle_radians - 0.7) < 0.03
        assert found.describes and found.at_bounds == ()
        assert abs(found.coverage - (1 - gap / (2 * np.pi))) < 0.12


def test_a_short_arc_is_followed_where_it_is() -> None:
    for seed in range(4):
        points = cloud(seed, gap=4.0, outliers=0.02)
        found = fit_ellipse(points)
        seen = np.abs(TRUE.distance(points)) < 2.0
        assert np.abs(found.distance(TRUE.outline(400)))[150:250].max() < 1.0
        assert np.abs(found.distance(points[seen])).mean() < 0.7 and found.coverage < 0.5


def test_axes_of_the_picture_would_not_do() -> None:
    """The printed equation's ellipse, axes along y and x, is far from these pixels."""
    points = cloud(0)
    upright = fit_ellipse(points, start=Ellipse(TRUE.centre, TRUE.axes, 0.0), bounds=Bounds(20.0, 30.0, 1e-3))
    assert np.abs(upright.distance(points)).mean() > 5 * np.abs(fit_ellipse(points).distance(points)).mean()


def test_robustness_is_in_the_loss() -> None:
    """Where every distance counts as less than one, both losses are squares."""
    points = cloud(3, gap=1.0, outliers=0.2)
    robust, plain = fit_ellipse(points), fit_ellipse(points, noise_pixels=100.0)

    def error(ellipse):
        return np.abs(TRUE.distance(ellipse.outline())).mean()

    assert error(robust) < 0.5 < 2.0 < error(plain)


def test_distance_is_exact_on_circles_and_first_order_elsewhere() -> None:
    circle = Ellipse(np.array([3.0, 4.0]), np.array([10.0, 10.0]), 1.0)
    assert np.allclose(circle.distance(np.array([[3.0, 17.0], [3.0, 9.0], [3.0, 4.0]])), [3.0, -5.0, -10.0])
    line = TRUE.outline(2000)
    assert np.abs(TRUE.distance(line)).max() < 1e-9 and np.allclose(line[0], line[-1])
    q = cloud(1, noise=1.5)
    truth = np.linalg.norm(q[:, None] - line[None], axis=2).min(1)
    assert np.abs(np.abs(TRUE.distance(q)) - truth).max() < 0.15 * truth.max()


def test_the_same_ellipse_however_the_picture_is_turned() -> None:
    points = cloud(5, outliers=0.05)
    found, swapped = fit_ellipse(points), fit_ellipse(points[:, ::-1] + 1000)
    np.testing.assert_allclose(swapped.centre - 1000, found.centre[::-1], atol=0.05)
    np.testing.assert_allclose(swapped.axes, found.axes, atol=0.05)
    assert abs((swapped.angle_radians + found.angle_radians) % np.pi - np.pi / 2) < 0.01
    assert found.axes[0] >= found.axes[1] and 0 <= found.angle_radians < np.pi


def test_bounds_hold_and_say_so() -> None:
    start = Ellipse(TRUE.centre + 6, TRUE.axes, 0.7)
    found = fit_ellipse(cloud(0), start=start, bounds=Bounds(2.0, 3.0, 0.3))
    assert (np.abs(found.centre - start.centre) <= 2.0 + 1e-9).all()
    assert {"centre y", "centre x"} <= set(found.at_bounds)
    few = cloud(0, n=4)
    held = fit_ellipse(few, start=TRUE, bounds=Bounds())
    assert np.abs(held.axes - TRUE.axes).max() <= 3.0


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.zeros((9, 3)), r"shape \(n, 2\)"),
        (np.full((9, 2), np.nan), "not finite"),
        (np.ones((9, 2)), "at least 6 distinct points; found 1"),
        (np.column_stack([np.arange(9.0)] * 2), "on one line"),
    ],
)
def test_bad_points_are_refused(points, words) -> None:
    with pytest.raises(ValueError, match=words):
        fit_ellipse(points)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="there is none"):
        fit_ellipse(cloud(0), bounds=Bounds())
    with pytest.raises(ValueError, match="must be positive"):
        fit_ellipse(cloud(0), noise_pixels=0.0)
