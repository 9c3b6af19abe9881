r"""Which covariance function: five on the same constraints, compared by evidence, by held-out sides and by Dice.

    cubic        1 - 3 t^2 + 2 t^3 up to t = r / R = 1, the paper's        Gaussian     exp(-t^2 / 2)
    Matern p/2   e^(-a) times 1 + a,  1 + a + a^2 / 3  or  1 + a + 2 a^2 / 5 + a^3 / 15,   a = p^(1/2) t,  p = 3, 5, 7

Each has the lengths, amplitudes and prior means of `cryoscale.fit.choose`; of a function's hypotheses that predict
held-out sides about as well as its best one (`AS_GOOD` there), the likeliest counts. "Chosen" does the same among all
hypotheses of some functions: those of the project, then all five. Dice as in `_fit_accuracy`, the largest component of
the zero set; the seeds are others than those that accuracy is scored on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.spatial.distance import cdist

from benchmarks._fit_accuracy import CLOSED, TARGETS
from benchmarks._fit_peers import Field, dice, shell_of
from cryoscale.fit.choose import (
    AS_GOOD,
    BOX_FACTOR,
    ELLIPSOID_AMPLITUDES,
    MATERN_LENGTHS,
    PLAIN_AMPLITUDES,
    SHARED,
)
from cryoscale.fit.covariance import KINDS
from cryoscale.fit.extrapolate import extrapolation_error, sides
from cryoscale.fit.prepare import Prepared, prepare
from tests.fit.shapes import SHAPES, degrade, truth_shell

__all__ = ["kernels", "kernels_table"]

Array = NDArray[np.float64]
FIRST_SEED = 400
FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "cubic": lambda t: 1 - 3 * t**2 + 2 * t**3,
    "matern32": lambda t: (1 + 3**0.5 * t) * np.exp(-(3**0.5) * t),
    "matern52": lambda t: (1 + 5**0.5 * t + 5 * t**2 / 3) * np.exp(-(5**0.5) * t),
    "matern72": lambda t: (1 + 7**0.5 * t + 14 * t**2 / 5 + 7**1.5 * t**3 / 15) * np.exp(-(7**0.5) * t),
    "gaussian": lambda t: np.exp(-(t**2) / 2),
}


class Hypothesis:
    """One function with its length, amplitude and prior mean, solved."""

    def __init__(self, kind: str, length: float, amplitude: float, prepared: Prepared, ellipsoid: bool) -> None:
        c = prepared.constraints
        self.kind, self.length, self.amplitude, self.points = kind, length, amplitude, c.points
        self.ellipsoid = prepared.ellipsoid if ellipsoid else None
        r = cdist(c.points, c.points)
        noise = np.zeros(len(r))
        noise[: c.surface] = c.noise[: c.surface]
        matrix = amplitude**2 * FUNCTIONS[kind](r / length)
        matrix += SHARED * noise[:, None] * noise * np.exp(-r / c.reach)
        own = c.noise**2
        own[: c.surface] *= 1 - SHARED
        matrix += np.diag(own)
        targets = c.values.copy()
        self.change = np.zeros(0)
        trend = np.zeros((len(r), 0))
        if self.ellipsoid is not None:
            trend = self.ellipsoid.trend(c.points)
            matrix += trend @ trend.T
            targets -= self.ellipsoid.distance(c.points)
        lower = cholesky(matrix, lower=True)
        white = solve_triangular(lower, targets, lower=True)
        self.alpha = solve_triangular(lower, white, lower=True, trans=1)
        self.change = trend.T @ self.alpha
        self.evidence = float(-0.5 * white @ white - np.log(np.diag(lower)).sum() - 0.5 * len(r) * np.log(2 * np.pi))
        inverse = solve_triangular(lower, np.eye(len(r)), lower=True)
        self.error = extrapolation_error(sides(c.points, c.surface), c.values, self.alpha, inverse)

    def field(self) -> Field:
        """Return the posterior mean."""

        def part(q: Array) -> Array:
            mean = self.amplitude**2 * FUNCTIONS[self.kind](cdist(q, self.points) / self.length) @ self.alpha
            if self.ellipsoid is not None:
                mean += self.ellipsoid.distance(q) + self.ellipsoid.trend(q) @ self.change
            return np.asarray(mean)

        return lambda q: np.concatenate([part(block) for block in np.array_split(q, max(1, len(q) // 4000))])


def _hypotheses(kind: str, prepared: Prepared) -> list[Hypothesis]:
    radius = prepared.radius
    diagonal = float(np.linalg.norm(np.ptp(prepared.constraints.points, axis=0) + 2 * max(12.0, 1.25 * radius)))
    lengths = [BOX_FACTOR * diagonal] if kind == "cubic" else [length * radius for length in MATERN_LENGTHS]
    means = [(False, PLAIN_AMPLITUDES)] + ([(True, ELLIPSOID_AMPLITUDES)] if prepared.ellipsoid is not None else [])
    out = []
    for ellipsoid, amplitudes in means:
        for length in lengths:
            for amplitude in amplitudes:
                try:
                    out.append(Hypothesis(kind, length, amplitude * radius, prepared, ellipsoid))
                except np.linalg.LinAlgError:
                    continue
    return out


def _best(found: Sequence[Hypothesis]) -> Hypothesis:
    least = min(h.error for h in found)
    return max((h for h in found if h.error <= AS_GOOD * least), key=lambda h: h.evidence)


def kernels(seeds: int) -> list[dict[str, Any]]:
    """Compare the functions on degraded closed shapes."""
    rows = []
    for cap in TARGETS:
        for name in CLOSED:
            for seed in range(FIRST_SEED, FIRST_SEED + seeds):
                rows.append({"shape": name, "cap": cap, "seed": seed, **_one(name, cap, seed)})
    return rows


def _one(name: str, cap: float, seed: int) -> dict[str, Any]:
    shape = SHAPES[name]
    prepared = prepare(degrade(shape, seed=seed, cap=cap, noise=(0.5, 1.0)[seed % 2])[0], spacing=1.0)
    truth = truth_shell(shape)
    found = {kind: _hypotheses(kind, prepared) for kind in FUNCTIONS}
    best = {kind: _best(options) for kind, options in found.items()}
    scores = {kind: dice(truth, shell_of(h.field(), shape)) for kind, h in best.items()}
    chosen = {
        "project": _best([h for kind in KINDS for h in found[kind]]).kind,
        "all": _best([h for options in found.values() for h in options]).kind,
    }
    return {
        "dice": scores,
        "evidence": {kind: max(h.evidence for h in options) for kind, options in found.items()},
        "error": {kind: min(h.error for h in options) for kind, options in found.items()},
        "chosen": chosen,
    }


def kernels_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the comparison as text."""
    lines = [f"{'caps':>5} " + " ".join(f"{kind:>9}" for kind in FUNCTIONS) + "   chosen of ours  of all five"]
    for cap in (*TARGETS, None):
        at = [row for row in rows if cap in (None, row["cap"])]
        means = " ".join(f"{np.mean([row['dice'][kind] for row in at]):9.3f}" for kind in FUNCTIONS)
        ours, every = (np.mean([row["dice"][row["chosen"][way]] for row in at]) for way in ("project", "all"))
        lines.append(f"{cap or 'all':>5} {means}   {ours:14.3f}  {every:11.3f}")
    for key, word, best in (("evidence", "most evidence", max), ("error", "least error at held-out sides", min)):
        won = [best(FUNCTIONS, key=row[key].__getitem__) for row in rows]
        lines.append(f"{word}: " + ", ".join(f"{kind} {won.count(kind)}" for kind in FUNCTIONS) + f" of {len(rows)}")
    won = [row["chosen"]["all"] for row in rows]
    lines.append("chosen of all five: " + ", ".join(f"{kind} {won.count(kind)}" for kind in FUNCTIONS))
    return "\n".join(lines)
