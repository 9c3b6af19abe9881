"""The linear algebra of a fit: the factorisation beside dgemm, a batch beside the same members one by one.

    GFLOP/s of Cholesky = n^3 / 3 / seconds,   of dgemm = 2 n^3 / seconds,     both on one thread, as fits have it

"Solve" is all of `solve_batch`: covariance, Cholesky, two triangular solves, evidence; its rate counts n^3 / 3 alone.
The one-by-one loops are ours, what a user writes with SciPy (`cdist`, `cho_factor`, `cho_solve`) for each member, and
what users pick instead: one regressor or interpolator a member, where it is installed.
A loop that makes new matrices for every member takes up to three times as long where the C library gives freed memory
back and the system clears every page anew, which it does in a fresh process until a larger array was freed: 0.09 to
0.20 s by hand in five of them, 0.06 to 0.07 after one of 20 MiB. So all are timed in processes of both kinds, `HEAPS`,
each with one thread of linear algebra and with one per core: the batch gives each thread members of its own, a loop
has the threads of its library. Wall seconds, for that is what threads are for.
What no batch can pass is the time of its factorisations alone: at LAPACK's rate in double and in single precision, and
at dgemm's rate, on one thread. A loop that takes less than three times that cannot be beaten by three on one thread.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotrf, spotrf
from scipy.spatial.distance import cdist

from benchmarks._fit_peer_models import PEERS
from cryoscale.fit.covariance import Kernel, covariance
from cryoscale.fit.solve import Problem, solve_many
from cryoscale.threads import on_one_thread

__all__ = ["linear", "linear_table", "processor_and_wall"]

Array = NDArray[np.float64]
SIZES = (500, 1000, 2000)
MEMBERS, MEMBER_SIZE = 32, 500
REPEATS = 7
LOOPED = ("scikit-learn GaussianProcessRegressor", "SciPy RBFInterpolator")
"""Peers that solve when they are made."""
SHARE_ASKED, BATCH_ASKED = 0.5, 3.0
KEPT = str(2**30)
HEAPS: dict[str, dict[str, str]] = {
    "a fresh process": {},
    "one that keeps freed memory": {"MALLOC_TRIM_THRESHOLD_": KEPT, "MALLOC_MMAP_THRESHOLD_": KEPT},
}
"""What the C library is told, by what that makes of a process."""
THREADS = sorted({1, os.cpu_count() or 1})
COUNTED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def processor_and_wall(call: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Return medians of processor and of wall seconds."""
    call()
    processor, wall = [], []
    for _ in range(repeats):
        start, clock = time.process_time(), time.perf_counter()
        call()
        processor.append(time.process_time() - start)
        wall.append(time.perf_counter() - clock)
    return median(processor), median(wall)


def _problem(n: int, seed: int) -> Problem:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 3))
    points *= 40 / np.linalg.norm(points, axis=1, keepdims=True)
    return Problem(points, rng.normal(size=n), np.full(n, 0.5), Kernel("matern52", 40.0, 80.0))


def _by_hand(problem: Problem) -> Array:
    """Return alpha as a user would compute it with SciPy."""
    a = 5.0**0.5 * cdist(problem.points, problem.points) / problem.kernel.length
    matrix = problem.kernel.amplitude**2 * (1 + a + a * a / 3) * np.exp(-a) + np.diag(problem.noise**2)
    return np.asarray(cho_solve(cho_factor(matrix, lower=True), problem.targets))


def _by_peers(name: str, members: list[Problem]) -> list[Any]:
    return [PEERS[name](m.points, m.targets, m.noise, m.kernel) for m in members]


def linear(size: str) -> dict[str, Any]:
    """Measure factorisation and batches."""
    repeats = {"small": 5, "full": 11}[size]
    with on_one_thread():
        rows = [_rates(n, repeats) for n in SIZES]
        limits = _limits(_members(), rows, repeats)
    batch = [
        {"process": name, "threads": count, "seconds": _in_a_process(settings | dict.fromkeys(COUNTED, str(count)))}
        for count in THREADS
        for name, settings in HEAPS.items()
    ]
    return {"factorisation": rows, "batch": batch, "limits": limits}


def _rates(n: int, repeats: int) -> dict[str, float]:
    """Return the GFLOP/s of a factorisation, of all of a solution, and of a product of matrices."""
    problem = _problem(n, n)
    matrix = covariance(problem.kernel, problem.points, problem.points, np) + np.diag(problem.noise**2)
    other = np.random.default_rng(0).normal(size=(n, n))
    # As `solve` calls it; from a copy each time, which counts.
    factor, _ = processor_and_wall(partial(dpotrf, np.asfortranarray(matrix), lower=1, clean=0), repeats)
    product, _ = processor_and_wall(partial(np.matmul, other, other), repeats)
    solve, _ = processor_and_wall(partial(solve_many, [problem], inverse=False), repeats)
    return {
        "n": n,
        "dgemm_gflops": 2 * n**3 / product / 1e9,
        "cholesky_gflops": n**3 / 3 / factor / 1e9,
        "solve_gflops": n**3 / 3 / solve / 1e9,
        "solve_s": solve,
    }


def _members() -> list[Problem]:
    return [_problem(MEMBER_SIZE, seed) for seed in range(MEMBERS)]


def _in_a_process(settings: dict[str, str]) -> dict[str, float]:
    """Return `_batch` of a new process with these settings of its libraries, and no others of its C library."""
    before = dict(os.environ)
    try:
        for name in [name for name in os.environ if name.startswith("MALLOC_")]:
            del os.environ[name]
        os.environ.update(settings)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_batch).result()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _batch() -> dict[str, float]:
    """Return the wall seconds of the members in one batch and one by one."""
    members = _members()
    ways: dict[str, Callable[[], Any]] = {
        "batch": lambda: solve_many(members, inverse=False),
        "loop": lambda: [solve_many([member], inverse=False) for member in members],
        "scipy": lambda: [_by_hand(member) for member in members],
    }
    for name in LOOPED:
        if _by_peers(name, members[:1]) != [None]:
            ways[name] = partial(_by_peers, name, members)
    return {name: processor_and_wall(way, REPEATS)[1] for name, way in ways.items()}


def _limits(members: list[Problem], rows: list[dict[str, Any]], repeats: int) -> dict[str, float]:
    """Return the seconds that the members' factorisations alone take."""
    matrices = [
        np.asfortranarray(covariance(m.kernel, m.points, m.points, np) + np.diag(m.noise**2)) for m in members[:4]
    ]
    single = [matrix.astype(np.float32) for matrix in matrices]
    share = len(members) / len(matrices)
    rate = next(row["dgemm_gflops"] for row in rows if row["n"] == MEMBER_SIZE)
    return {
        "cholesky_s": share * processor_and_wall(lambda: [dpotrf(m, lower=1, clean=0) for m in matrices], repeats)[0],
        "single_cholesky_s": share
        * processor_and_wall(lambda: [spotrf(m, lower=1, clean=0) for m in single], repeats)[0],
        "dgemm_rate_s": len(members) * MEMBER_SIZE**3 / 3 / (rate * 1e9),
    }


def linear_table(found: dict[str, Any]) -> str:
    """Return the rates as text."""
    lines = [f"{'n':>6} {'dgemm':>7} {'Cholesky':>9} {'share':>6} {'whole solve':>12}   GFLOP/s"]
    for row in found["factorisation"]:
        share = row["cholesky_gflops"] / row["dgemm_gflops"]
        word = "" if row["n"] < 1000 else "  reached" if share >= SHARE_ASKED else "  not reached"
        lines.append(
            f"{row['n']:6} {row['dgemm_gflops']:7.1f} {row['cholesky_gflops']:9.1f} {share:6.0%} "
            f"{row['solve_gflops']:12.1f}{word}"
        )
    lines += [line for process in found["batch"] for line in _batch_lines(process)]
    lines += _verdicts(found["batch"])
    names = {
        "cholesky_s": "LAPACK's Cholesky alone",
        "single_cholesky_s": "LAPACK's in single precision alone",
        "dgemm_rate_s": "the same operations at dgemm's rate",
    }
    alone = next(p for p in found["batch"] if p["threads"] == 1 and p["process"] == list(HEAPS)[-1])["seconds"]
    for key, name in names.items():
        limit = found["limits"][key]
        lines.append(
            f"    {name}, one thread, {limit:.3f} s: at most {alone['scipy'] / limit:.1f} times the loop by hand, "
            f"{alone['loop'] / limit:.1f} times ours; the batch takes {alone['batch'] / limit:.1f} times as long"
        )
    return "\n".join(lines)


def _batch_lines(found: dict[str, Any]) -> list[str]:
    times = found["seconds"]
    where = f"{found['process']}, {_threads(found)}"
    lines = [f"{MEMBERS} x {MEMBER_SIZE} in {where}: one batch {times['batch']:.3f} s"]
    for name in [name for name in times if name != "batch"]:
        label = "ours" if name == "loop" else name
        lines.append(f"    one by one ({label}) {times[name]:.3f} s: {times[name] / times['batch']:.2f} times")
    return lines


def _threads(found: dict[str, Any]) -> str:
    return f"{found['threads']} thread" + ("" if found["threads"] == 1 else "s")


def _verdicts(batch: Sequence[dict[str, Any]]) -> list[str]:
    """Return what was reached, with one thread and with all: of users' loops the fastest decides, in either heap."""
    lines = []
    for count in sorted({found["threads"] for found in batch}):
        rows = [found for found in batch if found["threads"] == count]
        gains = [(name, time / row["seconds"]["batch"]) for row in rows for name, time in row["seconds"].items()]
        users = min(gain for name, gain in gains if name not in ("batch", "loop"))
        ours = min(gain for name, gain in gains if name == "loop")
        word = f"{'reached' if users >= BATCH_ASKED else 'not reached'}: asked {BATCH_ASKED:g}"
        lines += [
            f"a batch with {_threads(rows[0])}: {users:.2f} times the fastest of users' loops ({word})",
            f"    {ours:.2f} times our own solver one by one, which the batch can beat by its threads alone",
        ]
    return lines
