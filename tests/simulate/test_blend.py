"""Balls that run into each other: against a sphere, against the formula on a grid, against brute force."""

import numpy as np
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from cryoscale.simulate.blend import Blend

CENTRES, RADII, SOFT = np.array([[4.0, 0, -20], [-4, 0, 20]]), np.array([24.0, 20.4]), 6.0


def formula(points):
    """The smooth union as the module's page has it, written out."""
    balls = np.linalg.norm(points[:, None] - CENTRES, axis=2) - RADII
    return -SOFT * np.log(np.exp(-balls / SOFT).sum(axis=1))


def test_one_ball_is_a_sphere():
    ball = Blend(np.array([[1.0, 2, 3]]), np.array([20.0]), 4.0)
    points = np.random.default_rng(0).normal(0, 14, (3000, 3))
    radius = np.linalg.norm(points - [1, 2, 3], axis=1)
    near = radius > 8.5
    distance, normal = ball.distance(points)
    np.testing.assert_allclose(distance[near], radius[near] - 20, atol=1e-6)
    np.testing.assert_allclose(normal[near], (points[near] - [1, 2, 3]) / radius[near, None], atol=1e-6)


def test_two_balls_make_a_peanut():
    peanut = Blend(CENTRES, RADII, SOFT)
    np.testing.assert_allclose(formula(peanut.samples), 0, atol=1e-6)
    grid = np.stack(np.meshgrid(*(np.arange(-48.0, 49.0),) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    surface = marching_cubes(formula(grid).reshape(97, 97, 97), 0.0)[0] - 48
    rng = np.random.default_rng(1)
    points = peanut.samples + rng.uniform(-4, 4, peanut.samples.shape)
    brute = cKDTree(surface).query(points)[0]
    distance = peanut.distance(points)[0]
    far = brute > 1.5
    assert np.abs(np.abs(distance) - brute)[far].max() < 0.2
    assert (np.sign(distance) == np.sign(formula(points))).all()


def test_far_away_the_distance_is_a_lower_bound():
    peanut = Blend(CENTRES, RADII, SOFT)
    points = np.random.default_rng(2).uniform(-120, 120, (2000, 3))
    brute = cKDTree(peanut.samples).query(points)[0]
    far = formula(points) > 26
    assert far.mean() > 0.5
    assert (peanut.distance(points)[0] <= brute)[far].all()


def test_an_inset_lies_at_the_level_of_its_gap():
    peanut = Blend(CENTRES, RADII, SOFT)
    np.testing.assert_allclose(formula(peanut.inset(5.0).samples), -5.0, atol=1e-6)
    assert peanut.closed
