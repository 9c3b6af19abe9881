"""The nearest point of a mesh against brute force over all triangles, and trimesh."""

import numpy as np
import pytest
import trimesh

from cryoscale.measure.nearest import TriangleTree


def soup(rng, count=60):
    vertices = rng.normal(size=(count, 3)) * 10
    return vertices, rng.integers(0, count, (2 * count, 3))


@pytest.mark.parametrize("seed", range(4))
def test_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    vertices, faces = soup(rng)
    points = rng.normal(size=(200, 3)) * 15
    found = TriangleTree.of(vertices, faces).nearest(points)
    triangles = vertices[faces]
    every = np.stack(
        [
            np.linalg.norm(trimesh.triangles.closest_point(triangles, np.broadcast_to(p, (len(faces), 3))) - p, axis=1)
            for p in points
        ]
    )
    np.testing.assert_allclose(found.distance, every.min(axis=1), rtol=1e-9, atol=1e-9)
    feet = np.einsum("nc,nck->nk", found.weights, triangles[found.face])
    np.testing.assert_allclose(np.linalg.norm(feet - points, axis=1), found.distance, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)
    assert (found.weights >= -1e-12).all()


def test_order_of_points_and_triangles_does_not_matter():
    rng = np.random.default_rng(1)
    sphere = trimesh.creation.icosphere(3, 10.0)
    points = rng.normal(size=(300, 3)) * 12
    found = TriangleTree.of(sphere.vertices, sphere.faces).nearest(points)
    order = rng.permutation(300)
    again = TriangleTree.of(sphere.vertices, sphere.faces).nearest(points[order])
    assert (again.face == found.face[order]).all() and (again.distance == found.distance[order]).all()
    turned = rng.permutation(len(sphere.faces))
    other = TriangleTree.of(sphere.vertices, sphere.faces[turned]).nearest(points)
    np.testing.assert_allclose(other.distance, found.distance, rtol=1e-12)
    exact = trimesh.proximity.closest_point_naive(sphere, points)[1]
    np.testing.assert_allclose(found.distance, exact, rtol=1e-9, atol=1e-9)


def test_equally_near_triangles_first_wins():
    """Points on shared corners and edges: several triangles at distance 0, in any order of points."""
    sphere = trimesh.creation.icosphere(2, 10.0)
    found = TriangleTree.of(sphere.vertices, sphere.faces).nearest(sphere.vertices)
    first = np.array([np.flatnonzero((sphere.faces == k).any(axis=1)).min() for k in range(len(sphere.vertices))])
    back = TriangleTree.of(sphere.vertices, sphere.faces).nearest(sphere.vertices[::-1])
    assert (found.distance < 1e-12).all()
    exact = found.distance == 0
    assert (found.face[exact] == first[exact]).mean() > 0.9
    assert (back.face[::-1] == found.face).all()


def test_boxes_that_do_not_hold_their_triangles_lose_the_nearest():
    """Mutant: boxes around the triangles' middles alone."""
    rng = np.random.default_rng(5)
    vertices, faces = soup(rng)
    points = rng.normal(size=(200, 3)) * 15
    tree = TriangleTree.of(vertices, faces)
    middle, real = tree.low.copy(), np.isfinite(tree.low)
    middle[real] = (tree.low[real] + tree.high[real]) / 2
    shrunk = TriangleTree(tree.corners, tree.faces, middle, middle)
    assert (shrunk.nearest(points).distance > tree.nearest(points).distance + 1e-6).any()


def test_limit():
    sphere = trimesh.creation.icosphere(3, 10.0)
    points = np.array([[12.0, 0, 0], [30.0, 0, 0]])
    found = TriangleTree.of(sphere.vertices, sphere.faces).nearest(points, 5.0)
    assert found.distance[0] == pytest.approx(2, abs=0.05) and found.face[0] >= 0
    assert np.isinf(found.distance[1]) and found.face[1] == -1


def test_vertices_alone_would_be_too_far():
    """Mutant: the distance to the nearest vertex is not the distance to the surface."""
    corner = 10.0
    vertices = np.array([[0, 0, 0], [0, corner, 0], [0, 0, corner]])
    found = TriangleTree.of(vertices, np.array([[0, 1, 2]])).nearest(np.array([[1.0, 3.0, 3.0]]))
    assert found.distance[0] == pytest.approx(1.0)
    assert np.linalg.norm(vertices - [1.0, 3.0, 3.0], axis=1).min() > 4


def test_one_and_no_triangle():
    with pytest.raises(ValueError, match="without faces"):
        TriangleTree.of(np.zeros((3, 3)), np.zeros((0, 3), int))
    flat = TriangleTree.of(np.zeros((3, 3)), np.array([[0, 1, 2]])).nearest(np.ones((1, 3)))
    assert flat.distance[0] == pytest.approx(3**0.5)
