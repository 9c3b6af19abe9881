r"""Covariance functions of the implicit surface: how alike the field is at two places.

With r the distance between two places and s the amplitude (the field is a signed distance, so s is a length):

- ``"cubic"``      K(r) = s^2 (2 r^3 - 3 R r^2 + R^3) / R^3,  r <= R    (Williams & Fitzgibbon 2007)
- ``"matern52"``   K(r) = s^2 (1 + a + a^2 / 3) exp(-a),  a = sqrt(5) r / l

The paper (Zhou et al., J. Comput. Sci. 66 (2023) 101904, equation 7) prints ``+ 3 R r^2``, which is not a covariance:
it has large negative eigenvalues for every set of points. R must exceed the largest distance among data, anchors and
query points; 1.5 times the diagonal of their common box is safe. The functions work on NumPy and CuPy arrays alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

__all__ = ["KINDS", "Kernel", "correlation", "covariance", "squared_distances"]

KINDS = ("cubic", "matern52")
"""Names of the covariance functions; the place of a name in this tuple is its code in compiled loops."""


@dataclass(frozen=True)
class Kernel:
    """One covariance function with its parameters; lengths in voxels."""

    kind: str
    """One of `KINDS`."""
    amplitude: float
    """s: prior standard deviation of the field."""
    length: float
    """R of the cubic, l of the Matern function."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            msg = f"kernel kind must be one of {KINDS}, found {self.kind!r}"
            raise ValueError(msg)
        if not (self.amplitude > 0 and self.length > 0):
            msg = f"amplitude and length must be positive, found {self.amplitude} and {self.length}"
            raise ValueError(msg)

    @property
    def code(self) -> int:
        """Return the number that compiled loops know this kind by."""
        return KINDS.index(self.kind)


def squared_distances(left: Any, right: Any, xp: ModuleType) -> Any:
    """Return the squared distances (..., n, m) between two sets of points (..., n, 3) and (..., m, 3).

    Both sets should be centred near the origin: the sum of squares loses digits otherwise.
    """
    cross = left @ xp.swapaxes(right, -1, -2)
    square = (left * left).sum(-1)[..., :, None] + (right * right).sum(-1)[..., None, :] - 2 * cross
    return xp.maximum(square, 0)


def correlation(kind: str, scaled: Any, xp: ModuleType) -> Any:
    """Return K / s^2 at distances ``scaled`` = r / length, any shape."""
    if kind == "cubic":
        t = xp.minimum(scaled, 1.0)
        return 1 - t * t * (3 - 2 * t)
    a = 5.0**0.5 * scaled
    return (1 + a + a * a / 3) * xp.exp(-a)


def covariance(kernel: Kernel, left: Any, right: Any, xp: ModuleType) -> Any:
    """Return the covariance (..., n, m) of the field between points (..., n, 3) and (..., m, 3)."""
    scaled = xp.sqrt(squared_distances(left, right, xp)) / kernel.length
    return kernel.amplitude**2 * correlation(kernel.kind, scaled, xp)
