"""Positions in ångström and the seen flag."""

import numpy as np

from cryoscale.band import band_mesh
from cryoscale.records import Geometry
from cryoscale.surface.mesh import vertex_angstrom, vertex_curvature, vertex_properties
from tests.surface.shapes import band_of, distance_to_sphere


def test_origin_and_voxel_size_are_applied():
    geometry = Geometry((10, 10, 10), (10.0, 11.0, 12.0), (-100.0, 5.0, 0.5))
    found = vertex_angstrom(np.array([[0, 0, 0], [1, 2, 3.5]], np.float32), geometry)
    np.testing.assert_allclose(found, [[-100, 5, 0.5], [-90, 27, 42.5]])


def test_seen_follows_support_in_nm():
    distance = distance_to_sphere((24, 24, 24), (12, 12, 12), 8)
    support = np.moveaxis(np.indices(distance.shape, dtype=float), 0, -1)[..., 0]
    mesh = band_mesh(band_of(distance, sd=0.5, support=support))
    columns = vertex_properties(mesh, 1.4, 16.8)
    np.testing.assert_allclose(columns["sd_nm"], 0.7, rtol=1e-6)
    np.testing.assert_allclose(columns["support_nm"], mesh.vertices[:, 0] * 1.4, rtol=1e-5)
    clear = np.abs(mesh.vertices[:, 0] - 12) > 1e-4
    np.testing.assert_array_equal(columns["seen"][clear] == 1, mesh.vertices[clear, 0] < 12)
    assert columns["seen"].dtype == np.uint8


def test_curvature_is_carried_to_vertices():
    rng = np.random.default_rng(0)
    ways = rng.normal(size=(4000, 3))
    places = 20 * ways / np.linalg.norm(ways, axis=1, keepdims=True)
    bend = np.column_stack([0.05 + 0.01 * places[:, 0] / 20, np.full(len(places), 0.0025)])
    vertices = places[:500] + rng.normal(0, 0.1, (500, 3))
    found = vertex_curvature(vertices, places[500:], bend[500:], voxel_size_nm=2.0)
    np.testing.assert_allclose(found["mean_curvature_per_nm"], bend[:500, 0] / 2, rtol=0.02)
    np.testing.assert_allclose(found["gaussian_curvature_per_nm2"], 0.0025 / 4, rtol=1e-5)
    one = vertex_curvature(vertices, places[:1], bend[:1], voxel_size_nm=1.0)
    np.testing.assert_allclose(one["mean_curvature_per_nm"], bend[0, 0], rtol=1e-6)
