"""Sides held out: the block formula against refitting without them, and what the choice of a prior makes of them."""

import numpy as np
import pytest

from cryoscale.fit import choose as choosing
from cryoscale.fit.choose import Hypothesis, Task, choose, problem_of
from cryoscale.fit.constraints import Constraints, signed_pairs
from cryoscale.fit.covariance import Kernel, covariance
from cryoscale.fit.extrapolate import LARGEST_ERROR, extrapolation_error, sides
from cryoscale.fit.solve import Solution, solve_many
from tests.fit.shapes import sphere_points


def _belt(cap: float = 0.7, noise: float = 0.3) -> Constraints:
    q = sphere_points(20, 260, seed=0, cap=cap)
    normals = q / 20
    q = q + np.random.default_rng(1).normal(0, noise, (len(q), 1)) * normals
    return signed_pairs(q, np.full(len(q), noise), normals, radius=20, spacing=4)


def _solved(constraints: Constraints, hypothesis: Hypothesis) -> Solution:
    solution = solve_many([problem_of(constraints, hypothesis)])[0]
    assert isinstance(solution, Solution)
    return solution


def test_the_block_formula_is_a_fit_without_the_side() -> None:
    belt = _belt()
    kernel = Kernel("matern52", 20.0, 40.0)
    solution = _solved(belt, Hypothesis(kernel, None))
    assert solution.lower_inverse is not None
    inverse = solution.lower_inverse.T @ solution.lower_inverse
    noise = np.linalg.inv(inverse) - covariance(kernel, belt.points, belt.points, np)
    expected = []
    for rows, count in sides(belt.points, belt.surface):
        rest = np.setdiff1d(np.arange(len(belt.points)), rows)
        known = covariance(kernel, belt.points[rest], belt.points[rest], np) + noise[np.ix_(rest, rest)]
        cross = covariance(kernel, belt.points[rows], belt.points[rest], np) + noise[np.ix_(rows, rest)]
        field = cross @ np.linalg.solve(known, belt.values[rest])
        value = belt.values[rows[count:]]
        slope = value @ field[count:] / (value @ value)
        expected.append(np.minimum(np.abs(field[:count]) / slope, LARGEST_ERROR).mean() if slope > 0.1 else 4.0)
    held = sides(belt.points, belt.surface)
    assert np.isclose(
        extrapolation_error(held, belt.values, solution.alpha, solution.lower_inverse), np.mean(expected), rtol=1e-5
    )


def test_sides_are_ends_and_rims() -> None:
    belt = _belt()
    held = sides(belt.points, belt.surface)
    assert len(held) == 7
    on = belt.points[: belt.surface]
    rim, top = (on[rows[:count]] for rows, count in held[:2])
    assert np.abs(rim[:, 0]).mean() > 1.2 * np.abs(on[:, 0]).mean()
    assert top[:, 0].min() >= np.sort(on[:, 0])[-len(top)]
    for rows, count in held:
        assert (rows[:count] < belt.surface).all() and (rows[count:] >= belt.surface).all()


def test_too_few_points_have_no_sides() -> None:
    few = _belt().points[:8]
    assert sides(few, 8) == []
    assert extrapolation_error([], np.zeros(8), np.zeros(8), np.eye(8)) == 0.0


def test_a_field_that_forgets_the_surface_is_far_off() -> None:
    belt = _belt()
    held = sides(belt.points, belt.surface)

    def error(length: float, amplitude: float) -> float:
        solution = _solved(belt, Hypothesis(Kernel("matern52", amplitude, length), None))
        assert solution.lower_inverse is not None
        return extrapolation_error(held, belt.values, solution.alpha, solution.lower_inverse)

    assert error(60.0, 40.0) < 0.5 * error(2.0, 20.0)


def test_what_predicts_held_out_sides_is_chosen_over_what_has_more_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise stated far too small: the evidence takes a rough prior for it, the held-out sides do not."""
    belt = _belt(noise=0.6)
    proud = Constraints(belt.points, belt.values, np.full(len(belt.points), 0.2), belt.surface)
    rough, smooth = (Hypothesis(Kernel("matern52", 20.0, length), None) for length in (20.0, 100.0))
    monkeypatch.setattr(choosing, "candidates", lambda _: [rough, smooth])
    task = Task(proud, 20.0, 100.0, None)
    chosen = choose([task])[0]
    assert isinstance(chosen, tuple) and chosen[0].kernel.length == 100.0
    monkeypatch.setattr(choosing, "AS_GOOD", np.inf)
    by_evidence = choose([task])[0]
    assert isinstance(by_evidence, tuple) and by_evidence[0].kernel.length == 20.0
