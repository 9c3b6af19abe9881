"""Interpolation along a surface, against the functions themselves."""

import numpy as np
import pytest

from cryoscale.fit import fit_surface, smooth
from cryoscale.fit.smooth import PITCHES, interpolated
from tests.fit.shapes import SHAPES, degrade, sphere_points

Array = np.ndarray


def cubic(q: Array) -> tuple[Array, Array]:
    """Return a polynomial of degree 3 with every kind of term, large enough to be positive."""
    z, y, x = q.T
    f = 1e6 + z**3 - 2 * z * z * y + 3 * x * y * z + y**3 + x * x * z - 40 * x * y
    return f, np.stack(
        [3 * z * z - 4 * z * y + 3 * x * y + x * x, -2 * z * z + 3 * x * z + 3 * y * y - 40 * x,
         3 * y * z + 2 * x * z - 40 * y], 1
    )  # fmt: skip


def waves(length: float) -> smooth.Function:
    k = 2 * np.pi / length

    def wave(q: Array) -> tuple[Array, Array]:
        return 2 + np.sin(k * q).sum(1) / 3, k * np.cos(k * q) / 3

    return wave


def test_cubics_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    q = sphere_points(20.0, 500, seed=0)
    want = cubic(q)[0]
    assert np.abs(interpolated(cubic, q, (8.0,)) - want).max() < 1e-6
    assert not len(interpolated(cubic, np.zeros((0, 3))))

    def flat(at: Array) -> tuple[Array, Array]:
        value, slope = cubic(at)
        return value, 0 * slope

    assert np.abs(interpolated(flat, q, (8.0,)) - want).max() > 1


@pytest.mark.parametrize(("length", "pitch"), [(60.0, PITCHES[0]), (32.0, PITCHES[1]), (10.0, PITCHES[-1])])
def test_cells_are_as_large_as_the_function_allows(length: float, pitch: float) -> None:
    q, used = sphere_points(30.0, 4000, seed=1), []
    wave = waves(length)

    def asked(at: Array) -> tuple[Array, Array]:
        used.append(at)
        return wave(at)

    found = interpolated(asked, q)
    assert np.abs(found / wave(q)[0] - 1).max() < 0.012
    assert np.allclose(used[-1] / pitch, np.round(used[-1] / pitch))


def test_the_variance_on_a_surface() -> None:
    for name, kernel in (("ellipsoid", "cubic"), ("bumpy", "matern52")):
        surface = fit_surface(degrade(SHAPES[name], seed=2, cap=0.7, noise=0.5)[0], spacing=1.0, kernel=kernel)
        band = surface.band(1.0)
        foot = band.index[::30].astype(float)
        away = np.abs(surface.model.variance_near(foot) / surface.model.variance(foot) - 1)
        assert np.median(away) < 0.003 and away.max() < 0.015
