r"""Many Gaussian processes at once: sorted by size, factorised in batched Choleskys.

For each member, with noise N and targets y (the values less the prior mean, whose uncertain part is T):

    L L^T = C = K + T T^T + N,   alpha = L^-T L^-1 y,   log p(y) = -1/2 ||L^-1 y||^2 - sum log L_ii - n/2 log 2 pi

N = diag(noise^2) + s s^T exp(-r / reach), s for noise that neighbours share.

The arrays in hand decide where this runs: NumPy arrays here, CuPy arrays on their GPU. A device's batch holds members
of about one size, the shorter ones padded with rows of the identity and targets of zero, which changes neither alpha
nor the evidence (`device`). On the host, where LAPACK takes one matrix after the other in a compiled loop (`host`),
padding would only be work (32 members of 500 constraints, padded to 512: 0.039 instead of 0.034 s): members of one size
are a batch, and the batches are shared by threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cryoscale.backend import array_namespace, to_numpy
from cryoscale.fit.covariance import Kernel
from cryoscale.fit.device import solve_on_device
from cryoscale.fit.host import solve_on_host
from cryoscale.threads import in_threads

__all__ = ["Problem", "Solution", "padded_size", "solve_batch", "solve_each", "solve_many"]

Array = NDArray[np.float64]
Result = TypeVar("Result")
BATCH_BYTES = 192 * 2**20
"""On a device: a batch holds six matrices per member at its peak; this bounds them all together."""
HOST_BATCH_BYTES = 16 * 2**20
"""On the host, where a batch holds a matrix per member; 32 members of 500 take 17 ms of two threads by eights or fours,
18.5 one by one."""


@dataclass(frozen=True)
class Problem:
    """One Gaussian process to be solved; lengths in voxels."""

    points: Array
    """(n, 3) constraints."""
    targets: Array
    """(n,) values less the prior mean."""
    noise: Array
    """(n,) standard deviations of the values."""
    kernel: Kernel
    trend: Array | None = None
    """(n, k) basis functions of the prior mean at the constraints, each times the prior sd of its coefficient."""
    shared: Array | None = None
    """(n,) standard deviations of the part of the noise that neighbours have in common."""
    reach: float = 1.0
    """Distance over which it is shared: its correlation is exp(-r / reach)."""


@dataclass(frozen=True)
class Solution:
    """What is needed to evaluate one Gaussian process."""

    alpha: Array
    """(n,) weights of the constraints."""
    lower_inverse: Array | None
    """(n, n) L^-1, or None where only the evidence was asked for."""
    log_evidence: float
    """log p(y)."""


def padded_size(n: int) -> int:
    """Return what n constraints are padded to on a device: the next multiple of 64."""
    return 64 * math.ceil(n / 64)


def solve_batch(
    points: Any,
    targets: Any,
    noise: Any,
    counts: Any,
    kernels: Sequence[Kernel],
    *,
    trend: Any = None,
    shared: Any = None,
    reach: Any = None,
    inverse: bool = True,
) -> tuple[Any, Any, Any]:
    """Factorise and solve a batch of one kind of kernel.

    Parameters
    ----------
    points, targets, noise
        (b, n, 3), (b, n), (b, n) constraints, padded; NumPy or CuPy arrays.
    counts
        (b,) members' true numbers of constraints; what lies beyond is padding.
    kernels
        b kernels of one kind; their lengths and amplitudes may differ.
    trend, shared, reach
        (b, n, k), (b, n), (b,) as in `Problem`, or None.
    inverse
        Whether L^-1 is wanted as well.

    Returns
    -------
    tuple
        alpha (b, n), L^-1 (b, n, n) or None, log evidence (b,): arrays of the module that was given.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a covariance is not positive definite.
    """
    xp = array_namespace(points)
    live = xp.arange(points.shape[1])[None, :] < counts[:, None]
    right = xp.where(live, targets, 0.0)
    solve = solve_on_host if xp is np else solve_on_device
    log_det, white, alpha, lower_inverse = solve(
        points, noise, counts, kernels, right, trend=trend, shared=shared, reach=reach, inverse=inverse
    )
    evidence = -0.5 * (white * white).sum(1) - log_det - 0.5 * math.log(2 * math.pi) * counts
    return alpha, lower_inverse if inverse else None, evidence


def _pad(rows: Sequence[Array], size: int) -> Array:
    out = np.zeros((len(rows), size, *rows[0].shape[1:]))
    for member, row in enumerate(rows):
        out[member, : len(row)] = row
    return out


def _stack(rows: Sequence[Array | None], size: int, xp: ModuleType) -> Any:
    """Return rows padded and stacked, zeros for those that are None; None where all are."""
    shapes = {row.shape[1:] for row in rows if row is not None}
    if not shapes:
        return None
    empty = np.zeros((0, *shapes.pop()))
    return xp.asarray(_pad([empty if row is None else row for row in rows], size))


def solve_many(
    problems: Sequence[Problem], *, inverse: bool = True, xp: ModuleType = np
) -> list[Solution | np.linalg.LinAlgError]:
    """Solve problems of any sizes and kernels: sorted into batches of one size (on a device, padded) and kind.

    A member whose covariance cannot be factorised gives its error; the others of its batch are solved all the same.

    Parameters
    ----------
    problems
        What to solve.
    inverse
        Whether L^-1 is kept (n x n doubles each).
    xp
        Module the batches are computed with: numpy or cupy.

    Returns
    -------
    list
        Solutions in the order of the problems, as NumPy arrays.
    """
    return solve_each(problems, lambda _, solution: _alone(solution), inverse=inverse, xp=xp)


def solve_each(
    problems: Sequence[Problem],
    use: Callable[[int, Solution], Result],
    *,
    inverse: bool = True,
    xp: ModuleType = np,
) -> list[Result | np.linalg.LinAlgError]:
    """Solve problems as `solve_many` does, and keep of each only what ``use`` makes of its number and solution.

    It is called in the thread that solved the problem, while the factor is in that processor's cache, and the memory
    goes to the next one.
    """
    groups: dict[tuple[int, str], list[int]] = {}
    for number, problem in enumerate(problems):
        n = len(problem.points)
        groups.setdefault((n if xp is np else padded_size(n), problem.kernel.kind), []).append(number)
    room_bytes, held = (HOST_BATCH_BYTES, 1) if xp is np else (BATCH_BYTES, 6)
    batches: list[tuple[int, list[int]]] = []
    for (size, _), members in sorted(groups.items()):
        room = max(1, room_bytes // (held * 8 * size * size))
        batches += [(size, members[start : start + room]) for start in range(0, len(members), room)]

    def solved(batch: tuple[int, list[int]]) -> list[Result | np.linalg.LinAlgError]:
        size, members = batch
        found = _solve_group([problems[i] for i in members], size, inverse, xp)
        return [use(i, one) if isinstance(one, Solution) else one for i, one in zip(members, found, strict=True)]

    results = in_threads(solved, batches) if xp is np else [solved(batch) for batch in batches]
    by_number = dict(zip(chain(*(members for _, members in batches)), chain(*results), strict=True))
    return [by_number[number] for number in range(len(problems))]


def _alone(solution: Solution) -> Solution:
    """Return a solution that does not keep its whole batch in memory."""
    triangle = solution.lower_inverse
    if triangle is None or not isinstance(triangle.base, np.ndarray) or triangle.base.nbytes == triangle.nbytes:
        return solution
    return replace(solution, lower_inverse=triangle.copy("K"))


def _solve_group(
    problems: Sequence[Problem], size: int, inverse: bool, xp: ModuleType
) -> list[Solution | np.linalg.LinAlgError]:
    try:
        alpha, lower, evidence = solve_batch(
            xp.asarray(_pad([p.points for p in problems], size)),
            xp.asarray(_pad([p.targets for p in problems], size)),
            xp.asarray(_pad([p.noise for p in problems], size)),
            xp.asarray([len(p.points) for p in problems]),
            [p.kernel for p in problems],
            trend=_stack([p.trend for p in problems], size, xp),
            shared=_stack([p.shared for p in problems], size, xp),
            reach=xp.asarray([p.reach for p in problems]),
            inverse=inverse,
        )
    except np.linalg.LinAlgError as error:
        if len(problems) == 1:
            return [error]
        return [_solve_group([p], size, inverse, xp)[0] for p in problems]
    out: list[Solution | np.linalg.LinAlgError] = []
    for member, problem in enumerate(problems):
        n = len(problem.points)
        triangle = to_numpy(lower[member, :n, :n]) if inverse else None
        out.append(Solution(to_numpy(alpha[member, :n]).copy(), triangle, float(evidence[member])))
    return out
