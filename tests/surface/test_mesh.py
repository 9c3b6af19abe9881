"""Positions in ångström and the seen flag."""

import numpy as np

from cryoscale.band import band_mesh
from cryoscale.records import Geometry
from cryoscale.surface.mesh import vertex_angstrom, vertex_properties
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
