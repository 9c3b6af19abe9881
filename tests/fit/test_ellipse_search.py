"""The compiled search for an ellipse against SciPy's least squares and against differences."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from cryoscale.fit.ellipse import _distance
from cryoscale.fit.ellipse_search import cost_slopes, search
from tests.fit.test_ellipse import TRUE, cloud

NOISE = 1.3
PRIOR = np.zeros((2, 5))
PRIOR[:, 2:4] = np.array([[1.0, -1.0], [-1.0, 1.0]])
OFFSET = np.array([0.2, -0.1])


def residuals(p, points, cauchy):
    z = (_distance(points, p[:2], np.exp(p[2:4]), p[4]) / NOISE) ** 2
    rho = np.log1p(z) if cauchy else 2 * np.sqrt(1 + z) - 2
    return np.concatenate([np.sqrt(rho), PRIOR @ p - OFFSET])


def cost_of(p, points, cauchy):
    return 0.5 * (residuals(p, points, cauchy) ** 2).sum()


@pytest.mark.parametrize("cauchy", [False, True])
def test_cost_and_slopes_are_those_of_differences(cauchy) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = np.array([*rng.normal(0, 3, 2), *rng.normal(2.5, 0.4, 2), rng.uniform(0, np.pi)])
        points = rng.normal(0, 12, (40, 2))
        matrix, lean = np.empty((5, 5)), np.empty(5)
        cost = cost_slopes(points, p, NOISE, cauchy, PRIOR, OFFSET, matrix, lean)
        assert cost == pytest.approx(cost_of(p, points, cauchy))
        steps = 1e-6 * np.eye(5)
        slopes = [(cost_of(p + s, points, cauchy) - cost_of(p - s, points, cauchy)) / 2e-6 for s in steps]
        np.testing.assert_allclose(lean, slopes, rtol=1e-4, atol=1e-4)
        signs = np.sign(np.concatenate([_distance(points, p[:2], np.exp(p[2:4]), p[4]), np.ones(2)]))
        jacobian = [signs * (residuals(p + s, points, cauchy) - residuals(p - s, points, cauchy)) / 2e-6 for s in steps]
        np.testing.assert_allclose(matrix, np.array(jacobian) @ np.transpose(jacobian), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("cauchy", [False, True])
@pytest.mark.parametrize("room", [0.3, 1e3])
def test_no_worse_than_a_general_solver(cauchy, room) -> None:
    """Within bounds that hold and within wide ones."""
    scale = np.array([40.0, 40.0, 1.0, 1.0, 1.0])
    guess = np.array([*TRUE.centre + 4, *np.log(TRUE.axes * 1.15), 0.9])
    low, high = guess - room * scale / 40, guess + room * scale / 40
    for seed in range(6):
        points = cloud(seed, gap=2.0, outliers=0.05, n=200)
        found, cost = search(points, guess, low, high, scale, NOISE, cauchy, PRIOR, OFFSET)
        assert (found >= low).all() and (found <= high).all()
        assert cost == pytest.approx(cost_of(found, points, cauchy))
        inner = (low + 1e-9 * scale, high - 1e-9 * scale)
        general = least_squares(residuals, guess, bounds=inner, x_scale=scale, args=(points, cauchy), xtol=1e-10)
        assert cost <= general.cost * (1 + 1e-3)
        if room < 1:
            assert (np.minimum(found - low, high - found) <= 1e-9).any()
