r"""Which prior: kernel, length, amplitude, prior mean and noise, chosen by the marginal likelihood.

    log p(y | theta) = -1/2 y^T (K + D)^-1 y - 1/2 log |K + D| - n/2 log 2 pi,      y = values - m(x)

Candidates: the cubic with R = 1.5 x the diagonal of the box of everything, and Matern 5/2 with lengths of 1, 2 and 4
radii, each with amplitudes of 0.3, 1 and 3 radii and prior mean 0; the same with an ellipsoid as the prior mean and
amplitudes of 0.05 to 1 radius. They are ranked on a subset of the constraints, the best few are judged on all of them,
and the winner's noise is then scaled within [0.5, 2]. A choice that ends at such a bound says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np

from cryoscale.fit.constraints import Constraints, subset
from cryoscale.fit.covariance import KINDS, Kernel
from cryoscale.fit.ellipsoid import Ellipsoid
from cryoscale.fit.solve import Problem, Solution, solve_many

__all__ = ["Hypothesis", "Task", "candidates", "choose", "problem_of"]

SCREENED = 256
"""Constraints on which all candidates are ranked."""
FINALISTS = 3
NOISE_SCALES = (0.5, 0.7, 1.0, 1.4, 2.0)
PLAIN_AMPLITUDES = (0.3, 1.0, 3.0)
ELLIPSOID_AMPLITUDES = (0.05, 0.15, 0.4, 1.0)
MATERN_LENGTHS = (1.0, 2.0, 4.0)
BOX_FACTOR = 1.5


@dataclass(frozen=True)
class Hypothesis:
    """One prior that could have made the data."""

    kernel: Kernel
    ellipsoid: Ellipsoid | None
    """The prior mean; None is zero."""
    noise_scale: float = 1.0


@dataclass(frozen=True)
class Task:
    """One membrane's constraints and what its candidates are scaled by."""

    constraints: Constraints
    radius: float
    diagonal: float
    """Diagonal of the box of data, anchors and all places that will be asked about."""
    ellipsoid: Ellipsoid | None
    kinds: tuple[str, ...] = KINDS


def problem_of(constraints: Constraints, hypothesis: Hypothesis) -> Problem:
    """Return the linear problem of one hypothesis."""
    prior = hypothesis.ellipsoid.distance(constraints.points) if hypothesis.ellipsoid else 0.0
    noise = constraints.noise * hypothesis.noise_scale
    return Problem(constraints.points, constraints.values - prior, noise, hypothesis.kernel)


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


def choose(
    tasks: Sequence[Task], *, seed: int = 0, xp: ModuleType = np
) -> list[tuple[Hypothesis, float] | np.linalg.LinAlgError]:
    """Choose a hypothesis for each task, all of them in common batches.

    Returns
    -------
    list
        Hypothesis and log evidence on all constraints per task, or the error of a task none of whose candidates
        could be factorised.
    """
    small = [subset(task.constraints, SCREENED, seed) for task in tasks]
    ranked = _compare(small, [candidates(task) for task in tasks], xp)
    full = _compare([t.constraints for t in tasks], [[h for h, _ in r[:FINALISTS]] for r in ranked], xp)
    scaled = [[replace(r[0][0], noise_scale=s) for s in NOISE_SCALES] if r else [] for r in full]
    noisy = _compare(small, scaled, xp)
    last = _compare([t.constraints for t in tasks], [[h for h, _ in r[:1]] for r in noisy], xp)
    out: list[tuple[Hypothesis, float] | np.linalg.LinAlgError] = []
    for first, second in zip(full, last, strict=True):
        both = sorted([*first, *second], key=lambda item: -item[1])
        out.append(both[0] if both else np.linalg.LinAlgError("no candidate covariance is positive definite"))
    return out


def _compare(
    tasks: Sequence[Constraints], hypotheses: Sequence[Sequence[Hypothesis]], xp: ModuleType
) -> list[list[tuple[Hypothesis, float]]]:
    """Return each task's hypotheses with their evidence, best first; those that fail are left out."""
    problems = [problem_of(task, h) for task, options in zip(tasks, hypotheses, strict=True) for h in options]
    solved = iter(solve_many(problems, inverse=False, xp=xp))
    out = []
    for options in hypotheses:
        pairs = [(h, next(solved)) for h in options]
        fine = [(h, s.log_evidence) for h, s in pairs if isinstance(s, Solution)]
        out.append(sorted(fine, key=lambda item: -item[1]))
    return out
