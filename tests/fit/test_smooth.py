"""Interpolation along a surface, against the functions themselves."""

import numpy as np
import pytest

from cryoscale.fit import fit_surface, net
from cryoscale.fit.smooth import interpolated
from tests.fit.shapes import SHAPES, degrade, sphere_points

Array = np.ndarray
TILT = np.array([0.8, -0.5, 0.33])


def cubic(q: Array) -> tuple[Array, Array]:
    """Return a polynomial of degree 3 with every kind of term, large enough to be positive."""
    z, y, x = q.T
    f = 1e6 + z**3 - 2 * z * z * y + 3 * x * y * z + y**3 + x * x * z - 40 * x * y
    return f, np.stack(
        [3 * z * z - 4 * z * y + 3 * x * y + x * x, -2 * z * z + 3 * x * z + 3 * y * y - 40 * x,
         3 * y * z + 2 * x * z - 40 * y], 1
    )  # fmt: skip


def waves(length: float) -> net.Function:
    k = 2 * np.pi / length

    def wave(q: Array) -> tuple[Array, Array]:
        return 2 + np.sin(k * q).sum(1) / 3, k * np.cos(k * q) / 3

    return wave


def sphere(radius: float) -> net.Function:
    def field(q: Array) -> tuple[Array, Array]:
        r = np.linalg.norm(q, axis=1)
        return r**2 - radius**2, 2 * q

    return field


def plane(q: Array) -> tuple[Array, Array]:
    return q @ TILT - 1.0, np.tile(TILT, (len(q), 1))


def on_plane(n: int) -> Array:
    q = np.random.default_rng(0).uniform(-25, 25, (n, 3))
    return q - np.outer((q @ TILT - 1.0) / (TILT @ TILT), TILT)


def test_cubics_are_exact() -> None:
    q = on_plane(500)
    lean = np.tile(TILT, (len(q), 1))
    want = cubic(q)[0]
    for normals in (lean, -3 * lean):
        assert np.abs(interpolated(cubic, plane, q, normals, pitch=8.0) - want).max() < 1e-6
    assert not len(interpolated(cubic, plane, np.zeros((0, 3)), np.zeros((0, 3))))

    def flat(at: Array) -> tuple[Array, Array]:
        value, slope = cubic(at)
        return value, 0 * slope

    assert np.abs(interpolated(flat, plane, q, lean, pitch=8.0) - want).max() > 1


@pytest.mark.parametrize(("length", "most"), [(150.0, 1300), (60.0, 2500), (30.0, 4000)])
def test_cells_are_as_large_as_the_function_allows(length: float, most: int) -> None:
    q, used = sphere_points(45.0, 60_000, seed=1), []
    wave = waves(length)

    def asked(at: Array) -> tuple[Array, Array]:
        used.append(len(at))
        return wave(at)

    found = interpolated(asked, sphere(45.0), q, q)
    assert np.abs(found / wave(q)[0] - 1).max() < 0.012
    assert sum(used) < most


def test_corners_lie_on_the_surface() -> None:
    """A function that grows off the surface is asked on it only."""
    q = sphere_points(30.0, 4000, seed=1)

    def steep(at: Array) -> tuple[Array, Array]:
        r = np.linalg.norm(at, axis=1)
        return 1 + (r - 30.0) ** 2, 2 * (1 - 30.0 / r)[:, None] * at

    assert np.abs(interpolated(steep, sphere(30.0), q, q, pitch=4.0) - 1).max() < 2e-3


def test_sheets_above_each_other_have_their_own_corners(monkeypatch: pytest.MonkeyPatch) -> None:
    q = np.random.default_rng(2).uniform(0, 30, (3000, 3))
    q[:, 0] = np.where(np.arange(3000) % 2, 10.0, 14.0)

    def field(at: Array) -> tuple[Array, Array]:
        slope = np.zeros_like(at)
        slope[:, 0] = np.where(at[:, 0] < 12.0, 1.0, -1.0)
        return np.minimum(at[:, 0] - 10.0, 14.0 - at[:, 0]), slope

    def function(at: Array) -> tuple[Array, Array]:
        slope = np.zeros_like(at)
        slope[:, 0] = 1.0
        return at[:, 0] - 9.0, slope

    normals = np.tile([1.0, 0.0, 0.0], (3000, 1))
    want = q[:, 0] - 9.0
    assert np.allclose(interpolated(function, field, q, normals, pitch=5.5), want)
    monkeypatch.setattr(net, "SHEETS", 6.0)
    assert np.abs(interpolated(function, field, q, normals, pitch=5.5) - want).max() > 0.5


def test_places_are_computed_where_no_corner_is_found() -> None:
    q = sphere_points(3.0, 200, seed=3)
    asked = []

    def function(at: Array) -> tuple[Array, Array]:
        asked.append(at)
        return 2 + np.sin(at[:, 0]), np.column_stack([np.cos(at[:, 0]), np.zeros((len(at), 2))])

    found = interpolated(function, sphere(3.0), q, q, pitch=8.0)
    assert np.allclose(found, 2 + np.sin(q[:, 0])) and len(asked[-1]) > 100


def test_the_variance_on_a_surface() -> None:
    for name, kernel in (("ellipsoid", "cubic"), ("bumpy", "matern52")):
        surface = fit_surface(degrade(SHAPES[name], seed=2, cap=0.7, noise=0.5)[0], spacing=1.0, kernel=kernel)
        q = surface.band(1.0).index[::30].astype(float)
        for _ in range(3):
            value, slope = surface.model.value_gradient(q)
            q = q - (value / (slope**2).sum(1))[:, None] * slope
        found = surface.model.variance_near(q, surface.gradient(q))
        away = np.abs(found / surface.model.variance(q) - 1)
        assert np.median(away) < 0.003 and away.max() < 0.015
