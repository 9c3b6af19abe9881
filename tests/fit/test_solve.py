"""Batches against one by one, and against SciPy's multivariate normal."""

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from cryoscale import backend
from cryoscale.fit import solve
from cryoscale.fit.covariance import KINDS, Kernel, covariance
from cryoscale.fit.solve import Problem, Solution, padded_size, solve_many


def _problem(n: int, seed: int, kind: str = "matern52") -> Problem:
    rng = np.random.default_rng(seed)
    x = rng.normal(scale=10, size=(n, 3)) + 300
    return Problem(x, rng.normal(size=n), rng.uniform(0.4, 1, n), Kernel(kind, 3.0, 150.0 if kind == "cubic" else 20.0))


@pytest.mark.parametrize("kind", KINDS)
def test_evidence_is_the_density_of_the_targets(kind: str) -> None:
    p = _problem(40, 0, kind)
    s = solve_many([p])[0]
    assert isinstance(s, Solution)
    matrix = covariance(p.kernel, p.points, p.points, np) + np.diag(p.noise**2)
    assert np.isclose(s.log_evidence, multivariate_normal(np.zeros(40), matrix).logpdf(p.targets), atol=1e-6)


def test_batch_equals_loop_whatever_the_sizes() -> None:
    problems = [_problem(n, n, kind) for kind in KINDS for n in (5, 64, 65, 100, 40)]
    together = solve_many(problems)
    for p, both in zip(problems, together, strict=True):
        alone = solve_many([p])[0]
        assert isinstance(both, Solution) and isinstance(alone, Solution)
        assert np.allclose(both.alpha, alone.alpha, rtol=1e-9, atol=1e-11)
        assert np.isclose(both.log_evidence, alone.log_evidence, rtol=1e-10)
        assert both.lower_inverse is not None and both.lower_inverse.shape == (len(p.points),) * 2


def test_not_a_bit_depends_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [_problem(n, seed) for n in (70, 128, 65) for seed in range(3)]
    together = solve_many(problems)
    monkeypatch.setattr(solve, "HOST_BATCH_BYTES", 1)
    for p, both in zip(problems[::-1], together[::-1], strict=True):
        alone = solve_many([p])[0]
        assert isinstance(both, Solution) and isinstance(alone, Solution)
        assert both.lower_inverse is not None and alone.lower_inverse is not None
        assert np.array_equal(both.alpha, alone.alpha) and both.log_evidence == alone.log_evidence
        assert np.array_equal(both.lower_inverse, alone.lower_inverse)
        assert not np.triu(both.lower_inverse, 1).any()


def test_one_bad_member_does_not_spoil_its_batch() -> None:
    good = _problem(30, 1)
    same = Problem(np.zeros((30, 3)), np.ones(30), np.zeros(30), good.kernel)
    out = solve_many([good, same, good])
    assert isinstance(out[0], Solution) and isinstance(out[2], Solution)
    assert isinstance(out[1], np.linalg.LinAlgError)


@pytest.mark.parametrize("more", [False, True])
def test_as_a_device_solves_it(more: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of CuPy's arrays, with a module that is not NumPy and does the same; no loop over members."""
    rng, problems = np.random.default_rng(4), [_problem(n, n) for n in (70, 128, 100)]
    if more:
        problems = [
            replace(p, trend=rng.normal(size=(len(p.points), 9)), shared=rng.uniform(0, 1, len(p.points)), reach=4.0)
            for p in problems
        ]
    host = solve_many(problems)
    device, calls = ModuleType("device"), []
    vars(device).update(vars(np) | {"linalg": ModuleType("linalg")})
    vars(device.linalg).update(vars(np.linalg))
    device.linalg.solve = lambda a, b: calls.append(len(a)) or np.linalg.solve(a, b)
    for module in (backend, solve):
        monkeypatch.setattr(module, "array_namespace", lambda *_: device)
    found = solve_many(problems, xp=device)
    assert calls == [3, 3]
    for one, other in zip(host, found, strict=True):
        assert isinstance(one, Solution) and isinstance(other, Solution)
        assert np.allclose(one.alpha, other.alpha, rtol=1e-6, atol=1e-7)
        assert np.isclose(one.log_evidence, other.log_evidence, rtol=1e-8)
        assert one.lower_inverse is not None and other.lower_inverse is not None
        assert np.allclose(one.lower_inverse, other.lower_inverse, atol=1e-6)


@pytest.mark.gpu
def test_a_gpu_solves_it_as_the_host_does(cupy: ModuleType) -> None:
    problems = [_problem(n, n, kind) for kind in KINDS for n in (70, 128, 100)]
    for one, other in zip(solve_many(problems), solve_many(problems, xp=cupy), strict=True):
        assert isinstance(one, Solution) and isinstance(other, Solution)
        assert np.allclose(one.alpha, other.alpha, rtol=1e-6, atol=1e-7)
        assert np.isclose(one.log_evidence, other.log_evidence, rtol=1e-8)
        assert one.lower_inverse is not None and other.lower_inverse is not None
        assert np.allclose(one.lower_inverse, other.lower_inverse, atol=1e-6)


@pytest.mark.parametrize(("n", "size"), [(1, 64), (64, 64), (65, 128)])
def test_padding(n: int, size: int) -> None:
    assert padded_size(n) == size


def test_trend_and_shared_noise_join_the_covariance() -> None:
    p = _problem(40, 3)
    rng = np.random.default_rng(7)
    trend, shared = rng.normal(size=(40, 9)), rng.uniform(0, 1, 40)
    r = np.linalg.norm(p.points[:, None] - p.points[None], axis=2)
    matrix = covariance(p.kernel, p.points - 300, p.points - 300, np) + np.diag(p.noise**2)
    matrix += trend @ trend.T + np.outer(shared, shared) * np.exp(-r / 4)
    full = Problem(p.points, p.targets, p.noise, p.kernel, trend, shared, 4.0)
    together = solve_many([p, full, p])
    found = together[1]
    assert isinstance(found, Solution) and isinstance(together[0], Solution)
    assert np.isclose(found.log_evidence, multivariate_normal(np.zeros(40), matrix).logpdf(p.targets), atol=1e-6)
    assert np.allclose(found.alpha, np.linalg.solve(matrix, p.targets), atol=1e-8)
    alone = solve_many([p])[0]
    assert isinstance(alone, Solution) and np.allclose(together[0].alpha, alone.alpha, atol=1e-10)
