"""The covariance functions against SciPy distances, and against the sign the paper prints."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from cryoscale.fit.covariance import KINDS, Kernel, covariance


def _points(n: int = 200, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=20, size=(n, 3))


def _safe_length(points: np.ndarray) -> float:
    return 1.5 * float(np.linalg.norm(np.ptp(points, axis=0)))


def test_the_cubic_is_the_corrected_equation() -> None:
    x = _points()
    R = _safe_length(x)
    r = cdist(x, x)
    expected = 4.0 * (2 * r**3 - 3 * R * r**2 + R**3) / R**3
    assert np.allclose(covariance(Kernel("cubic", 2.0, R), x, x, np), expected, atol=1e-5)


def test_matern_against_its_formula() -> None:
    x, q = _points(), _points(50, 1)
    a = np.sqrt(5) * cdist(x, q) / 30.0
    assert np.allclose(covariance(Kernel("matern52", 3.0, 30.0), x, q, np), 9 * (1 + a + a**2 / 3) * np.exp(-a))


@pytest.mark.parametrize("kind", KINDS)
def test_positive_definite(kind: str) -> None:
    x = _points()
    values = np.linalg.eigvalsh(covariance(Kernel(kind, 1.0, _safe_length(x)), x, x, np))
    assert values.min() > -1e-9 * values.max()


def test_the_printed_sign_is_no_covariance() -> None:
    x = _points()
    R, r = _safe_length(x), cdist(x, x)
    values = np.linalg.eigvalsh(2 * r**3 + 3 * R * r**2 + R**3)
    assert (values < -1e-3 * values.max()).sum() >= 3


def test_a_reach_below_the_largest_distance_is_no_covariance() -> None:
    x = _points()
    R, r = 0.5 * cdist(x, x).max(), cdist(x, x)
    assert np.linalg.eigvalsh(2 * r**3 - 3 * R * r**2 + R**3).min() < -1.0


@pytest.mark.parametrize(("kind", "amplitude", "length"), [("gauss", 1, 1), ("cubic", 0, 1), ("cubic", 1, -1)])
def test_bad_kernels(kind: str, amplitude: float, length: float) -> None:
    with pytest.raises(ValueError, match="found"):
        Kernel(kind, amplitude, length)
