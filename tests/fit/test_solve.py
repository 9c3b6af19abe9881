"""Batches against one by one, and against SciPy's multivariate normal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from threading import Barrier
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from threadpoolctl import threadpool_limits

from cryoscale import backend
from cryoscale.fit import device as on_device
from cryoscale.fit import solve
from cryoscale.fit.covariance import KINDS, Kernel, covariance
from cryoscale.fit.solve import Problem, Solution, padded_size, solve_each, solve_many


def _problem(n: int, seed: int, kind: str = "matern52") -> Problem:
    rng = np.random.default_rng(seed)
    x = rng.normal(scale=10, size=(n, 3)) + 300
    return Problem(x, rng.normal(size=n), rng.uniform(0.4, 1, n), Kernel(kind, 3.0, 150.0 if kind == "cubic" else 20.0))


def _bad(n: int) -> Problem:
    """All constraints at one place, and none with noise: no covariance can be inverted."""
    return Problem(np.zeros((n, 3)), np.ones(n), np.zeros(n), _problem(n, 1).kernel)


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
    out = solve_many([good, _bad(30), good])
    assert isinstance(out[0], Solution) and isinstance(out[2], Solution)
    assert isinstance(out[1], np.linalg.LinAlgError)


def test_what_is_used_at_once_is_not_kept() -> None:
    problems = [_problem(n, n) for n in (30, 90, 30, 90, 30)]
    whole = solve_many(problems)
    used = solve_each(problems, lambda number, s: (number, s.lower_inverse.copy(), s.log_evidence))
    for number, (one, used_one) in enumerate(zip(whole, used, strict=True)):
        assert isinstance(one, Solution) and isinstance(used_one, tuple) and used_one[0] == number
        assert np.array_equal(one.lower_inverse, used_one[1]) and one.log_evidence == used_one[2]


def test_a_solution_does_not_keep_its_batch() -> None:
    for solution in solve_many([_problem(30, seed) for seed in range(4)]):
        assert isinstance(solution, Solution) and solution.lower_inverse is not None
        base = solution.lower_inverse.base
        assert base is None or base.nbytes == solution.lower_inverse.nbytes


def test_members_are_shared_by_threads_and_not_a_bit_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [_problem(n, n) for n in (60, 70, 80, 90)]
    with threadpool_limits(1):
        alone = solve_many(problems)
    # Nobody gets on before the other thread is there, too.
    both, grouped = Barrier(2), solve._solve_group
    monkeypatch.setattr(solve, "_solve_group", lambda *a: (both.wait(20), grouped(*a))[1])
    with threadpool_limits(2):
        shared = solve_many(problems)
    for one, other in zip(alone, shared, strict=True):
        assert isinstance(one, Solution) and isinstance(other, Solution)
        assert np.array_equal(one.alpha, other.alpha) and np.array_equal(one.lower_inverse, other.lower_inverse)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that does what NumPy does and is not NumPy; it looks at its factors only where CuPy would, if told."""
    module, told = ModuleType("device"), []

    @contextmanager
    def errstate(*, linalg: str) -> Iterator[None]:
        told.append(linalg)
        try:
            yield
        finally:
            told.pop()

    def cholesky(matrices: np.ndarray) -> np.ndarray:
        try:
            return np.linalg.cholesky(matrices)
        except np.linalg.LinAlgError:
            if told == ["raise"]:
                raise
            return np.tril(matrices)

    vars(module).update(vars(np) | {"linalg": ModuleType("linalg")})
    vars(module.linalg).update(vars(np.linalg) | {"cholesky": cholesky})
    cupyx = ModuleType("cupyx")
    vars(cupyx).update(errstate=errstate)
    monkeypatch.setitem(sys.modules, "cupyx", cupyx)
    for user in (backend, on_device, solve):
        monkeypatch.setattr(user, "array_namespace", lambda *_: module)
    return module


@pytest.mark.parametrize("more", [False, True])
def test_as_a_device_solves_it(more: bool, device: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of CuPy's arrays: no loop over members, and no factorisation of what is a triangle."""
    rng, problems = np.random.default_rng(4), [_problem(n, n) for n in (70, 128, 100)]
    if more:
        problems = [
            replace(p, trend=rng.normal(size=(len(p.points), 9)), shared=rng.uniform(0, 1, len(p.points)), reach=4.0)
            for p in problems
        ]
    host, blocks = solve_many(problems), []
    monkeypatch.delattr(device.linalg, "solve")
    inverse = device.linalg.inv
    device.linalg.inv = lambda a: (blocks.append(a.shape), inverse(a))[1]
    found = solve_many(problems, xp=device)
    assert blocks == [(3, 64, 64)] * 2
    for one, other in zip(host, found, strict=True):
        assert isinstance(one, Solution) and isinstance(other, Solution)
        assert np.allclose(one.alpha, other.alpha, rtol=1e-6, atol=1e-7)
        assert np.isclose(one.log_evidence, other.log_evidence, rtol=1e-8)
        assert one.lower_inverse is not None and other.lower_inverse is not None
        assert np.allclose(one.lower_inverse, other.lower_inverse, atol=1e-6)


@pytest.mark.parametrize("looks", [True, pytest.param(False, marks=pytest.mark.xfail(strict=True))])
def test_a_device_tells_who_cannot_be_factorised(
    looks: bool, device: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not looks:
        monkeypatch.setattr(sys.modules["cupyx"], "errstate", lambda **_: nullcontext())
    good, bad = _problem(30, 1), _bad(30)
    out = solve_many([good, bad, good], xp=device)
    assert isinstance(out[0], Solution) and isinstance(out[2], Solution)
    assert isinstance(out[1], np.linalg.LinAlgError)


@pytest.mark.gpu
def test_a_gpu_solves_it_as_the_host_does(cupy: ModuleType) -> None:
    problems = [_problem(n, n, kind) for kind in KINDS for n in (70, 128, 100, 600)]
    for one, other in zip(solve_many(problems), solve_many(problems, xp=cupy), strict=True):
        assert isinstance(one, Solution) and isinstance(other, Solution)
        assert np.allclose(one.alpha, other.alpha, rtol=1e-6, atol=1e-7)
        assert np.isclose(one.log_evidence, other.log_evidence, rtol=1e-8)
        assert one.lower_inverse is not None and other.lower_inverse is not None
        assert np.allclose(one.lower_inverse, other.lower_inverse, atol=1e-6)


@pytest.mark.gpu
def test_a_gpu_tells_who_cannot_be_factorised(cupy: ModuleType) -> None:
    out = solve_many([_problem(30, 1), _bad(30), _problem(30, 2)], xp=cupy)
    assert [type(one) for one in out] == [Solution, np.linalg.LinAlgError, Solution]


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
