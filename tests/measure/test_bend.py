"""Curvature of meshes against analytic shapes; what follows from mean and Gaussian curvature."""

import numpy as np
import pytest
from skimage.measure import marching_cubes

from cryoscale.measure.bend import (
    curvedness,
    mesh_curvature,
    principal,
    shape_index,
    shape_index_error,
    vertex_normals,
)

BIG, SMALL = 22.0, 9.0


def meshed(level, shape):
    """Vertices, faces and outward normals of the zero set of a function of (.., 3) places."""
    places = np.moveaxis(np.indices(shape, dtype=float), 0, -1)
    vertices, faces, _, _ = marching_cubes(level(places), 0.0, gradient_direction="descent")
    vertices = vertices.astype(np.float64)
    normals = vertex_normals(vertices, faces)
    step = 1e-3
    out = level(vertices + step * normals) > level(vertices - step * normals)
    assert out.mean() > 0.99 or out.mean() < 0.01
    return vertices, faces, normals if out.mean() > 0.5 else -normals


def torus(places):
    moved = places - [14.2, 36.3, 36.4]
    return np.hypot(np.hypot(moved[..., 1], moved[..., 2]) - BIG, moved[..., 0]) - SMALL


def cylinder(places):
    return np.linalg.norm(places[..., 1:] - 20.3, axis=-1) - 12


def test_sphere():
    vertices, faces, normals = meshed(lambda p: np.linalg.norm(p - 20.3, axis=-1) - 15, (41, 41, 41))
    mean, gaussian = mesh_curvature(vertices, faces, normals)
    np.testing.assert_allclose(mean, 1 / 15, rtol=0.04)
    assert mean.mean() == pytest.approx(1 / 15, rel=0.02) and gaussian.mean() == pytest.approx(1 / 225, rel=0.03)
    inside, _ = mesh_curvature(vertices, faces, -normals)
    np.testing.assert_allclose(inside, -mean, rtol=1e-6)


def test_torus_has_both_signs():
    vertices, faces, normals = meshed(torus, (29, 73, 73))
    mean, gaussian = mesh_curvature(vertices, faces, normals)
    moved = vertices - [14.2, 36.3, 36.4]
    rho = np.hypot(moved[:, 1], moved[:, 2])
    across = (rho - BIG) / SMALL / rho
    true_mean, true_gaussian = (1 / SMALL + across) / 2, across / SMALL
    assert np.sqrt(np.mean((mean - true_mean) ** 2)) < 0.04 * np.sqrt(np.mean(true_mean**2))
    assert np.sqrt(np.mean((gaussian - true_gaussian) ** 2)) < 0.08 * np.sqrt(np.mean(true_gaussian**2))
    assert (np.sign(gaussian) == np.sign(true_gaussian)).mean() > 0.97


def test_cylinder_and_its_shape_index():
    vertices, faces, normals = meshed(cylinder, (60, 41, 41))
    inner = np.abs(vertices[:, 0] - 29.5) < 22
    first, second = principal(*mesh_curvature(vertices, faces, normals))
    np.testing.assert_allclose(first[inner], 1 / 12, rtol=0.06)
    np.testing.assert_allclose(second[inner], 0, atol=0.004)
    np.testing.assert_allclose(shape_index(first, second)[inner], 0.5, atol=0.05)


@pytest.mark.parametrize(
    ("first", "second", "index"), [(1, 1, 1.0), (-1, -1, -1.0), (1, 0, 0.5), (0, -1, -0.5), (1, -1, 0.0), (0, 0, 0.0)]
)
def test_shape_index_and_curvedness(first, second, index):
    first, second = np.array([first], float), np.array([second], float)
    assert shape_index(first, second)[0] == pytest.approx(index)
    assert curvedness(first, second)[0] == pytest.approx(((first[0] ** 2 + second[0] ** 2) / 2) ** 0.5)


def test_shape_index_error_by_finite_differences_and_its_end():
    first, second, error = np.array([0.3]), np.array([-0.1]), np.array([1e-6])
    slope = [
        (shape_index(first + error * a, second + error * b) - shape_index(first, second))[0]
        for a, b in ((1, 0), (0, 1))
    ]
    assert shape_index_error(first, second, error, error)[0] == pytest.approx(np.hypot(*slope), rel=1e-3)
    assert shape_index_error(0 * first, 0 * second, error, error)[0] == 1


def test_curvature_scales_with_length_and_turns_with_the_shape():
    vertices, faces, normals = meshed(torus, (29, 73, 73))
    mean, gaussian = mesh_curvature(vertices, faces, normals)
    scaled, other = mesh_curvature(2.5 * vertices, faces, normals)
    np.testing.assert_allclose(2.5 * scaled, mean, atol=1e-9)
    np.testing.assert_allclose(2.5**2 * other, gaussian, atol=1e-9)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    if np.linalg.det(turn) < 0:
        turn[:, 0] *= -1
    turned, _ = mesh_curvature(vertices @ turn.T, faces, normals @ turn.T)
    np.testing.assert_allclose(turned, mean, atol=1e-7)


def test_a_sheet_close_by_has_no_say():
    """Mutant: neighbours in space, not along the surface, would mix two sheets one voxel apart."""
    grid = np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0), indexing="ij"), -1).reshape(-1, 2)
    corner = np.arange(144).reshape(12, 12)
    a, b, c, d = corner[:-1, :-1].ravel(), corner[1:, :-1].ravel(), corner[1:, 1:].ravel(), corner[:-1, 1:].ravel()
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    sheets = [np.column_stack([np.full(144, height), grid]) for height in (0.0, 1.0)]
    normals = np.tile([1.0, 0, 0], (288, 1))
    mean, gaussian = mesh_curvature(np.concatenate(sheets), np.concatenate([faces, faces + 144]), normals)
    np.testing.assert_allclose(mean, 0, atol=1e-9)
    np.testing.assert_allclose(gaussian, 0, atol=1e-9)


def test_too_few_neighbours_are_not_known():
    mean, gaussian = mesh_curvature(np.eye(3), np.array([[0, 1, 2]]), np.full((3, 3), 3**-0.5))
    assert np.isnan(mean).all() and np.isnan(gaussian).all()
