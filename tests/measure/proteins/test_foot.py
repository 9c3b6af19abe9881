"""The nearest point of a mesh against trimesh and against every triangle."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscale.measure.proteins.foot import corner_table, nearest_feet
from tests.measure.proteins.meshes import sphere


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), thin=st.floats(1e-6, 1))
def test_any_triangles_as_trimesh_has_it(seed, thin):
    rng = np.random.default_rng(seed)
    vertices = rng.random((12, 3)) * (1, 1, thin)
    faces = np.array([rng.choice(12, 3, replace=False) for _ in range(10)])
    points = rng.normal(0.5, 1, (20, 3))
    found = nearest_feet(points, vertices, faces)
    expected = np.full(20, np.inf)
    for corners in vertices[faces]:
        near = trimesh.triangles.closest_point(np.repeat(corners[None], 20, axis=0), points)
        expected = np.minimum(expected, np.linalg.norm(near - points, axis=1))
    np.testing.assert_allclose(found.distance, expected, atol=1e-9)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)
    assert (found.weights >= 0).all()
    np.testing.assert_allclose(found.interpolate(vertices, faces), found.position)


def test_a_sphere_from_within_without_and_its_middle():
    vertices, faces, normals, centre = sphere(12.0)
    rng = np.random.default_rng(0)
    ways = rng.normal(size=(60, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    points = np.concatenate([centre + ways * rng.uniform(1, 25, (60, 1)), centre[None]])
    found = nearest_feet(points, vertices, faces)
    np.testing.assert_allclose(found.distance, abs(np.linalg.norm(points - centre, axis=1) - 12), atol=0.05)
    outward = (found.interpolate(normals, faces)[:-1] * ways).sum(axis=1)
    assert outward.min() > 0.99
    exact = trimesh.proximity.closest_point_naive(trimesh.Trimesh(vertices, faces, process=False), points)[1]
    np.testing.assert_allclose(found.distance, exact, atol=1e-9)


def test_looking_only_around_the_nearest_vertex_is_not_enough():
    # The point is above the middle of a long triangle; the nearest vertex is one of another.
    vertices = np.array([[0.0, -9, -9], [0, -9, 9], [0, 12, 0], [0.9, 0.2, 0.1], [2, 0, 0], [2, 1, 0]])
    found = nearest_feet(np.array([[0.3, 0.2, 0.1]]), vertices, np.array([[0, 1, 2], [3, 4, 5]]))
    assert found.face[0] == 0 and found.distance[0] == pytest.approx(0.3)


def test_corner_table():
    start, around = corner_table(np.array([[0, 1, 2], [2, 1, 4]]), 6)
    assert [sorted(around[start[v] : start[v + 1]].tolist()) for v in range(6)] == [[0], [0, 1], [0, 1], [], [1], []]


def test_no_faces():
    with pytest.raises(ValueError, match="without faces"):
        nearest_feet(np.zeros((1, 3)), np.zeros((3, 3)), np.zeros((0, 3), int))
