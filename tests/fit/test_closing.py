"""Closed or open: what the beam hides is closed, what is open stays open and ends where the evidence ends."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from cryoscale.band import band_mesh, is_closed
from cryoscale.fit import fit_surface, fitting, zero_set
from tests.fit.shapes import dome_points, sphere_points


@pytest.mark.parametrize("cap", [0.7, 0.5])
def test_missing_caps_are_closed(cap: float) -> None:
    surface = fit_surface(sphere_points(25, 3000, seed=8, cap=cap, noise=0.5), spacing=1.0)
    assert surface.closed
    assert is_closed(band_mesh(surface.band(3.0)))


@pytest.mark.parametrize("lowest", [0.0, 0.2])
def test_half_a_sphere_stays_open(lowest: float) -> None:
    cloud = dome_points(25, 4000, seed=9, lowest=lowest, noise=0.5)
    surface = fit_surface(cloud, spacing=1.0)
    assert not surface.closed
    assert surface.band(1.5).index[:, 0].min() >= 25 * lowest - 6


def _cup(mouth_degrees: float, axis: int) -> np.ndarray:
    """Return points on a sphere with its caps missing beyond 0.7 and a mouth, of this half angle, along an axis."""
    cloud = sphere_points(25, 5000, seed=11, cap=0.7, noise=0.5)
    return cloud[cloud[:, axis] < 25 * np.cos(np.deg2rad(mouth_degrees))]


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("mouth_degrees", [60, 75])
def test_a_cup_that_opens_sideways_stays_open(mouth_degrees: float, axis: int) -> None:
    surface = fit_surface(_cup(mouth_degrees, axis), spacing=1.0)
    assert not surface.closed
    assert surface.band(1.5).index[:, axis].max() <= 25 * np.cos(np.deg2rad(mouth_degrees)) + 3


def test_what_the_beam_hides_and_what_is_no_larger_than_a_hole_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fit_surface(_cup(60, 0), spacing=1.0).closed
    assert fit_surface(_cup(35, 1), spacing=1.0).closed
    monkeypatch.setattr(zero_set, "MOST_ASIDE", np.inf)
    assert fit_surface(_cup(60, 1), spacing=1.0).closed


def test_a_vesicle_cut_by_the_border_closes_beyond_it() -> None:
    cloud = dome_points(25, 4000, seed=10, lowest=-0.2, noise=0.5) + np.array([5.0, 40, 40])
    box = ((0, 0, 0), (60, 80, 80))
    assert fit_surface(cloud, spacing=1.0, box=box).closed


def test_a_sheet_inside_a_thin_volume_is_not_taken_on_to_its_border() -> None:
    y, x = np.mgrid[12:70:1.0, 12:70:1.0]
    sheet = np.stack([20 + 0.002 * (y - 40) ** 2, y, x], -1).reshape(-1, 3)
    cloud = np.concatenate([sheet - [1, 0, 0], sheet, sheet + np.array([1, 0, 0])]).round()
    surface = fit_surface(cloud, spacing=1.0, box=((0, 0, 0), (40, 82, 82)))
    assert not surface.closed
    vertices = surface.mesh(1.0)[0]
    beyond = np.maximum(12 - vertices[:, 1:], vertices[:, 1:] - 69).max(1)
    assert beyond.max() < 5


def _barrel(half_height: float, narrowing: float) -> np.ndarray:
    """A belt of radius 20 around the z axis that narrows by a share to both ends, around (60, 60, 60)."""
    rng = np.random.default_rng(0)
    angle, z = rng.uniform(0, 2 * np.pi, 2500), rng.uniform(-half_height, half_height, 2500)
    r = 20 * (1 - narrowing * (z / half_height) ** 2)
    return np.stack([z, r * np.cos(angle), r * np.sin(angle)], 1) + rng.normal(0, 0.5, (2500, 3)) + 60


def test_a_barrel_that_closes_far_above_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    surface = fit_surface(_barrel(24, 0.08), spacing=1.0)
    assert surface.closed
    assert is_closed(band_mesh(surface.band(3.0)))
    monkeypatch.setattr(fitting, "SECOND_MARGIN", 1.0)
    assert not fit_surface(_barrel(24, 0.08), spacing=1.0).closed


@pytest.mark.parametrize("bend", [0.0, 0.03])
def test_a_tube_without_its_top_and_bottom_goes_round_and_ends_where_it_does(
    bend: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, radius, half = np.random.default_rng(0), 11.0, 30.0
    turn, x = rng.uniform(0, 2 * np.pi, 2500), rng.uniform(-half, half, 2500)
    lift = 2 * half * bend * (1 - (x / half) ** 2)
    tube = np.stack([radius * np.sin(turn), radius * np.cos(turn) + lift, x], 1)
    cloud = (tube + rng.normal(0, 0.5, tube.shape))[np.abs(np.sin(turn)) < 0.7]
    surface = fit_surface(cloud, spacing=1.0)
    assert not surface.closed
    q = tube[np.abs(x) < half - 3]
    hidden = np.abs(np.sin(turn[np.abs(x) < half - 3])) > 0.75
    vertices = surface.mesh(1.0)[0].astype(float)
    far = cKDTree(vertices).query(q)[0]
    assert far[~hidden].max() < 1.3 and far[hidden].max() < 2
    assert np.abs(vertices[:, 2]).max() < half + 4
    assert 0.2 < surface.choice["inferred_share"] < 0.4
    if bend:
        return
    monkeypatch.setattr(zero_set, "TUBE_ALONG", 0.0)
    strips = fit_surface(cloud, spacing=1.0).mesh(1.0)[0]
    assert cKDTree(strips).query(q[hidden])[0].max() > 5


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_tube_stays_open(axis: int) -> None:
    assert not fit_surface(np.roll(_barrel(24, 0.0), axis, 1), spacing=1.0).closed


def test_a_barrel_on_its_side_hides_no_caps_from_the_beam() -> None:
    assert not fit_surface(np.roll(_barrel(24, 0.08), 1, 1), spacing=1.0).closed


def test_a_barrel_cut_by_the_border_stays_open() -> None:
    box = ((36, 0, 0), (84, 120, 120))
    surface = fit_surface(_barrel(24, 0.08), spacing=1.0, box=box)
    assert not surface.closed
    assert fit_surface(_barrel(24, 0.08), spacing=1.0, box=((0, 0, 0), (120, 120, 120))).closed


def test_many_tubes_in_one_cloud_are_not_one_tube(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, parts = np.random.default_rng(0), []
    for z, y in ((0, 0), (30, 45), (-25, 60)):
        turn, x = rng.uniform(0, 2 * np.pi, 4000), rng.uniform(-75, 75, 4000)
        sides = np.stack([z + 10 * np.sin(turn), y + 10 * np.cos(turn), x], 1)
        parts.append(sides[np.abs(np.sin(turn)) < 0.7])
    cloud = np.concatenate(parts) + rng.normal(0, 0.4, (sum(map(len, parts)), 3))
    band = fit_surface(cloud, spacing=1.0).band(2.0)
    assert (band.support > 4).mean() < 0.02
    monkeypatch.setattr(zero_set, "TUBE_RADIAL", 0.0)
    assert (fit_surface(cloud, spacing=1.0).band(2.0).support > 4).mean() > 0.2
