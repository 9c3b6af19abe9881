r"""Means over a membrane, and over the part of it that was seen, each with its standard error.

    q = integral of f dA / A,    var q = var(integral of h d dA) + sum over sites i of (a_i e_i / A)^2
    h = (f' + 2 M (f - q)) / A

f is a curvature, the shape index, or the angle to the beam; f' its change where the surface moves out by one nm and
keeps its shape (k -> -k^2 of both principal curvatures), d how far the surface is off, which hangs together along it
(`errors`). e_i is the error of f at site i from slopes and bends of d alone, and a_i the site's area. Sites err for
themselves in that: neighbouring slopes and bends cancel, so the error is too large rather than too small. Over a whole
closed surface they cancel exactly in the means of M and K, which then have none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscale.measure.bend import curvedness, curvedness_error, principal, shape_index, shape_index_error
from cryoscale.measure.errors import SurfaceErrors

__all__ = ["Columns", "measure_means"]

Array = NDArray[np.float64]
Columns = dict[str, float | None]


@dataclass(frozen=True)
class _Quantity:
    """f of the formula at the vertices, (n,) each."""

    name: str
    """Of the column, with a place for the part and for the error."""
    value: Array
    moved: Array
    """f'."""
    bent: Array
    """e, at the site nearest to each vertex."""
    cancels: bool = False
    """Whether slopes and bends cancel over a closed surface."""


def measure_means(
    mean: Array, gaussian: Array, angle_degrees: Array, seen: NDArray[np.bool_], errors: SurfaceErrors, *, closed: bool
) -> Columns:
    """Return the columns of one membrane; errors are None where its surface has none.

    Parameters
    ----------
    mean, gaussian
        (n,) curvatures at the vertices, NaN where they are not known: such vertices count in no mean of them.
    angle_degrees
        (n,) between normal and beam.
    seen
        (n,).
    errors
        With the areas of the vertices.
    closed
        Whether the surface has no boundary.
    """
    # A vertex or two without enough neighbours (of a mesh from elsewhere) must not take the whole mean away.
    known = np.isfinite(mean) & np.isfinite(gaussian)
    bend, gauss = np.where(known, mean, 0.0), np.where(known, gaussian, 0.0)
    found: Columns = {}
    for quantity in _curvatures(bend, gauss, errors):
        found |= _both(quantity, bend, known, seen, errors, closed)
    slope = np.degrees(errors.at_owner(0)) / np.sqrt(2)
    angle = _Quantity("beam_angle{}_degrees", angle_degrees, np.zeros(len(bend)), slope)
    return found | _both(angle, bend, np.ones(len(bend), bool), seen, errors, closed)


def _curvatures(bend: Array, gauss: Array, errors: SurfaceErrors) -> list[_Quantity]:
    one, two = principal(bend, gauss)
    of_mean, of_gauss, of_one, of_two = (errors.at_owner(column) for column in (1, 2, 3, 4))
    down_one, down_two = -(one**2), -(two**2)
    square = np.maximum(one**2 + two**2, 1e-300)
    strength = curvedness(one, two)
    turned = 2 / np.pi * (one * down_two - two * down_one) / square
    of_index = shape_index_error(one, two, of_one, of_two)
    of_strength = curvedness_error(one, two, of_one, of_two)
    moved = (one * down_one + two * down_two) / np.maximum(2 * strength, 1e-150)
    return [
        _Quantity("mean_curvature{}_per_nm", bend, (down_one + down_two) / 2, of_mean, cancels=True),
        _Quantity("gaussian_curvature{}_per_nm2", gauss, two * down_one + one * down_two, of_gauss, cancels=True),
        _Quantity("principal_1{}_per_nm", one, down_one, of_one),
        _Quantity("principal_2{}_per_nm", two, down_two, of_two),
        _Quantity("curvedness{}_per_nm", strength, moved, of_strength),
        _Quantity("shape_index{}", shape_index(one, two), turned, of_index),
    ]


def _both(
    quantity: _Quantity,
    bend: Array,
    known: NDArray[np.bool_],
    seen: NDArray[np.bool_],
    errors: SurfaceErrors,
    closed: bool,
) -> Columns:
    """Return a mean and its error, of all of the membrane and of what was seen."""
    found: Columns = {}
    for part, rows in (("", known), ("_seen", known & seen)):
        total = float(errors.area[rows].sum())
        mean = float((quantity.value * errors.area)[rows].sum() / total) if total > 0 else None
        found[quantity.name.format(part)] = mean
        if mean is None or errors.sites is None:
            continue
        together = errors.of(rows * (quantity.moved + 2 * bend * (quantity.value - mean)) / total)
        alone = 0.0 if closed and quantity.cancels and rows.all() else errors.alone(rows * quantity.bent / total)
        found[quantity.name.format(f"{part}_se")] = None if together is None else float(np.hypot(together, alone))
    return found
