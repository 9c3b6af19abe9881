"""How a membrane is cut into patches, and how a dense stack of sheets, which is cut least, chooses its prior."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from cryoscale.fit import choose, fit_surface, patches
from cryoscale.fit.constraints import Constraints, innermost, subset
from cryoscale.fit.solve import Solution, solve_many

UP = np.array([1.0, 0.0, 0.0])


def control(layers: int, rows: int, columns: int) -> Constraints:
    """Points 7 voxels apart on flat sheets 8 apart, and their pairs."""
    grid = np.stack(np.meshgrid(8.0 * np.arange(layers), 7.0 * np.arange(rows), 7.0 * np.arange(columns)), -1)
    on = grid.reshape(-1, 3) + np.random.default_rng(0).normal(0, 0.5, (layers * rows * columns, 3))
    points = np.concatenate([on, on + 3 * UP, on - 3 * UP])
    return Constraints(points, np.zeros(len(points)), np.full(len(points), 0.1), len(on), 7.0)


def known_and_asked(constraints: Constraints, low: np.ndarray, high: np.ndarray, overlap: float) -> tuple[int, int]:
    """Constraints that a patch is fitted to, and control points where it counts, one by one."""
    far = [np.max(np.maximum(np.maximum(low - q, q - high), 0)) for q in constraints.points]
    return sum(d <= 1.5 * overlap for d in far), sum(d <= overlap for d in far[: constraints.surface])


def cuts(points: np.ndarray) -> list[list[np.ndarray]]:
    """Every way to halve points, and halves of them, by brute force."""
    if len(points) <= patches.CORE_POINTS:
        return [[points]]
    order = points[np.argsort(points[:, np.ptp(points, axis=0).argmax()], kind="stable")]
    halves = [cuts(half) for half in np.array_split(order, 2)]
    return [[points], *([*one, *other] for one, other in itertools.product(*halves))]


@pytest.mark.parametrize(
    ("sheets", "most", "count"), [((1, 24, 40), 10**9, 4), ((5, 14, 14), 10**9, 1), ((5, 14, 14), 900, 4)]
)
def test_the_cut_is_the_one_that_costs_least(
    monkeypatch: pytest.MonkeyPatch, sheets: tuple[int, int, int], most: int, count: int
) -> None:
    monkeypatch.setattr(patches, "MOST_CONSTRAINTS", most)
    constraints = control(*sheets)
    membrane = SimpleNamespace(constraints=constraints, large=True, cell=7.0)
    overlap = patches.overlap_of(membrane)
    assert overlap == pytest.approx(24.0)
    costs = []
    for way in cuts(constraints.points[: constraints.surface]):
        numbers = [known_and_asked(constraints, part.min(0), part.max(0), overlap) for part in way]
        if all(n <= most or len(p) <= patches.CORE_POINTS for (n, _), p in zip(numbers, way, strict=True)):
            costs.append(sum(n**2 * m for n, m in numbers))
    found, cost = patches.split(membrane), 0
    for part, low, high in found:
        n, m = known_and_asked(constraints, low, high, overlap)
        assert len(part.points) == n
        cost += n**2 * m
    assert cost == min(costs) and len(found) == count and len(costs) >= (1 if most == 900 else 4)


def test_the_innermost_are_nearest_to_a_point_in_the_midst() -> None:
    constraints = control(5, 10, 10)
    part = innermost(constraints, 200)
    middle = part.points[: part.surface].mean(0)
    assert len(part.points) == len(part.values) == len(part.noise) == 200
    assert np.linalg.norm(middle - constraints.points.mean(0)) < 6
    far = np.linalg.norm(constraints.points - middle, axis=1)
    assert np.linalg.norm(part.points - middle, axis=1).max() < np.sort(far)[300]
    on = constraints.points[: constraints.surface]
    assert all((on == q).all(1).any() for q in part.points[: part.surface])
    # A random part of as many has two sheets nearer to each other than its points are.
    thin = subset(constraints, 200, 0).points
    assert np.linalg.norm(thin - middle, axis=1).max() > far.max() - 8


def signed(constraints: Constraints) -> Constraints:
    """A stack whose sheets face up and down in turn, as those of a folded membrane do."""
    up = np.where(np.rint(constraints.points[: constraints.surface, 0] / 8) % 2 == 0, 3.0, -3.0)
    values = np.concatenate([0 * up, up, -up])
    return replace(constraints, values=values, noise=np.full(len(values), 0.5))


def test_the_prior_of_a_stack_is_chosen_by_what_tells_its_sheets_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    constraints = signed(control(5, 10, 10))
    diagonal = float(np.linalg.norm(np.ptp(constraints.points, axis=0)))
    task = choose.Task(constraints, 0.35 * diagonal, 2 * diagonal, None, folded=True)

    def evidence_on_all() -> float:
        ((hypothesis, _),) = choose.choose([task])
        (solution,) = solve_many([choose.problem_of(constraints, hypothesis)])
        return solution.log_evidence

    right = evidence_on_all()
    every = [choose.problem_of(constraints, h) for h in choose.candidates(task)]
    assert right >= max(s.log_evidence for s in solve_many(every) if isinstance(s, Solution))
    # Mutant: constraints thinned to as many, farther apart than the sheets.
    monkeypatch.setattr(choose, "innermost", lambda constraints, most: subset(constraints, most, 0))
    assert evidence_on_all() < right - 10


def test_a_dense_stack_keeps_all_its_sheets() -> None:
    """Six sheets 6 voxels apart that are one membrane."""
    rng, edge = np.random.default_rng(0), 60
    n = edge * edge
    cloud = np.concatenate(
        [np.column_stack([6.0 * k + rng.normal(0, 0.3, n), rng.uniform(0, edge, (n, 2))]) for k in range(6)]
    )
    surface = fit_surface(cloud, spacing=1.0)
    assert surface.choice["patches"] == 1 and not surface.choice["length_at_bound"]
    band = surface.band(2.0)
    on = np.abs(band.distance) < 0.5
    index = band.index[on]
    inner = ((index[:, 1:] > 6) & (index[:, 1:] < edge - 6)).all(1)
    height = index[inner, 0] - band.distance[on][inner]
    layer = np.rint(height / 6)
    assert np.abs(height - 6 * layer).max() < 0.7
    assert all((layer == k).sum() > 0.98 * (edge - 13) ** 2 for k in range(6))
