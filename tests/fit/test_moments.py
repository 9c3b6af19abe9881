"""Paraboloids through points of known noise, against the sphere that they came from."""

from functools import cache

import numpy as np
import pytest
from scipy.spatial import cKDTree

from cryoscale.fit.moments import Paraboloids, fit_paraboloids
from cryoscale.fit.select import merge_cells
from tests.fit.shapes import sphere_points

RADIUS, REACH = 30.0, 8.4
NOISE = np.diag([1.5, 0.5, 0.5]) ** 2
NONE = 1e-9 * np.eye(3)


def _found(corrected_for: np.ndarray, seed: int, cap: float) -> tuple[Paraboloids, np.ndarray]:
    q = sphere_points(RADIUS, 5000, seed=seed, cap=cap)
    cloud = q + np.random.default_rng(100 + seed).multivariate_normal(np.zeros(3), NOISE, len(q))
    centres = merge_cells(cloud, np.ones(len(cloud)), 7.0)[0]
    near = cKDTree(cloud).query(centres, k=100)[1]
    local, first = cloud[near] - centres[:, None], centres / np.linalg.norm(centres, axis=1)[:, None]
    some = (np.ones(near.shape), np.full(len(centres), REACH), first)
    return fit_paraboloids(centres, local, *some, noise=corrected_for, most=4.0), centres


@cache
def _errors(corrected: bool) -> np.ndarray:
    """Of neighbourhoods: |n_z| of the sphere, lean towards the beam in degrees, offset in voxels, (3, m)."""
    out = []
    for seed in range(3):
        found, _ = _found(NOISE if corrected else NONE, seed, 0.87)
        off = np.linalg.norm(found.places, axis=1)
        beam = np.abs(found.places[:, 0]) / off
        lean = np.degrees(np.arcsin(np.abs(found.normals[:, 0])) - np.arcsin(beam))
        out.append(np.stack([beam, lean, off - RADIUS]))
    return np.concatenate(out, 1)


def test_normals_and_places_are_those_of_the_sphere() -> None:
    beam, lean, off = _errors(corrected=True)
    for part in (beam < 0.3, (beam > 0.3) & (beam < 0.75)):
        assert abs(lean[part].mean()) < 1.0 and abs(off[part].mean()) < 0.025
    end = (beam > 0.75) & (beam < 0.87)
    assert abs(lean[end].mean()) < 3.0 and abs(off[end].mean()) < 0.1


def test_noise_that_is_not_known_shifts_them_inward_and_outward_at_the_end() -> None:
    beam, lean, off = _errors(corrected=False)
    assert off[beam < 0.75].mean() < -0.035
    end = (beam > 0.75) & (beam < 0.87)
    assert lean[end].mean() < -5 and off[end].mean() > 0.13


def test_the_pull_of_points_says_how_far_off_places_are() -> None:
    found, _ = _found(NOISE, 0, 2.0)
    stated = 0.5 * np.sqrt((found.pull**2).sum(1))
    assert np.isclose(np.sqrt(np.mean(stated**2)), _errors(corrected=True)[2].std(), rtol=0.35)
    top = np.abs(found.normals[:, 0]) > 0.9
    assert np.median(stated[top]) > 2 * np.median(stated[np.abs(found.normals[:, 0]) < 0.2])


def test_neighbourhoods_at_the_end_of_points_are_not_whole() -> None:
    found, centres = _found(NOISE, 1, 0.7)
    latitude = np.degrees(np.arcsin(np.abs(centres[:, 0]) / np.linalg.norm(centres, axis=1)))
    assert found.whole[latitude < 30].mean() > 0.97
    assert found.whole[latitude > 46].mean() < 0.1


def test_where_all_is_rim_none_is_left_out() -> None:
    rng = np.random.default_rng(0)
    strip = np.stack([rng.normal(0, 0.5, 60), rng.uniform(0, 60, 60), rng.uniform(0, 1, 60)], 1)
    ends = np.array([[0.0, 0, 0], [0.0, 60, 0]])
    near = cKDTree(strip).query(ends, k=20)[1]
    rest = (np.ones(near.shape), np.full(2, 20.0), np.array([[1.0, 0, 0]] * 2))
    found = fit_paraboloids(ends, strip[near] - ends[:, None], *rest, noise=NOISE, most=4.0)
    assert found.whole.all() and np.isfinite(found.places).all() and np.isfinite(found.pull).all()


@pytest.mark.parametrize("turn", [0.3, 1.2])
def test_axes_do_not_matter(turn: float) -> None:
    """The sphere, its noise and the answer turned together: the beam is whatever the covariance says."""
    plain, centres = _found(NOISE, 0, 0.87)
    c, s = np.cos(turn), np.sin(turn)
    spin = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    q = sphere_points(RADIUS, 5000, seed=0, cap=0.87)
    cloud = q + np.random.default_rng(100).multivariate_normal(np.zeros(3), NOISE, len(q))
    near = cKDTree(cloud).query(centres, k=100)[1]
    local, first = (cloud[near] - centres[:, None]) @ spin.T, centres / np.linalg.norm(centres, axis=1)[:, None]
    some = (np.ones(near.shape), np.full(len(centres), REACH), first @ spin.T)
    found = fit_paraboloids(centres @ spin.T, local, *some, noise=spin @ NOISE @ spin.T, most=4.0)
    assert np.allclose(found.places, plain.places @ spin.T, atol=0.02)
