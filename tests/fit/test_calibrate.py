"""Left-out blocks: the shortcut against refitting, and the scale against data of known spread."""

import numpy as np
import pytest

from cryoscale.fit import calibrate
from cryoscale.fit.calibrate import block_scale
from cryoscale.fit.covariance import Kernel, covariance


def _drawn(truth: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points, values of a field whose sd is ``truth`` times the kernel's, covariance C and L^-1."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 60, (260, 3)) * [1, 1, 0.05]
    kernel = covariance(Kernel("matern52", 3.0, 12.0), x, x, np)
    matrix = kernel + 0.04 * np.eye(len(x))
    y = truth * np.linalg.cholesky(matrix) @ rng.normal(size=len(x))
    return x, y, matrix, np.linalg.inv(np.linalg.cholesky(matrix))


@pytest.mark.parametrize("truth", [0.75, 1.0, 1.4])
def test_scale_finds_the_spread_of_the_data(truth: float) -> None:
    found = []
    for seed in range(4):
        x, y, matrix, triangle = _drawn(truth, seed)
        found.append(block_scale(x, len(x), np.linalg.solve(matrix, y), triangle, radius=8.0))
    assert np.isclose(np.mean(found), truth, rtol=0.15)


def test_blocks_equal_refits_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "BOUNDS", (0.0, 9.0))
    monkeypatch.setattr(calibrate, "LARGEST_Z", 99.0)
    x, y, matrix, triangle = _drawn(1.0, 5)
    z = []
    for centre in np.unique(np.linspace(0, len(x) - 1, calibrate.BLOCKS).round().astype(int)):
        block = np.linalg.norm(x - x[centre], axis=1) <= 8.0
        weights = np.linalg.solve(matrix[np.ix_(~block, ~block)], matrix[~block, centre])
        variance = matrix[centre, centre] - weights @ matrix[~block, centre]
        z.append((y[centre] - weights @ y[~block]) / np.sqrt(variance))
    found = block_scale(x, len(x), np.linalg.solve(matrix, y), triangle, radius=8.0)
    assert np.isclose(found, np.sqrt(np.mean(np.square(z))), rtol=1e-6)


def test_too_few_points_say_nothing() -> None:
    x, y, matrix, triangle = _drawn(2.0, 0)
    assert block_scale(x, len(x), np.linalg.solve(matrix, y), triangle, radius=500.0) == 1.0
