r"""Two peaks fitted to density profiles, as the microscope shows them.

    p(s) = b0 + b1 s + A1 g(s - c - t/2) + A2 g(s - c + t/2),     g^(k) = T(k) w (2 pi)^1/2 exp(-2 pi^2 w^2 k^2)

g is a Gaussian of width w seen through the transfer T; where T is 1 it is the Gaussian. A membrane that is flat over
the reach of a profile has its Fourier transform on one line, and there the tomogram has |CTF| times what is there
(N. Grigorieff's sign: `cryoscale.transfer`). This pushes apart the peaks of a bilayer, and puts fringes beside it.

Least squares within bounds (`descent`). The sum over frequencies is the trapezoidal rule, exact to rounding for peaks
this smooth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from cryoscale.measure.descent import descend, models
from cryoscale.transfer import contrast_transfer

__all__ = ["THICKNESS_NM", "Peaks", "fit_peaks", "transfer_at"]

Array = NDArray[np.float64]
STARTS_NM = (2.5, 4.0, 6.0)
WIDTHS_NM = (0.4, 3.0)
THICKNESS_NM = (0.5, 9.0)
MOST_OFF_NM = 2.5
AMPLITUDE_CONTRAST, CS_MM = 0.1, 2.7
"""Of the microscope; at the frequencies of a bilayer neither matters much."""
_STEP_PER_NM = 1 / 45
"""Of the frequencies: what is fitted repeats every 45 nm."""
_FREQUENCIES_PER_NM = np.arange(90) * _STEP_PER_NM


@dataclass(frozen=True)
class Peaks:
    """Fits to p profiles."""

    values: Array
    """(p, 7): b0, b1, A1, A2, t, c, w."""
    errors: Array
    """(p, 7) standard errors, from the covariance of the profiles and the sd of the widths."""
    misfit: Array
    """(p,) share of a profile's variance that is left."""
    excess: Array
    """(p,) what is left, in what the covariance leads one to expect to be left."""
    wider: Array
    """(p,) how much wider than stated the peaks want to be, where a width was stated and held."""
    wider_error: Array

    def part(self, rows: NDArray[np.integer]) -> Peaks:
        """Return the fits to some of the profiles."""
        return Peaks(*(np.asarray(getattr(self, one.name))[rows] for one in fields(self)))


def transfer_at(defocus_um: float, voltage_kv: float) -> Array:
    """Return what the microscope leaves of each frequency of a profile, its sign corrected; all of it at defocus 0."""
    if not defocus_um:
        return np.ones_like(_FREQUENCIES_PER_NM)
    return -contrast_transfer(
        _FREQUENCIES_PER_NM / 10,
        defocus_um=defocus_um,
        voltage_kv=voltage_kv,
        cs_mm=CS_MM,
        amplitude_contrast=AMPLITUDE_CONTRAST,
        phase_flip=True,
    )


def fit_peaks(
    profiles: Array,
    covariance: Array,
    offsets: Array,
    transfer: Array,
    *,
    width: float | None = None,
    width_sd: float = 0.0,
) -> Peaks:
    """Fit two peaks to each of p profiles by least squares.

    Parameters
    ----------
    profiles
        (p, k).
    covariance
        (p, k, k) of each profile's values.
    offsets
        (k,) in nm.
    transfer
        As `transfer_at` returns it, for all profiles or (p, q) for each.
    width
        Of the peaks, in nm, where it is known.
    width_sd
        By how much the widths of the profiles scatter about it; 0 where they are all the same.
    """
    scale = np.maximum(np.ptp(profiles, axis=1), 1e-300)
    scaled = (profiles - profiles.mean(axis=1, keepdims=True)) / scale[:, None]
    noise = covariance / scale[:, None, None] ** 2
    waves = _Waves(offsets, transfer)
    none = np.zeros(len(scaled))
    found = _Descent(scaled, waves, 7 if width is None else 6, none)
    best = found.best([_straight_start(scaled, waves, start, width) for start in STARTS_NM])
    model, slopes = waves.model(best)
    wider, unsure, stiff = (none, none, none) if width is None else _wider(scaled - model, slopes, noise)
    if width is not None and width_sd > 0:
        # The width goes from the stated one towards the profile's own by the share of what scatters that is no noise.
        found = _Descent(scaled, waves, 7, stiff * unsure**2 / width_sd**2, width)
        best = found.best([best])
        model, slopes = waves.model(best)
    left = scaled - model
    errors, expected = _errors(slopes[:, :, : found.free], noise, found.pull, width_sd)
    best[:, :4] *= scale[:, None]
    errors[:, :4] *= scale[:, None]
    best[:, 0] += profiles.mean(axis=1)
    square = (left**2).sum(axis=1)
    misfit = square / np.maximum((scaled**2).sum(axis=1), 1e-300)
    return Peaks(best, errors, misfit, square / np.maximum(expected, 1e-300), wider, unsure)


def _wider(left: Array, slopes: Array, noise: Array) -> tuple[Array, Array, Array]:
    """Return the step of the width that least squares would take (p,), its error, and the sum of squares it has."""
    rest, width = slopes[:, :, :6], slopes[:, :, 6:]
    turned = np.swapaxes(rest, 1, 2)
    own = (width - rest @ np.linalg.solve(_steady(turned @ rest), turned @ width))[:, :, 0]
    stiff = np.maximum((own**2).sum(axis=1), 1e-300)
    gain = own / stiff[:, None]
    error = np.sqrt(np.maximum(np.einsum("pk,pkl,pl->p", gain, noise, gain), 0))
    return (gain * left).sum(axis=1), error, stiff


def _errors(slopes: Array, noise: Array, pull: Array, width_sd: float) -> tuple[Array, Array]:
    """Return standard errors (p, 7), and the sum of squares that noise leaves (p,)."""
    turned = np.swapaxes(slopes, 1, 2)
    normal = turned @ slopes
    if slopes.shape[2] == 7:
        normal[:, 6, 6] += pull
    normal = _steady(normal)
    gain = np.linalg.solve(normal, turned)
    spread = gain @ noise @ np.swapaxes(gain, 1, 2)
    if pull.any():
        held = np.linalg.solve(normal, np.eye(7)[:, 6:] * pull[:, None, None])[:, :, 0] * width_sd
        spread += held[:, :, None] * held[:, None]
    errors = np.zeros((len(slopes), 7))
    errors[:, : slopes.shape[2]] = np.sqrt(np.maximum(np.diagonal(spread, axis1=1, axis2=2), 0))
    rest = np.eye(slopes.shape[1]) - slopes @ gain
    return errors, np.einsum("pij,pjk,pik->p", rest, noise, rest, optimize=True)


def _steady(normal: Array) -> Array:
    size = normal.shape[1]
    return np.asarray(normal + 1e-12 * np.eye(size) * np.trace(normal, axis1=1, axis2=2)[:, None, None])


@dataclass(frozen=True)
class _Descent:
    """Least squares of profiles."""

    profiles: Array
    waves: _Waves
    free: int
    """How many of the seven values may change, from the first."""
    pull: Array
    """(p,) weight of the squared difference between the seventh and `width`."""
    width: float = 0.0

    def best(self, starts: Sequence[Array]) -> Array:
        """Return the best values (p, 7) that any start leads to, the first of equals."""
        values, least = self._descend(starts[0])
        for start in starts[1:]:
            others, cost = self._descend(start)
            better = cost < least
            values[better], least[better] = others[better], cost[better]
        return values

    def _descend(self, starts: Array) -> tuple[Array, Array]:
        """Return values (p, 7) and (p,) sums of squares."""
        low = np.array([-np.inf] * 4 + [THICKNESS_NM[0], -MOST_OFF_NM, WIDTHS_NM[0]])
        high = np.array([np.inf] * 4 + [THICKNESS_NM[1], MOST_OFF_NM, WIDTHS_NM[1]])
        bounds = (self.free, self.pull, self.width, low, high)
        values, cost = descend(np.ascontiguousarray(self.profiles), starts, *bounds, *self.waves.tables(len(starts)))
        return values, cost


def _straight_start(profiles: Array, waves: _Waves, start: float, width: float | None) -> Array:
    """Values (p, 7) at a thickness, with the background and two equal heights that fit it best."""
    values = np.zeros((len(profiles), 7))
    values[:, 4], values[:, 6] = start, 1.0 if width is None else width
    _, slopes = waves.model(values)
    shapes = np.stack([slopes[:, :, 0], slopes[:, :, 1], slopes[:, :, 2] + slopes[:, :, 3]], 2)
    normal = np.swapaxes(shapes, 1, 2) @ shapes
    found = np.linalg.solve(normal, np.swapaxes(shapes, 1, 2) @ profiles[:, :, None])[:, :, 0]
    values[:, :2], values[:, 2], values[:, 3] = found[:, :2], found[:, 2], found[:, 2]
    return values


class _Waves:
    """The model at fixed offsets (k,), as sums over waves."""

    def __init__(self, offsets: Array, transfer: Array) -> None:
        self.offsets = np.ascontiguousarray(offsets, np.float64)
        self.turns = np.asarray(2 * np.pi * _FREQUENCIES_PER_NM)
        angle = self.turns[:, None] * offsets
        self.even: Array = np.cos(angle)
        self.odd: Array = np.sin(angle)
        # The trapezoidal rule over both signs of the frequency: the first node is met once, the others twice.
        self.shares: Array = transfer * np.where(self.turns > 0, 2.0, 1.0) * _STEP_PER_NM

    def tables(self, count: int) -> tuple[Array, Array, Array, Array, Array]:
        """Return what the model of so many profiles is made from (`descent.models`)."""
        shares = np.array(np.broadcast_to(self.shares, (count, len(self.turns))), order="C")
        return self.offsets, self.turns, self.even, self.odd, shares

    def model(self, values: Array) -> tuple[Array, Array]:
        """Return the profiles (p, k) and their derivatives (p, k, 7)."""
        profiles, slopes = models(np.ascontiguousarray(values, np.float64), *self.tables(len(values)))
        return profiles, np.swapaxes(slopes, 1, 2)
