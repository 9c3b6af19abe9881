"""Meshes whose geodesics are known."""

import numpy as np
from scipy.spatial import Delaunay

from cryoscale.band import band_mesh
from cryoscale.measure.proteins.foot import Feet
from tests.surface.shapes import band_of, distance_to_sphere


def sphere(radius, *, below=None):
    """Vertices, faces, normals and centre of a sphere as marching cubes gives it; only below a height if asked."""
    side = int(2 * radius + 14)
    centre = np.array([side / 2 + 0.2] * 3)
    mesh = band_mesh(band_of(distance_to_sphere((side,) * 3, tuple(centre), radius)))
    vertices, faces = mesh.vertices.astype(float), mesh.faces
    if below is not None:
        faces = faces[(vertices[faces][:, :, 0] - centre[0] < below).all(axis=1)]
    return vertices, faces, mesh.normals, centre


def plane(count, side, seed=0):
    """Vertices and faces of a square in the plane z = 0, triangles of any shape."""
    points = np.random.default_rng(seed).random((count, 2)) * side
    points = np.concatenate([points, [[0, 0], [0, side], [side, 0], [side, side]]])
    faces = Delaunay(points).simplices
    return np.column_stack([np.zeros(len(points)), points]), faces


def grid(side):
    """Vertices and faces of a square in the plane z = 0, points a little off a grid of steps of 1."""
    points = np.stack(np.meshgrid(np.arange(side + 1.0), np.arange(side + 1.0)), axis=-1).reshape(-1, 2)
    inner = ((points > 0) & (points < side)).all(axis=1)
    points[inner] += np.random.default_rng(0).uniform(-0.3, 0.3, (inner.sum(), 2))
    return np.column_stack([np.zeros(len(points)), points]), Delaunay(points).simplices


def feet_in(vertices, faces, count, seed=0):
    """Points anywhere on a mesh."""
    rng = np.random.default_rng(seed)
    face, weights = rng.choice(len(faces), count), rng.dirichlet([1, 1, 1], count)
    return Feet(face, weights, np.einsum("nc,nck->nk", weights, vertices[faces[face]]), np.zeros(count))
