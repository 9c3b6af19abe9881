"""Distances against spheres, capsules, flat discs and nearest points on densely sampled surfaces."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from cryoscale.simulate.scene import random_curve, random_direction, random_sheet, random_vesicle
from cryoscale.simulate.shapes import Sheet, Tube, Vesicle

FLAT = np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros(0)


def vesicle_points(vesicle, count=150_000):
    """Points of a vesicle from its formula alone: the radius in each of many directions."""
    u = np.random.default_rng(5).normal(size=(count, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    radius = 1 + sum(
        h * (u @ w) ** m for h, w, m in zip(vesicle.heights, vesicle.directions, vesicle.powers, strict=True)
    )
    return vesicle.centre + (radius[:, None] * u * vesicle.semi_axes) @ vesicle.rotation.T


def sheet_points(sheet):
    """Points of a sheet from its formula alone: a grid over the disc, and the rim by itself."""
    grid = np.linspace(-sheet.radius, sheet.radius, 401)
    u, v = (axis.ravel() for axis in np.meshgrid(grid, grid))
    kept = np.hypot(u, v) <= sheet.radius
    turn = np.linspace(0, 2 * np.pi, 3000)
    u, v = np.r_[u[kept], sheet.radius * np.cos(turn)], np.r_[v[kept], sheet.radius * np.sin(turn)]
    (a, b, c), (height, ku, kv, phase) = sheet.quadric, sheet.wave
    w = a * u * u + b * u * v + c * v * v + height * np.sin(ku * u + kv * v + phase)
    return sheet.centre + np.stack([w, u, v], axis=1) @ sheet.rotation.T


def test_sphere():
    sphere = Vesicle(np.array([1.0, 2, 3]), np.full(3, 20.0), np.eye(3), *FLAT)
    points = np.random.default_rng(0).normal(0, 14, (4000, 3))
    radius = np.linalg.norm(points - [1, 2, 3], axis=1)
    distance, normal = sphere.distance(points)
    near = np.abs(radius - 20) < 11
    np.testing.assert_allclose(distance[near], radius[near] - 20, atol=1e-9)
    np.testing.assert_allclose(normal[near], (points[near] - [1, 2, 3]) / radius[near, None], atol=1e-9)
    assert (np.sign(distance) == np.sign(radius - 20)).all()
    assert (np.abs(distance) <= np.abs(radius - 20) + 1e-9).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["vesicle", "sheet"])
def test_distance_is_to_the_nearest_point(kind, seed):
    rng = np.random.default_rng(seed)
    if kind == "vesicle":
        shape = random_vesicle(rng, np.zeros(3), 25.0)
        tree = cKDTree(vesicle_points(shape))
    else:
        shape = random_sheet(rng, np.zeros(3), 25.0, random_direction(rng), 0.3)
        tree = cKDTree(sheet_points(shape))
    assert np.abs(shape.distance(shape.samples)[0]).max() < 1e-6
    points = shape.samples + rng.uniform(-5, 5, shape.samples.shape)
    brute = tree.query(points)[0]
    distance, normal = shape.distance(points)
    # The nearest of scattered points is a little farther than the surface, most of all for points upon it.
    assert (np.abs(distance) <= brute + 0.03).all()
    assert np.abs(np.abs(distance) - brute)[brute > 1.5].max() < 0.05
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-9)


def test_one_step_alone_is_not_exact():
    """The first-order distance, without the search for the foot, misses by more than the tolerance."""
    axes = np.array([12.0, 26.0, 26.0])
    flat = Vesicle(np.zeros(3), axes, np.eye(3), *FLAT)
    points = flat.samples + 4.0 * flat.distance(flat.samples)[1]
    q = np.linalg.norm(points / axes, axis=1)
    first_order = (q - 1) * q / np.linalg.norm(points / axes**2, axis=1)
    assert np.abs(first_order - 4).max() > 0.1
    np.testing.assert_allclose(flat.distance(points)[0], 4, atol=0.02)


def test_flat_disc_has_a_rim():
    disc = Sheet(np.zeros(3), np.eye(3), 10.0, np.zeros(3), np.zeros(4))
    points = np.array([[0.0, 0, 0], [3, 0, 0], [-2, 5, 0], [0, 14, 0], [3, 0, -14], [0.0, 6, 8]])
    np.testing.assert_allclose(np.abs(disc.distance(points)[0]), [0, 3, 2, 4, 5, 0], atol=1e-9)
    assert disc.distance(points[1:3])[0].tolist() == [3, -2]
    assert not disc.closed


def test_capsule():
    tube = Tube(np.array([[0.0, 0, 0], [0, 0, 10], [0, 0, 20]]), 5.0)
    points = np.array([[7.0, 0, 8], [0, 0, 27], [0, 0, -9], [0, 3, 10], [3, 4, 13]])
    np.testing.assert_allclose(tube.distance(points)[0], [2, 2, 4, -2, 0], atol=1e-9)
    assert np.abs(tube.distance(tube.samples)[0]).max() < 1e-9


def test_insets_lie_inside():
    rng = np.random.default_rng(3)
    for shape in (random_vesicle(rng, np.zeros(3), 40.0), Tube(random_curve(rng, np.zeros(3), 60.0, 0.5, 1.0), 12.0)):
        depth = shape.distance(shape.inset(5.0).samples)[0]
        assert depth.max() < -3
        assert depth.min() > -8
