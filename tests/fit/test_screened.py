"""Variances in single precision, against double and dense algebra."""

from dataclasses import replace

import numpy as np
import pytest

from cryoscale.fit import evaluate, fit_surface, model, screened
from cryoscale.fit.covariance import KINDS, Kernel, covariance
from cryoscale.fit.model import Patch
from cryoscale.fit.screened import Screened, spread_out
from cryoscale.fit.solve import Problem, Solution, solve_many
from tests.fit.shapes import SHAPES, degrade

AMPLITUDE = 100.0


def _sphere(kind: str, n: int) -> tuple[Problem, np.ndarray]:
    """A sphere's control points, one pole without, and places on it; the variance is a millionth of the prior's."""
    middle = np.array([300.0, 500.0, 700.0])
    rng = np.random.default_rng(5)
    points = rng.normal(size=(4 * n, 3))
    points *= 40 / np.linalg.norm(points, axis=1, keepdims=True)
    points = points[points[:, 0] < 32][:n]
    problem = Problem(
        points + middle,
        rng.normal(size=n),
        rng.uniform(0.1, 0.3, n),
        Kernel(kind, AMPLITUDE, 80.0 if kind == "matern52" else 600.0),
        np.column_stack([np.ones(n), points[:, 0] / 40]),
        rng.uniform(0.1, 0.4, n),
        5.0,
    )
    places = rng.normal(size=(300, 3))
    return problem, 40 * places / np.linalg.norm(places, axis=1, keepdims=True) + middle


def _asked(problem: Problem, places: np.ndarray, solve: evaluate.Solve) -> tuple[np.ndarray, np.ndarray]:
    height = (places[:, 0] - 300.0) / 40
    slopes = np.zeros((len(places), 2, 3))
    slopes[:, 1, 0] = 1 / 40
    assert problem.trend is not None
    trends = (problem.trend, np.column_stack([np.ones(len(places)), height]), slopes)
    return evaluate.variance_gradient(problem.kernel, problem.points, solve, places, trends)


def _dense(problem: Problem, places: np.ndarray) -> np.ndarray:
    """The posterior variance by NumPy's own solver."""
    x, trend, shared = problem.points, problem.trend, problem.shared
    assert trend is not None and shared is not None
    far = np.linalg.norm(x[:, None] - x, axis=2)
    matrix = covariance(problem.kernel, x - 500, x - 500, np) + trend @ trend.T + np.diag(problem.noise**2)
    matrix += shared[:, None] * shared * np.exp(-far / problem.reach)
    own = np.column_stack([np.ones(len(places)), (places[:, 0] - 300.0) / 40])
    cross = covariance(problem.kernel, places - 500, x - 500, np) + own @ trend.T
    prior = AMPLITUDE**2 + (own**2).sum(1)
    return np.asarray(prior - np.einsum("ij,ji->i", cross, np.linalg.solve(matrix, cross.T)))


@pytest.mark.parametrize("n", [40, 64, 700])
@pytest.mark.parametrize("kind", KINDS)
def test_value_and_gradient(kind: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, places = _sphere(kind, n)
    solution = solve_many([problem])[0]
    assert isinstance(solution, Solution) and solution.lower_inverse is not None
    value, gradient = _asked(problem, places, Screened.of(problem, solution.lower_inverse).solve)
    exact, slope = _asked(problem, places, evaluate.in_double(solution.lower_inverse))
    assert np.allclose(exact, _dense(problem, places), rtol=1e-4)
    assert np.abs(value / exact - 1).max() < 2e-4
    assert (np.abs(gradient - slope).max(1) / exact).max() < 1e-4
    if n == 700:
        monkeypatch.setattr(screened, "SPREAD", 1)
        value, gradient = _asked(problem, places, Screened.of(problem, solution.lower_inverse).solve)
        assert np.abs(value / exact - 1).max() > 1e-2


@pytest.fixture(scope="module")
def patch() -> Patch:
    cloud, _ = degrade(SHAPES["bumpy"], seed=0, cap=0.7, noise=0.5)
    return fit_surface(cloud, spacing=1.0, kernel="matern52").model.patches[0]


def _places(patch: Patch) -> tuple[np.ndarray, np.ndarray]:
    q = patch.constraints.points[: patch.constraints.surface]
    for _ in range(4):
        value, slope = patch.value_gradient(q)
        q = q - (value / (slope**2).sum(1))[:, None] * slope
    return q, patch.value_gradient(q)[1]


def test_double_is_used_where_single_does_not_hold(patch: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    q, normals = _places(patch)
    want = patch.variance(q)

    def worst() -> float:
        return float(np.abs(patch.variance_near(q, normals, patch.value_gradient) / want - 1).max())

    assert worst() < 0.015
    of = Screened.of

    def broken(problem: Problem, lower_inverse: np.ndarray) -> Screened:
        ready = of(problem, lower_inverse)
        return replace(ready, inverse=np.asfortranarray(0.97 * ready.inverse))

    monkeypatch.setattr(Screened, "of", broken)
    assert worst() < 0.015
    monkeypatch.setattr(model, "SINGLE", np.inf)
    assert worst() > 0.03


def test_no_places(patch: Patch) -> None:
    none = np.zeros((0, 3))
    assert not len(patch.variance_near(none, none, patch.value_gradient))


def test_spread_out() -> None:
    points = np.array([[0.0, 0, 0], [1, 0, 0], [9, 0, 0], [10, 0, 0], [5, 0, 0]])
    assert spread_out(points, 3).tolist() == [0, 3, 4]
