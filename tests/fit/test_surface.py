"""What a fitted surface answers: field, distance, band and mesh tell one story, in any unit."""

from typing import Any

import numpy as np
import pytest

from cryoscale.band import band_mesh, euler_number, is_closed, mesh_volume
from cryoscale.fit import Surface, fit_surface, surface
from cryoscale.fit.model import Model
from cryoscale.fit.surface import within_rim
from tests.fit.shapes import sphere_points


@pytest.fixture(scope="module")
def sphere() -> Surface:
    return fit_surface(sphere_points(20, 2500, seed=0, cap=0.7, noise=0.5) + 40, spacing=1.0)


def test_radius_and_volume_of_a_sphere_without_caps(sphere: Surface) -> None:
    assert sphere.closed
    assert abs(sphere.radius - 20) < 1
    q = sphere_points(20, 400, seed=1) + 40
    assert np.abs(sphere.distance(q)).max() < 0.7
    mesh = band_mesh(sphere.band(3.0))
    assert is_closed(mesh) and euler_number(mesh) == 2
    assert abs(mesh_volume(mesh) / (4 / 3 * np.pi * 20**3) - 1) < 0.04


def test_signs_and_slopes(sphere: Surface) -> None:
    assert sphere.mean([[40, 40, 40]])[0] < 0 < sphere.mean([[40, 40, 68]])[0]
    q = np.array([[40.0, 40.0, 57.0], [50.0, 45.0, 30.0]])
    step = 1e-4 * np.eye(3)
    numeric = np.stack([(sphere.mean(q + step[a]) - sphere.mean(q - step[a])) / 2e-4 for a in range(3)], 1)
    assert np.allclose(sphere.gradient(q), numeric, atol=1e-6)
    assert np.allclose(sphere.distance(q), sphere.mean(q) / np.linalg.norm(numeric, axis=1), atol=1e-5)


def test_what_was_not_seen_is_less_certain(sphere: Surface) -> None:
    side, cap = sphere.distance_sd([[40, 40, 60]])[0], sphere.distance_sd([[60, 40, 40]])[0]
    assert 0 < side < cap < 5
    assert (sphere.variance(np.random.default_rng(0).uniform(0, 80, (300, 3))) >= 0).all()


def test_band_says_the_same_as_the_field(sphere: Surface) -> None:
    band = sphere.band(3.0)
    d = sphere.distance(band.index)
    assert np.abs(band.distance - d).max() < 0.02
    near = np.abs(d) <= 2.9
    assert near.sum() <= len(band.index)
    grid = np.argwhere(np.ones((90, 90, 90), bool))
    r = np.abs(np.linalg.norm(grid - 40.0, axis=1) - 20) < 4.5
    whole = grid[r][np.abs(sphere.distance(grid[r])) < 2.95]
    have = {tuple(i) for i in band.index.tolist()}
    assert all(tuple(i) in have for i in whole.tolist())
    assert np.allclose(band.sd, sphere.distance_sd(band.index - 0.0), rtol=0.35, atol=0.1)
    assert band.support.max() > 8 and np.median(band.support) < 3


def test_band_in_a_box_is_part_of_the_band(sphere: Surface) -> None:
    whole, part = sphere.band(2.0), sphere.band(2.0, box=((0, 0, 0), (40, 90, 45)))
    inside = (whole.index[:, 0] < 40) & (whole.index[:, 2] < 45)
    assert np.array_equal(part.index, whole.index[inside])
    assert np.array_equal(part.distance, whole.distance[inside])
    assert np.array_equal(part.support, whole.support[inside])
    assert np.allclose(part.sd, whole.sd[inside], rtol=0.02)
    assert part.closed


def test_the_border_of_the_volume_moves_no_rim() -> None:
    """What lies beyond the border decides with, whether a place near it is within an open surface's rim."""
    rng = np.random.default_rng(0)
    y, x = rng.uniform(0, 70, (2, 6000))
    cloud = np.stack([20 + 4 * np.sin(y / 15) + rng.normal(0, 0.4, 6000), y, x], 1)[x < 48 + 6 * np.sin(y / 5)]
    sheet = fit_surface(cloud, spacing=1.0)
    whole = sheet.band(2.0)
    assert not sheet.closed
    for edge in range(44, 55, 2):
        inside = ((whole.index >= 0) & (whole.index < (60, 70, edge))).all(1)
        part = sheet.band(2.0, box=((0, 0, 0), (60, 70, edge)))
        assert np.array_equal(part.index, whole.index[inside])
        assert np.array_equal(part.distance, whole.distance[inside])


def test_nothing_is_asked_far_from_the_box(sphere: Surface, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a membrane cut by the volume's border has beyond it costs nothing."""
    asked: list[np.ndarray] = []
    for name in ("value_gradient", "variance_near"):
        method = getattr(Model, name)

        def spy(self: Model, q: np.ndarray, *more: object, method: Any = method) -> Any:
            asked.append(q)
            return method(self, q, *more)

        monkeypatch.setattr(Model, name, spy)

    def farthest() -> float:
        asked.clear()
        assert len(sphere.band(2.0, box=((0, 0, 0), (30, 90, 90))).index)
        return float(np.concatenate(asked)[:, 0].max())

    assert farthest() < 30 + 15
    # Mutant: samples from everywhere.
    monkeypatch.setattr(surface, "_around", lambda samples, *_: samples)
    assert farthest() > 55


def test_a_mesh_is_the_bands_and_asks_for_no_variance(sphere: Surface, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = band_mesh(sphere.band(surface.MESH_REACH))
    monkeypatch.setattr(Model, "variance_near", None)
    vertices, faces = sphere.mesh(1.0)
    np.testing.assert_array_equal(vertices, wanted.vertices)
    np.testing.assert_array_equal(faces, wanted.faces)


def test_mesh_spacing_and_unit(sphere: Surface) -> None:
    for spacing in (0.7, 1.0, 2.0):
        vertices, faces = sphere.mesh(spacing)
        assert np.abs(np.linalg.norm(vertices - 40, axis=1) - 20).max() < 0.8
        assert len(faces) == 2 * len(vertices) - 4
    with pytest.raises(ValueError, match="found 0"):
        sphere.mesh(0)
    with pytest.raises(ValueError, match="found -1"):
        sphere.band(-1)
    with pytest.raises(ValueError, match="coarser"):
        sphere.mesh(20.0)


@pytest.mark.parametrize("unit", [1.368, 10.48])
def test_units_scale_everything(sphere: Surface, unit: float) -> None:
    cloud = (sphere_points(20, 2500, seed=0, cap=0.7, noise=0.5) + 40) * unit
    scaled = fit_surface(cloud, spacing=unit)
    q = sphere_points(21, 100, seed=2) + 40
    assert scaled.closed
    assert np.allclose(scaled.distance(q * unit), sphere.distance(q) * unit, atol=0.005 * unit)
    assert np.allclose(scaled.variance(q * unit), sphere.variance(q) * unit**2, rtol=0.02)
    assert np.isclose(scaled.radius, sphere.radius * unit, rtol=1e-4)


def test_a_rim_is_cut_and_a_void_is_filled() -> None:
    """A flat sheet of feet: raw points at x <= 20 but for a void of radius 2.6 around x = 10."""
    foot = np.argwhere(np.ones((1, 41, 41), bool)).astype(float)
    raw = foot[(foot[:, 2] <= 20) & (np.linalg.norm(foot[:, 1:] - [20, 10], axis=1) > 2.6)]
    support = np.linalg.norm(foot[:, None] - raw[None], axis=2).min(1)
    near = support <= 5
    inside = within_rim(foot[near], np.zeros(near.sum(), bool), support[near], 3.0, 2.0)
    assert foot[near][inside][:, 2].max() == 22
    assert inside[np.linalg.norm(foot[near][:, 1:] - [20, 10], axis=1) < 3].all()
    tight = within_rim(foot[near], np.zeros(near.sum(), bool), support[near], 3.0, 1.0)
    assert foot[near][tight][:, 2].max() == 21
    bridged = within_rim(foot[near], np.ones(near.sum(), bool), support[near], 3.0, 2.0)
    assert bridged.all()


def _plate(noise: float, hole: float) -> Surface:
    """40 x 60 voxels of the plane x = 0 around 0, with a round hole in its middle."""
    rng = np.random.default_rng(3)
    q = rng.uniform([-20, -30, 0], [20, 30, 0], (1600, 3))
    q = q[np.linalg.norm(q, axis=1) > hole]
    return fit_surface(q + rng.normal(0, noise, q.shape), spacing=1.0)


@pytest.mark.parametrize("hole", [4.0, 6.0, 9.0])
def test_a_hole_of_an_open_sheet_is_bridged_whole(hole: float) -> None:
    plate = _plate(0.3, hole)
    assert not plate.closed
    index = plate.band(1.0).index
    have = {tuple(place) for place in index[:, :2].tolist()}
    inner = np.argwhere(np.ones((35, 55), bool)) - [17, 27]
    assert all(tuple(place) in have for place in inner.tolist())


def _overshoot(plate: Surface) -> tuple[float, float, float]:
    """Largest distance of the band beyond the true rim, the share of the plate that has none of it, and the sum of the
    distances of all that lies beyond."""
    index = plate.band(1.0).index
    beyond = np.maximum(np.abs(index[:, 0]) - 20, np.abs(index[:, 1]) - 30)
    cells = {tuple(place) for place in index[beyond <= 0, :2].tolist()}
    return float(beyond.max()), 1 - len(cells) / (41 * 61), float(beyond.clip(0).sum())


@pytest.mark.parametrize("noise", [0.05, 0.5, 1.0])
def test_the_rim_is_where_the_points_end_less_their_scatter(noise: float) -> None:
    overshoot, missed, _ = _overshoot(_plate(noise, 0.0))
    assert overshoot <= 3
    assert missed < 0.025


def test_without_the_scatter_or_by_single_points_the_rim_lies_farther_out(monkeypatch: pytest.MonkeyPatch) -> None:
    plate = _plate(1.0, 0.0)
    _, missed, beyond = _overshoot(plate)
    for name, value in (("RIM_SCATTER", 0.0), ("RIM_POINT", 1)):
        plate.__dict__.pop("_rim")
        with monkeypatch.context() as patch:
            patch.setattr(surface, name, value)
            found = _overshoot(plate)
            assert found[2] > 1.2 * beyond and found[1] < missed / 3
