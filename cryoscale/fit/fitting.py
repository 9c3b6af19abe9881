r"""Fit Gaussian-process implicit surfaces to membranes, one or many at a time.

    raw points -> selection -> control points -> normals -> signed pairs -> prior by validation -> field -> zero set

The paper (Zhou et al., J. Comput. Sci. 66 (2023) 101904, section 5.2) anchors the field by a centroid and by points
pushed outward from it. Pairs of signed distances along oriented normals serve every shape, open sheets too; sides of
the points held out and the evidence decide between kernels and prior means (`choose`). After a first solution every
control point's noise is widened by its residual as a Student-t likelihood would (4 degrees of freedom), and the field
is solved once more.
Three things make the stated uncertainty true: noise measured from the points' own scatter (`noise`), a posterior that
is scaled until blocks of points left out are as far off as it says (`calibrate`), and what all points of a
segmentation have wrong in common (`systematic`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.fit import evaluate
from cryoscale.fit.calibrate import BLOCK_CELLS, block_scale
from cryoscale.fit.checks import Box, checked_box, checked_control_points, one_share_each
from cryoscale.fit.choose import Hypothesis, Task, at_bounds, choose, problem_of
from cryoscale.fit.constraints import SHARED_CELLS, Constraints
from cryoscale.fit.covariance import KINDS
from cryoscale.fit.model import Model, Patch
from cryoscale.fit.patches import overlap_of, split
from cryoscale.fit.prepare import Prepared, prepare
from cryoscale.fit.samples import Samples, trace
from cryoscale.fit.solve import Solution, solve_many
from cryoscale.fit.surface import Surface
from cryoscale.fit.zero_set import Verdict, judge
from cryoscale.threads import in_threads

__all__ = ["fit_surface", "fit_surfaces", "projected_bytes"]

Array = NDArray[np.float64]
STUDENT = 4.0
MARGIN = 1.25
"""Reach of the traced region beyond the data, in radii, or half widths where those are less."""
LEAST_MARGIN = 12.0
SECOND_MARGIN = 2.0
"""Factor on the margin where a membrane tapers beyond the traced region."""


def fit_surface(
    points: object,
    *,
    weights: object = None,
    kernel: str = "auto",
    seed: int = 0,
    spacing: float | None = None,
    control_points: int = 500,
    box: Box | None = None,
) -> Surface:
    """Fit one membrane.

    Parameters
    ----------
    points
        (n, 3) raw membrane voxels or sub-voxel ridge points, z, y, x, in voxels or any one unit; outliers are expected.
        What a masked array hides, here or in the weights, is left out.
    weights
        (n,) how much each point counts, for instance its score.
    kernel
        ``"auto"`` lets the data choose; ``"cubic"`` (the paper's) or ``"matern52"`` fixes the function.
    seed
        Decides every random draw.
    spacing
        Voxel size in the unit of the points. By default the median distance to the nearest neighbour.
    control_points
        Most control points of a fit in one piece, at least 4.
    box
        Corners of the volume, least and greatest z, y, x, in the unit of the points: what would lie outside does not
        speak against closing.

    Returns
    -------
    Surface
        The fitted surface.

    Raises
    ------
    ValueError
        If the points cannot carry a surface, or an argument cannot be; the message names what was found.
    """
    result = fit_surfaces(
        [points],
        weights=None if weights is None else [weights],
        kernel=kernel,
        seed=seed,
        spacing=spacing,
        control_points=control_points,
        box=box,
    )[0]
    if isinstance(result, Exception):
        raise result
    return result


def fit_surfaces(
    points: Sequence[object],
    *,
    weights: Sequence[object] | None = None,
    kernel: str = "auto",
    seed: int = 0,
    spacing: float | None = None,
    control_points: int = 500,
    box: Box | None = None,
    xp: ModuleType = np,
) -> list[Surface | ValueError]:
    """Fit many membranes, their linear algebra in common batches.

    Parameters are those of `fit_surface`, with one array of points per membrane; ``xp`` is the module (numpy or cupy)
    that the batches are solved with. A membrane that cannot be fitted gives its error in its place; the others are
    not affected. Membranes and batches are shared by as many threads as linear algebra may have (``OMP_NUM_THREADS``);
    no bit of a fit depends on how many these are.

    Returns
    -------
    list
        A surface, or the ValueError that `fit_surface` would raise, per membrane.

    Raises
    ------
    ValueError
        If an argument that all have in common cannot be, or there are more or fewer weights than membranes.
    """
    kinds, cap, box = _kinds(kernel), checked_control_points(control_points), checked_box(box)
    shares = one_share_each(points, weights)

    def ready(number: int) -> Prepared | ValueError:
        try:
            return prepare(points[number], weights=shares[number], spacing=spacing, cap=cap, seed=seed)
        except ValueError as error:
            return error

    each_bytes = projected_bytes(max(map(_rows, points), default=0), control_points=cap)
    prepared = in_threads(ready, range(len(points)), each_bytes=each_bytes)
    fine = [p for p in prepared if not isinstance(p, ValueError)]
    # Large ones are fitted twice, in patches and as a whole.
    every = [*fine, *(p.whole for p in fine if p.whole is not None)]
    pieces = [split(p) for p in every]
    choices = choose(
        [_task(p, parts[_middle(parts)][0], kinds) for p, parts in zip(every, pieces, strict=True)], seed=seed, xp=xp
    )
    models = _grounded(every, _solve([overlap_of(p) for p in every], pieces, choices, xp))

    def finished(number: int) -> Surface | ValueError:
        return _finish(fine[number], choices[number], models[number], box)

    made = iter(in_threads(finished, range(len(fine)), each_bytes=each_bytes))
    return [p if isinstance(p, ValueError) else next(made) for p in prepared]


def _grounded(
    prepared: Sequence[Prepared], models: Sequence[Model | np.linalg.LinAlgError]
) -> list[Model | np.linalg.LinAlgError]:
    """Give the models of large membranes those of the whole, which come last, to stand on."""
    large = [number for number, p in enumerate(prepared) if p.whole is not None]
    out = list(models[: len(prepared) - len(large)])
    for number, whole in zip(large, models[len(out) :], strict=True):
        model = out[number]
        if isinstance(whole, np.linalg.LinAlgError):
            out[number] = whole
        elif isinstance(model, Model):
            out[number] = replace(model, ground=whole.patches[0], ground_scale=whole.scale)
    return out


def projected_bytes(n_points: int, *, control_points: int = 500) -> int:
    """Return the most memory one fit needs, in bytes, from its number of raw points.

    Raw points with neighbour lists, the largest batch of matrices, the tiles of the band.
    """
    raw = n_points * 8 * 120
    constraints = 2 * max(control_points, 100)
    matrices = max(192 * 2**20, 5 * 8 * constraints**2)
    band = min(n_points, 40_000_000) * 3 * 160
    return raw + matrices + band + 64 * 2**20


def _rows(cloud: object) -> int:
    """Return how many points there are, 0 of what is no array: that is refused where it is looked at."""
    try:
        return len(cloud)  # type: ignore[arg-type]
    except TypeError:
        return 0


def _kinds(kernel: str) -> tuple[str, ...]:
    if kernel == "auto":
        return KINDS
    if kernel not in KINDS:
        msg = f"kernel must be 'auto' or one of {KINDS}, found {kernel!r}"
        raise ValueError(msg)
    return (kernel,)


def _middle(parts: Sequence[tuple[Constraints, Array, Array]]) -> int:
    """Return which patch chooses the prior for all: the one with most constraints."""
    return int(np.argmax([len(part[0].points) for part in parts]))


def _radius(prepared: Prepared, constraints: Constraints) -> float:
    """Return what the candidates of a membrane are scaled by: its radius, or about that of its choosing patch."""
    if not prepared.large:
        return prepared.radius
    return 0.35 * float(np.linalg.norm(np.ptp(constraints.points, axis=0)))


def _task(prepared: Prepared, constraints: Constraints, kinds: tuple[str, ...]) -> Task:
    extent, radius = np.ptp(constraints.points, axis=0), _radius(prepared, constraints)
    margin = max(LEAST_MARGIN, MARGIN * radius)
    diagonal, folded = float(np.linalg.norm(extent + 2 * margin)), prepared.large and prepared.whole is None
    return Task(constraints, radius, diagonal, prepared.ellipsoid, kinds, folded)


def _solve(
    overlaps: Sequence[float],
    pieces: Sequence[Sequence[tuple[Constraints, Array, Array]]],
    choices: Sequence[tuple[Hypothesis, float] | np.linalg.LinAlgError],
    xp: ModuleType,
) -> list[Model | np.linalg.LinAlgError]:
    """Solve every patch of every membrane twice: plainly, and with the noise its residuals ask for."""
    flat = [
        (number, part, choice[0])
        for number, (parts, choice) in enumerate(zip(pieces, choices, strict=True))
        if not isinstance(choice, np.linalg.LinAlgError)
        for part in parts
    ]
    first = solve_many([problem_of(part[0], h) for _, part, h in flat], inverse=False, xp=xp)

    def widened(row: int) -> Constraints:
        (_, part, hypothesis), solution = flat[row], first[row]
        return _student(part[0], hypothesis, solution) if isinstance(solution, Solution) else part[0]

    robust = in_threads(widened, range(len(flat)))
    single = [len(pieces[number]) == 1 for number, _, _ in flat]
    second: list[Solution | np.linalg.LinAlgError] = [np.linalg.LinAlgError()] * len(flat)
    for keep in (True, False):
        rows = [i for i, alone in enumerate(single) if alone == keep]
        solved = solve_many([problem_of(robust[i], flat[i][2]) for i in rows], inverse=keep, xp=xp)
        for row, solution in zip(rows, solved, strict=True):
            second[row] = solution

    def assembled(number: int) -> Model | np.linalg.LinAlgError:
        choice = choices[number]
        rows = [i for i, item in enumerate(flat) if item[0] == number]
        failed = [s for s in (second[i] for i in rows) if isinstance(s, np.linalg.LinAlgError)]
        if isinstance(choice, np.linalg.LinAlgError) or failed:
            return choice if isinstance(choice, np.linalg.LinAlgError) else failed[0]
        patches = tuple(_patch(robust[i], choice[0], second[i], flat[i][1]) for i in rows)
        return Model(patches, overlaps[number], _scale(patches[_middle(pieces[number])]))

    return in_threads(assembled, range(len(choices)))


def _scale(patch: Patch) -> float:
    """Return the calibration of a membrane's uncertainty, from one of its patches."""
    constraints = patch.constraints
    radius = BLOCK_CELLS * constraints.reach / SHARED_CELLS
    return block_scale(constraints.points, constraints.surface, patch.alpha, patch.triangle(), radius=radius)


def _patch(
    constraints: Constraints, hypothesis: Hypothesis, solution: Any, part: tuple[Constraints, Array, Array]
) -> Patch:
    change = None
    if hypothesis.ellipsoid is not None:
        change = hypothesis.ellipsoid.trend(constraints.points).T @ solution.alpha
    return Patch(constraints, hypothesis, solution.alpha, part[1], part[2], solution.lower_inverse, change)


def _student(constraints: Constraints, hypothesis: Hypothesis, solution: Solution) -> Constraints:
    """Return the constraints with each noise widened by its residual y - m - f."""
    problem = problem_of(constraints, hypothesis)
    x = constraints.points
    residual = problem.targets - evaluate.field(hypothesis.kernel, x, solution.alpha, x)
    if problem.trend is not None:
        residual -= problem.trend @ (problem.trend.T @ solution.alpha)
    noise = constraints.noise.copy()
    noise[: constraints.surface] *= hypothesis.noise_scale
    residual /= noise
    return replace(constraints, noise=constraints.noise * np.sqrt((STUDENT + residual**2) / (STUDENT + 1)))


def _finish(
    prepared: Prepared,
    choice: tuple[Hypothesis, float] | np.linalg.LinAlgError,
    model: Model | np.linalg.LinAlgError,
    box: Box | None,
) -> Surface | ValueError:
    """Trace and judge the zero set of a solved model."""
    if isinstance(model, np.linalg.LinAlgError) or isinstance(choice, np.linalg.LinAlgError):
        return ValueError(
            f"no covariance of {len(prepared.constraints.points)} constraints could be factorised: {model}"
        )
    corners = None if box is None else (np.array(box[0]) / prepared.unit, np.array(box[1]) / prepared.unit)
    try:
        samples, verdict = _membrane(prepared, model, corners)
    except ValueError as error:
        return error
    if not verdict.keep.any():
        return ValueError(f"the fitted surface passes none of the {len(prepared.selection.points)} selected points")
    return Surface(
        model,
        prepared.unit,
        samples,
        verdict,
        prepared.selection.points,
        prepared.limit,
        prepared.radius,
        _summary(prepared, choice, model, verdict),
        prepared.systematic,
        {rule: points * prepared.unit for rule, points in prepared.selection.dropped.items()},
    )


def _membrane(prepared: Prepared, model: Model, box: tuple[Array, Array] | None) -> tuple[Samples, Verdict]:
    """Return the zero set around the points and what of it is membrane, looked for farther out where it tapers.

    Of a large membrane it is looked for around its control points and around what the fit of the whole is.
    """
    data, near = prepared.selection.points, None
    # In whole voxels where that is fine enough: grids of one step share their nodes.
    step = float(np.clip(prepared.radius / 8, 1.5, 4.0))
    step = max(step // 1.0, 1.5)
    if prepared.large:
        near = prepared.constraints.points[: prepared.constraints.surface]
        if prepared.whole is not None and model.ground is not None:
            outline, found = _membrane(prepared.whole, Model((model.ground,)), box)
            near = np.concatenate([near, outline.points[found.keep]])

    def within(margin: float) -> tuple[Samples, Verdict]:
        around = data if near is None else near
        low, high = around.min(0) - margin, around.max(0) + margin
        samples = trace(model.value_gradient, low, high, step, near=near, reach=margin)
        return samples, judge(samples, data, limit=prepared.limit, box=box)

    margin = (
        overlap_of(prepared) if prepared.large else max(LEAST_MARGIN, MARGIN * min(prepared.radius, _half_width(data)))
    )
    first = within(margin)
    if prepared.large or not first[1].tapers:
        return first
    second = within(SECOND_MARGIN * margin)
    return second if second[1].closed else first


def _half_width(points: Array) -> float:
    """Return half the middle one of the extents of points along their own axes: a tube's caps are no higher."""
    local = points - points.mean(0)
    extent = np.ptp(local @ np.linalg.eigh(local.T @ local)[1], axis=0)
    return float(np.sort(extent)[1]) / 2


def _summary(prepared: Prepared, choice: tuple[Hypothesis, float], model: Model, verdict: Verdict) -> dict[str, Any]:
    hypothesis, evidence = choice
    kernel = hypothesis.kernel
    noise = prepared.constraints.noise[: prepared.constraints.surface]
    middle = max(model.patches, key=lambda patch: len(patch.constraints.points))
    return {
        "kernel": kernel.kind,
        "amplitude": kernel.amplitude * prepared.unit,
        "length": kernel.length * prepared.unit,
        "noise": hypothesis.noise_scale * float(np.median(noise)) * prepared.unit,
        **at_bounds(hypothesis, _radius(prepared, middle.constraints)),
        "common_noise": prepared.systematic.share,
        "outward_shift_removed": prepared.systematic.outward and prepared.systematic.share > 0,
        "sd_scale": model.scale,
        "log_evidence": evidence,
        "ellipsoid": hypothesis.ellipsoid is not None,
        "control_points": prepared.constraints.surface,
        "constraints": len(prepared.constraints.points),
        "patches": len(model.patches),
        "dropped": {rule: len(points) for rule, points in prepared.selection.dropped.items()},
        "inferred_share": verdict.inferred,
        "components_dropped": verdict.components,
        "unit": prepared.unit,
    }
