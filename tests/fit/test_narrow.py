"""The band of analytic fields against every grid point of their box."""

import numpy as np
import pytest

from cryoscale.fit import cells, narrow
from cryoscale.fit.narrow import narrow_band
from tests.fit.shapes import sphere_points

Array = np.ndarray


def sphere(q: Array) -> tuple[Array, Array]:
    """Return the distance to a sphere of radius 21.3."""
    r = np.linalg.norm(q, axis=1)
    return r - 21.3, q / np.maximum(r, 1e-9)[:, None]


def wavy(q: Array) -> tuple[Array, Array]:
    """Return a height field with waves of 7 voxels: too short for cells of 4."""
    k = 2 * np.pi / 7
    f = q[:, 0] - 10 - np.sin(k * q[:, 1])
    return f, np.stack([np.ones(len(q)), -k * np.cos(k * q[:, 1]), np.zeros(len(q))], 1)


def double(q: Array) -> tuple[Array, Array]:
    """Return two sheets 3 voxels apart: the field has no slope half way between them."""
    z = q[:, 0] - 10.2
    f = (z * z - 2.25) / 3
    return f, np.stack([2 * z / 3, np.zeros(len(q)), np.zeros(len(q))], 1)


def collect(field: narrow.Field, samples: Array, gap: float, step: float, width: float) -> tuple[Array, Array, Array]:
    parts = list(narrow_band(field, samples, gap, step=step, width=width))
    index, distance, normal = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort(index.T[::-1])
    return index[order], distance[order], normal[order]


@pytest.mark.parametrize(("step", "gap"), [(1.0, 6.0), (1.0, 1.5), (0.7, 6.0), (2.0, 6.0), (5.0, 6.0)])
def test_a_sphere_is_found_whole(step: float, gap: float) -> None:
    samples = sphere_points(21.3, 400, seed=0)
    index, distance, normal = collect(sphere, samples, gap, step, 1.5)
    most = int(25 / step) + 1
    grid = np.stack(np.meshgrid(*[np.arange(-most, most + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    exact, slope = sphere(grid * step)
    assert len(np.unique(index, axis=0)) == len(index)
    have = set(map(tuple, index.tolist()))
    assert all(tuple(i) in have for i in grid[np.abs(exact) <= 1.49].tolist())
    assert np.abs(distance - sphere(index * step)[0]).max() < 0.01
    assert np.abs(distance).max() <= 1.5
    assert np.abs(normal - sphere(index * step)[1]).max() < 0.02
    assert len(slope) > 5 * len(index)


def plane_samples() -> Array:
    return np.argwhere(np.ones((1, 11, 11), bool)) * 4.0 + [10.0, 0, 0]


def test_waves_too_short_for_a_cell_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def error() -> float:
        index, distance, _ = collect(wavy, plane_samples(), 6.0, 1.0, 1.5)
        f, g = wavy(index.astype(float))
        return float(np.abs(distance - f / np.linalg.norm(g, axis=1)).max())

    assert error() < 0.05
    monkeypatch.setattr(narrow, "TOLERANCE", np.inf)
    assert error() > 0.2


def test_close_sheets_are_both_found(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = plane_samples() - np.array([1.3, 0, 0])
    index, _, _ = collect(double, samples, 6.0, 1.0, 1.0)
    middle = index[(index[:, 1:] == 20).all(1)]
    # First-order distances: -1.01 at 11, 0.998 at 13.
    assert middle[:, 0].tolist() == [8, 9, 12, 13]
    flat = np.full(3, 10.0)
    # A field that is small and flat everywhere grows no farther than its samples allow.
    grown = cells.grow(lambda q: (np.full(len(q), 0.1), np.zeros((len(q), 3))), flat[None], 6.0, pitch=4.0, width=1.5)
    assert np.abs(grown.nodes * 4.0 - flat).max() <= 6 + 1.5 + 4 * 4.0
    monkeypatch.setattr(cells, "SLACK", -10.0)
    assert not len(cells.grow(sphere, samples, 6.0, pitch=4.0, width=1.5).corners)


def test_nothing_comes_of_no_samples() -> None:
    assert not list(narrow_band(sphere, np.zeros((0, 3)), 6.0, step=1.0, width=1.5))
