"""The compiled loops against dense SciPy algebra and finite differences."""

import numpy as np
import pytest
from scipy.linalg import cho_factor, cho_solve

from cryoscale.fit import evaluate
from cryoscale.fit.covariance import KINDS, Kernel, covariance
from cryoscale.fit.solve import Problem, Solution, solve_many


def _problem(kind: str, n: int = 90) -> tuple[Problem, Solution]:
    rng = np.random.default_rng(3)
    x = rng.normal(scale=15, size=(n, 3))
    length = 200.0 if kind == "cubic" else 30.0
    problem = Problem(x, rng.normal(size=n), rng.uniform(0.5, 1.0, n), Kernel(kind, 5.0, length))
    solution = solve_many([problem])[0]
    assert isinstance(solution, Solution)
    return problem, solution


@pytest.mark.parametrize("kind", KINDS)
def test_mean_and_variance_against_dense_algebra(kind: str) -> None:
    p, s = _problem(kind)
    assert s.lower_inverse is not None
    q = np.random.default_rng(4).normal(scale=18, size=(700, 3))
    factor = cho_factor(covariance(p.kernel, p.points, p.points, np) + np.diag(p.noise**2))
    cross = covariance(p.kernel, q, p.points, np)
    mean = cross @ cho_solve(factor, p.targets)
    variance = p.kernel.amplitude**2 - np.einsum("ij,ji->i", cross, cho_solve(factor, cross.T))
    assert np.abs(evaluate.field(p.kernel, p.points, s.alpha, q) - mean).max() < 1e-8
    found = evaluate.variance(p.kernel, p.points, s.lower_inverse, q)
    assert np.abs(found - variance).max() < 1e-8
    assert found.min() >= 0


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_against_differences(kind: str) -> None:
    p, s = _problem(kind)
    q = np.random.default_rng(5).normal(scale=18, size=(60, 3))
    _, gradient = evaluate.field_gradient(p.kernel, p.points, s.alpha, q)
    step = 1e-4 * np.eye(3)
    for axis in range(3):
        up = evaluate.field(p.kernel, p.points, s.alpha, q + step[axis])
        down = evaluate.field(p.kernel, p.points, s.alpha, q - step[axis])
        assert np.allclose(gradient[:, axis], (up - down) / 2e-4, atol=1e-6)


def test_far_places_return_to_the_prior() -> None:
    p, s = _problem("matern52")
    assert s.lower_inverse is not None
    q = np.full((1, 3), 4000.0)
    assert abs(evaluate.field(p.kernel, p.points, s.alpha, q)[0]) < 1e-12
    assert np.isclose(evaluate.variance(p.kernel, p.points, s.lower_inverse, q)[0], 25.0)


def test_variance_knows_what_the_trend_leaves_open() -> None:
    p, _ = _problem("matern52")
    rng = np.random.default_rng(6)
    q, coefficients = rng.normal(scale=18, size=(50, 3)), rng.normal(size=(3, 4))
    trend, at = p.points @ coefficients, q @ coefficients
    s = solve_many([Problem(p.points, p.targets, p.noise, p.kernel, trend)])[0]
    assert isinstance(s, Solution) and s.lower_inverse is not None
    matrix = covariance(p.kernel, p.points, p.points, np) + np.diag(p.noise**2) + trend @ trend.T
    cross = covariance(p.kernel, q, p.points, np) + at @ trend.T
    want = p.kernel.amplitude**2 + (at**2).sum(1) - np.einsum("ij,ji->i", cross, np.linalg.solve(matrix, cross.T))
    assert np.abs(evaluate.variance(p.kernel, p.points, s.lower_inverse, q, (trend, at)) - want).max() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_the_variance(kind: str) -> None:
    p, _ = _problem(kind)
    rng = np.random.default_rng(7)
    q, coefficients = rng.normal(scale=18, size=(50, 3)), rng.normal(size=(3, 4))
    trend = p.points @ coefficients
    s = solve_many([Problem(p.points, p.targets, p.noise, p.kernel, trend)])[0]
    assert isinstance(s, Solution) and s.lower_inverse is not None
    solve = evaluate.in_double(s.lower_inverse)

    def at(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slopes = np.broadcast_to(coefficients.T, (len(places), 4, 3))
        trends = (trend, places @ coefficients, slopes)
        return evaluate.variance_gradient(p.kernel, p.points, solve, places, trends)

    value, gradient = at(q)
    want = evaluate.variance(p.kernel, p.points, s.lower_inverse, q, (trend, q @ coefficients))
    assert np.abs(value - want).max() < 1e-6
    step = 1e-4 * np.eye(3)
    for axis in range(3):
        change = (at(q + step[axis])[0] - at(q - step[axis])[0]) / 2e-4
        assert np.allclose(gradient[:, axis], change, atol=1e-4 * np.abs(gradient).max())
