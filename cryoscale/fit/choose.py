r"""Which prior: kernel, length, amplitude, prior mean and noise, chosen by cross-validation and marginal likelihood.

    log p(y | theta) = -1/2 y^T C^-1 y - 1/2 log |C| - n/2 log 2 pi,      y = values - m(x),  C = K + T T^T + N

Of the priors that predict sides of the points that were held out (see `extrapolate`) within a fifth as well as the
best, the one with the highest evidence is taken. The evidence alone would prefer priors that explain the uneven labels
of real membranes as noise about a smooth shape, and miss the caps.

Candidates: the cubic with R = 1.5 x the diagonal of the box of everything, and Matern 5/2 with lengths of 1, 2 and 4
radii, each with amplitudes of 0.3, 1 and 3 radii and prior mean 0; the same with an ellipsoid as the prior mean and
amplitudes of 0.05 to 1 radius. The ellipsoid's 9 parameters are unknowns with broad priors: T are the changes of its
distance with them (see `ellipsoid`), so that the posterior knows how badly caps that nobody saw hold an axis. Matern
3/2 and 7/2 and the Gaussian are no candidates: of 48 fits of known shapes the evidence takes 7/2 or the Gaussian in 38,
and with all five to choose from (within a tenth of the least error) the mean Dice falls from 0.936 to 0.929.

N has s_i s_j (0.1 [i = j] + 0.9 exp(-r_ij / reach)) for surface points, s_i their measured noise, and is diagonal for
pairs. Candidates are ranked on a subset of the constraints, the best few are judged on `JUDGED` of them, and the
winner's amplitude is then refined and its noise scaled within [1, 2]: the measured noise may be raised, never lowered.
Of a dense stack of sheets the subset is its innermost part, as dense as the whole, and the evidence alone decides:
thinned, they would be farther apart than the sheets are, and no prior tells a side of a stack from the others.
A length, amplitude or noise that ends at its upper bound is told (`at_bounds`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from cryoscale.fit.constraints import Constraints, innermost, subset
from cryoscale.fit.covariance import KINDS, Kernel
from cryoscale.fit.ellipsoid import Ellipsoid
from cryoscale.fit.extrapolate import extrapolation_error, sides
from cryoscale.fit.solve import Problem, Solution, solve_each

__all__ = ["Hypothesis", "Task", "at_bounds", "candidates", "choose", "prior_of", "problem_of"]

Array = NDArray[np.float64]
SCREENED = 256
"""Constraints on which all candidates are ranked."""
FINALISTS = 3
JUDGED = 800
"""Constraints on which the best few are judged: what tells priors apart does not need more of the same surface."""
NOISE_SCALES = (1.0, 1.4, 2.0)
FINER_AMPLITUDES = (0.4, 0.55, 0.75, 1.0, 1.3)
PLAIN_AMPLITUDES = (0.3, 1.0, 3.0)
ELLIPSOID_AMPLITUDES = (0.05, 0.15, 0.4, 1.0)
MATERN_LENGTHS = (1.0, 2.0, 4.0)
BOX_FACTOR = 1.5
AS_GOOD = 1.2
"""Priors whose error at held-out sides is within this factor of the least are told apart by their evidence."""
SHARED = 0.9
"""Share of a control point's noise that its neighbours have in common with it, at no distance."""


@dataclass(frozen=True)
class Hypothesis:
    """One prior that could have made the data."""

    kernel: Kernel
    ellipsoid: Ellipsoid | None
    """The prior mean; None is zero."""
    noise_scale: float = 1.0
    """Factor on the measured noise of surface points."""


@dataclass(frozen=True)
class Task:
    """One membrane's constraints and what its candidates are scaled by."""

    constraints: Constraints
    radius: float
    diagonal: float
    """Diagonal of the box of data, anchors and all places that will be asked about."""
    ellipsoid: Ellipsoid | None
    kinds: tuple[str, ...] = KINDS
    folded: bool = False
    """Whether constraints thinned to a subset would be farther apart than facing sheets are."""


def problem_of(
    constraints: Constraints, hypothesis: Hypothesis, *, prior: tuple[Array, Array] | None = None
) -> Problem:
    """Return the linear problem of one hypothesis; ``prior`` is its ellipsoid's `prior_of`, where it is known."""
    noise, shared = constraints.noise.copy(), None
    on = slice(constraints.surface)
    noise[on] *= hypothesis.noise_scale
    if constraints.reach > 0:
        shared = np.zeros(len(noise))
        shared[on] = SHARED**0.5 * noise[on]
        noise[on] *= (1 - SHARED) ** 0.5
    values, trend, ellipsoid = constraints.values, None, hypothesis.ellipsoid
    if ellipsoid is not None:
        distance, trend = prior or prior_of(constraints, ellipsoid)
        values = values - distance
    return Problem(constraints.points, values, noise, hypothesis.kernel, trend, shared, constraints.reach)


def prior_of(constraints: Constraints, ellipsoid: Ellipsoid) -> tuple[Array, Array]:
    """Return an ellipsoid's distances (n,) and trend (n, 9) at the constraints."""
    return ellipsoid.distance(constraints.points), ellipsoid.trend(constraints.points)


def candidates(task: Task) -> list[Hypothesis]:
    """List the hypotheses that are compared."""
    shapes = []
    if "cubic" in task.kinds:
        shapes.append(("cubic", BOX_FACTOR * task.diagonal))
    if "matern52" in task.kinds:
        shapes += [("matern52", length * task.radius) for length in MATERN_LENGTHS]
    means: list[tuple[Ellipsoid | None, tuple[float, ...]]] = [(None, PLAIN_AMPLITUDES)]
    if task.ellipsoid is not None:
        means.append((task.ellipsoid, ELLIPSOID_AMPLITUDES))
    return [
        Hypothesis(Kernel(kind, amplitude * task.radius, length), mean)
        for mean, amplitudes in means
        for kind, length in shapes
        for amplitude in amplitudes
    ]


def at_bounds(hypothesis: Hypothesis, radius: float) -> dict[str, bool]:
    """Return which of a choice's parameters are the largest that were compared, so that more might have been likelier.

    The cubic's length is its box's, and nothing that was chosen.
    """
    kernel = hypothesis.kernel
    amplitudes = PLAIN_AMPLITUDES if hypothesis.ellipsoid is None else ELLIPSOID_AMPLITUDES
    longest, largest = MATERN_LENGTHS[-1] * radius, amplitudes[-1] * FINER_AMPLITUDES[-1] * radius
    return {
        "length_at_bound": kernel.kind == "matern52" and bool(np.isclose(kernel.length, longest)),
        "amplitude_at_bound": bool(np.isclose(kernel.amplitude, largest)),
        "noise_at_bound": hypothesis.noise_scale == NOISE_SCALES[-1],
    }


def choose(
    tasks: Sequence[Task], *, seed: int = 0, xp: ModuleType = np
) -> list[tuple[Hypothesis, float] | np.linalg.LinAlgError]:
    """Choose a hypothesis for each task, all of them in common batches.

    Returns
    -------
    list
        Hypothesis and log evidence on the constraints it was judged on per task, or the error of a task none of whose
        candidates could be factorised.
    """
    small, many = ([_part(task, most, seed) for task in tasks] for most in (SCREENED, JUDGED))
    ranked = _compare(small, [candidates(task) for task in tasks], xp)
    full = _compare(many, [[h for h, _, _ in r[:FINALISTS]] for r in ranked], xp)
    scaled = [_refined(r[0][0]) if r else [] for r in full]
    noisy = _compare(small, scaled, xp)
    last = _compare(many, [[h for h, _, _ in r[:1]] for r in noisy], xp)
    out: list[tuple[Hypothesis, float] | np.linalg.LinAlgError] = []
    for first, second in zip(full, last, strict=True):
        both = _in_order([*first, *second])
        out.append(both[0][:2] if both else np.linalg.LinAlgError("no candidate covariance is positive definite"))
    return out


def _part(task: Task, most: int, seed: int) -> Task:
    """Return the task with so many of its constraints."""
    all_of_them = task.constraints
    return replace(task, constraints=innermost(all_of_them, most) if task.folded else subset(all_of_them, most, seed))


def _refined(best: Hypothesis) -> list[Hypothesis]:
    """List hypotheses around the best one."""
    kernels = [replace(best.kernel, amplitude=finer * best.kernel.amplitude) for finer in FINER_AMPLITUDES]
    return [replace(best, kernel=kernel, noise_scale=scale) for kernel in kernels for scale in NOISE_SCALES]


def _compare(
    tasks: Sequence[Task], hypotheses: Sequence[Sequence[Hypothesis]], xp: ModuleType
) -> list[list[tuple[Hypothesis, float, float]]]:
    """Return each task's hypotheses with their evidence and their error at held-out sides, best first.

    Those that cannot be factorised are left out.
    """
    problems: list[Problem] = []
    judges: list[Callable[[Solution], float]] = []
    for task, options in zip(tasks, hypotheses, strict=True):
        shape = next((h.ellipsoid for h in options if h.ellipsoid is not None), None)
        prior = None if shape is None else prior_of(task.constraints, shape)
        problems += [problem_of(task.constraints, h, prior=prior if h.ellipsoid is shape else None) for h in options]
        judges += [_judge(task)] * len(options)
    found = iter(solve_each(problems, lambda number, s: (s.log_evidence, judges[number](s)), xp=xp))
    told = [[(hypothesis, next(found)) for hypothesis in options] for options in hypotheses]
    return [_in_order([(h, *one) for h, one in options if isinstance(one, tuple)]) for options in told]


def _judge(task: Task) -> Callable[[Solution], float]:
    """Return what tells the error of a task's solution at its held-out sides, 0 where none are held out."""
    known = task.constraints
    held = [] if task.folded else sides(known.points, known.surface)

    def error(solution: Solution) -> float:
        assert solution.lower_inverse is not None
        return extrapolation_error(held, known.values, solution.alpha, solution.lower_inverse)

    return error


def _in_order(found: list[tuple[Hypothesis, float, float]]) -> list[tuple[Hypothesis, float, float]]:
    """Sort hypotheses: those that predict as well as the best by their evidence, then the others by their errors."""
    least = min((error for _, _, error in found), default=0.0)
    return sorted(found, key=lambda item: (0.0, -item[1]) if item[2] <= AS_GOOD * least else (item[2], 0.0))
