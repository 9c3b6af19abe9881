"""Meshes of bands against analytic shapes, trimesh, and themselves for other tiles."""

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from cryoscale.band import (
    Band,
    Mesh,
    band_mesh,
    euler_number,
    is_closed,
    mesh_area,
    mesh_boundary_edges,
    mesh_volume,
)


def grid(shape):
    return np.moveaxis(np.indices(shape, dtype=float), 0, -1)


def band_of(distance, width=2.5, low=(0, 0, 0), closed=True):
    """The band of a dense distance field whose first voxel is grid point `low`."""
    near = np.abs(distance) <= width
    index = (np.argwhere(near) + np.array(low)).astype(np.int32)
    values = distance[near].astype(np.float32)
    return Band(index, values, (0.5 + 0.01 * index[:, 0]).astype(np.float32), np.abs(values), closed)


def sphere(radius, centre, shape):
    return np.linalg.norm(grid(shape) - centre, axis=-1) - radius


def torus(shape=(22, 60, 60), ring=18.0, tube=6.0):
    z, y, x = np.moveaxis(grid(shape) - (10.3, 29.7, 30.2), -1, 0)
    return np.hypot(np.hypot(y, x) - ring, z) - tube


def from_smallest(faces):
    return {min((a, b, c), (b, c, a), (c, a, b)) for a, b, c in faces.tolist()}


def test_sphere_radius_area_volume():
    centre = np.array([24.3, 23.8, 24.1])
    mesh = band_mesh(band_of(sphere(20, centre, (50, 50, 50))))
    offset = mesh.vertices - centre
    radius = np.linalg.norm(offset, axis=1)
    assert np.abs(radius - 20).max() < 0.02
    assert mesh_area(mesh) == pytest.approx(4 * np.pi * 400, rel=0.02)
    assert mesh_volume(mesh) == pytest.approx(4 / 3 * np.pi * 8000, rel=0.01)
    assert is_closed(mesh) and euler_number(mesh) == 2
    cosine = np.einsum("ij,ij->i", mesh.normals, offset) / radius
    assert cosine.min() > np.cos(np.radians(3))
    np.testing.assert_allclose(mesh.sd, 0.5 + 0.01 * mesh.vertices[:, 0], atol=1e-5)
    oracle = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert oracle.is_watertight and oracle.is_winding_consistent
    assert mesh_area(mesh) == pytest.approx(oracle.area, rel=1e-5)
    assert mesh_volume(mesh) == pytest.approx(oracle.volume, rel=1e-5)
    assert euler_number(mesh) == oracle.euler_number


def test_torus_has_euler_number_0():
    mesh = band_mesh(band_of(torus()), tile=16)
    assert is_closed(mesh)
    assert euler_number(mesh) == 0
    assert mesh_area(mesh) == pytest.approx(4 * np.pi**2 * 18 * 6, rel=0.02)
    assert mesh_volume(mesh) == pytest.approx(2 * np.pi**2 * 18 * 36, rel=0.02)


@pytest.mark.parametrize("low", [(0, 0, 0), (-13, 5, 1000)])
def test_same_mesh_for_any_tile(low):
    """A rough field has ambiguous cells; grid points off the origin must not matter either."""
    noise = np.random.default_rng(3).normal(0, 0.6, (26, 30, 28))
    band = band_of(sphere(9, (12, 14, 13), noise.shape) + noise, width=4, low=low)
    whole = band_mesh(band, tile=512)
    assert len(whole.faces) > 1000
    for tile in (2, 5, 8, 96):
        other = band_mesh(band, tile=tile)
        for name in ("vertices", "faces", "normals", "sd", "support"):
            np.testing.assert_array_equal(getattr(whole, name), getattr(other, name), err_msg=f"{name}, tile {tile}")


def test_a_rough_field_is_meshed_as_its_whole_volume_is():
    """A field of both signs everywhere, ambiguous cells too: the mesh of the dense volume, vertex by vertex."""
    field = np.random.default_rng(5).uniform(-1.9, 1.9, (12, 17, 14)).astype(np.float32)
    field[np.abs(field) < 2e-3] = 0.5
    mesh = band_mesh(band_of(field.astype(float), width=2), tile=6)
    vertices, faces, _, _ = marching_cubes(field, 0.0, gradient_direction="descent")
    assert len(mesh.vertices) == len(vertices) and len(mesh.faces) == len(faces)
    on_edge = ((vertices != np.rint(vertices)).sum(axis=1) == 1).nonzero()[0]
    assert 100 < len(vertices) - len(on_edge) < len(on_edge)
    distance, same = cKDTree(mesh.vertices).query(vertices[on_edge])
    assert distance.max() < 1e-4 and len(np.unique(same)) == len(on_edge)
    number = np.full(len(vertices), -1)
    number[on_edge] = same
    theirs = number[faces][(number[faces] >= 0).all(axis=1)]
    ours = mesh.faces[np.isin(mesh.faces, same).all(axis=1)]
    assert len(ours) > 1000 and from_smallest(ours) == from_smallest(theirs)


def test_a_vertex_inside_a_cell_is_the_mean_of_those_around_it():
    field = np.random.default_rng(5).uniform(-1.9, 1.9, (9, 9, 9))
    mesh = band_mesh(band_of(field, width=2))
    inside = ((mesh.vertices != np.rint(mesh.vertices)).sum(axis=1) == 3).nonzero()[0]
    assert len(inside) > 20
    for vertex in inside:
        around = np.setdiff1d(mesh.faces[(mesh.faces == vertex).any(axis=1)], vertex)
        np.testing.assert_allclose(mesh.vertices[vertex], mesh.vertices[around].mean(axis=0), atol=1e-5)
        assert mesh.sd[vertex] == pytest.approx(mesh.sd[around].mean(), abs=1e-6)


def test_a_tile_without_the_cells_that_reach_across_would_crack(monkeypatch):
    """Mutant: tiles that take only the cells all of whose corners are theirs leave seams."""
    import cryoscale.band as module

    band = band_of(sphere(9, (12, 14, 13), (26, 30, 28)))
    assert is_closed(band_mesh(band, tile=8))
    whole = module._tiles

    def without_last(home, tile):
        inner = np.flatnonzero((home % tile != tile - 1).all(axis=1))
        return [inner[rows] for rows in whole(home[inner], tile)]

    monkeypatch.setattr(module, "_tiles", without_last)
    assert not is_closed(band_mesh(band, tile=8))


def test_open_band_gives_open_mesh():
    z = grid((12, 20, 20))[..., 0] - 5.37
    mesh = band_mesh(band_of(z, closed=False), tile=7)
    assert not is_closed(mesh)
    assert euler_number(mesh) == 1
    assert len(mesh_boundary_edges(mesh.faces)) == 4 * 19
    np.testing.assert_allclose(mesh.vertices[:, 0], 5.37, atol=1e-6)
    np.testing.assert_array_equal(mesh.normals, np.tile([1, 0, 0], (len(mesh.vertices), 1)))
    assert mesh_area(mesh) == pytest.approx(19**2)


def test_surface_on_grid_points_is_still_watertight():
    z, y, x = np.moveaxis(grid((15, 15, 15)) - 7, -1, 0)
    mesh = band_mesh(band_of(np.maximum(np.abs(z), np.maximum(np.abs(y), np.abs(x))) - 4))
    assert is_closed(mesh) and euler_number(mesh) == 2
    assert mesh_volume(mesh) == pytest.approx(8**3, rel=0.1)


def test_a_hole_in_the_band_is_a_hole_in_the_mesh():
    band = band_of(sphere(9, (12, 14, 13), (26, 30, 28)))
    keep = np.linalg.norm(band.index - (12, 14, 22), axis=1) > 3
    cut = Band(band.index[keep], band.distance[keep], band.sd[keep], band.support[keep], True)
    mesh = band_mesh(cut)
    assert not is_closed(mesh)
    assert euler_number(mesh) == 1
    assert band_mesh(band).vertices.shape[0] > mesh.vertices.shape[0]


def test_no_surface_and_empty_band_give_empty_mesh():
    none = Band(np.zeros((0, 3), np.int32), *(np.zeros(0, np.float32),) * 3, True)
    flat = band_of(np.full((4, 4, 4), 1.0))
    for band in (none, flat):
        mesh = band_mesh(band)
        assert mesh.vertices.shape == (0, 3) and mesh.faces.shape == (0, 3)
        assert not is_closed(mesh) and euler_number(mesh) == 0
        assert mesh_area(mesh) == 0 and mesh_volume(mesh) == 0
        assert mesh_boundary_edges(mesh.faces).shape == (0, 2)


def test_boundary_edges_see_a_flipped_face():
    tetrahedron = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]], np.int32)
    assert len(mesh_boundary_edges(tetrahedron)) == 0
    assert len(mesh_boundary_edges(tetrahedron[:3])) == 3
    assert len(mesh_boundary_edges(np.r_[tetrahedron[:3], [[1, 2, 3]]])) == 3


def test_volume_far_from_the_origin():
    near = band_mesh(band_of(sphere(9, (12, 14, 13), (26, 30, 28))))
    far = band_mesh(band_of(sphere(9, (12, 14, 13), (26, 30, 28)), low=(4096, 4096, 4096)))
    assert mesh_volume(far) == pytest.approx(mesh_volume(near), rel=1e-3)


def test_memory_follows_the_band_not_the_box():
    """Two small spheres 1,500 voxels apart: their box would hold 3e9 voxels."""
    ball = sphere(6, (9, 9, 9), (19, 19, 19))
    a, b = band_of(ball), band_of(ball, low=(1500, 1500, 1500))
    both = Band(*(np.concatenate([getattr(a, n), getattr(b, n)]) for n in ("index", "distance", "sd", "support")), True)
    mesh = band_mesh(both)
    assert is_closed(mesh) and euler_number(mesh) == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"index": np.zeros((2, 3), np.int32)}, "raster order"),
        ({"index": np.zeros((2, 3), np.float32)}, "whole numbers"),
        ({"sd": np.zeros(3, np.float32)}, "band.sd"),
        ({"distance": np.array([np.nan, 1], np.float32)}, "band.distance"),
    ],
)
def test_bad_band_is_refused(change, words):
    good = {"index": np.array([[0, 0, 0], [0, 0, 1]], np.int32), "closed": True}
    good |= {name: np.ones(2, np.float32) for name in ("distance", "sd", "support")}
    with pytest.raises(ValueError, match=words):
        band_mesh(Band(**(good | change)))


@pytest.mark.parametrize("tile", [1, 513])
def test_bad_tile_is_refused(tile):
    with pytest.raises(ValueError, match="tile"):
        band_mesh(band_of(np.zeros((2, 2, 2))), tile=tile)


def test_mesh_is_frozen():
    mesh = band_mesh(band_of(np.ones((2, 2, 2))))
    assert isinstance(mesh, Mesh)
    with pytest.raises(AttributeError):
        mesh.sd = None
