"""Measures against analytic shapes and trimesh."""

import numpy as np
import pytest
import trimesh

from cryoscale.band import Mesh, band_mesh
from cryoscale.measure.geometry import measure_surface, sphericity
from tests.surface.shapes import band_of, distance_to_sphere

SHAPE = (50, 50, 50)
CENTRE = (24.3, 24.6, 24.1)


def measured(mesh, *, shape=SHAPE, voxel=10.0, origin=(0.0, 0.0, 0.0), inferred=4.0, believed_closed=True):
    return measure_surface(
        mesh,
        shape=shape,
        voxel_size_angstrom=(voxel,) * 3,
        origin_angstrom=origin,
        inferred_beyond_nm=inferred,
        believed_closed=believed_closed,
    )


def sphere(radius=18.0, centre=CENTRE, shape=SHAPE, **keywords):
    return band_mesh(band_of(distance_to_sphere(shape, centre, radius), **keywords))


def test_sphere_in_nm():
    found = measured(sphere(), voxel=14.0, origin=(100.0, -200.0, 0.0))
    radius = 18 * 1.4
    assert found.closed and found.not_closed_reason == ""
    assert found.area_nm2 == pytest.approx(4 * np.pi * radius**2, rel=0.02)
    assert found.enclosed_volume_nm3 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.01)
    assert found.sphericity == pytest.approx(1, abs=0.02)
    assert (found.euler_number, found.pieces) == (2, 1)
    low = np.array(CENTRE) * 14 + (100, -200, 0) - 18 * 14
    np.testing.assert_allclose(found.low_angstrom, low, atol=1)
    np.testing.assert_allclose(found.high_angstrom, low + 36 * 14, atol=1)


def test_ellipsoid_against_trimesh():
    points = np.moveaxis(np.indices(SHAPE, dtype=float), 0, -1) - CENTRE
    level = (np.linalg.norm(points / (10.0, 14.0, 20.0), axis=-1) - 1) * 10
    mesh = band_mesh(band_of(level))
    found = measured(mesh)
    oracle = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert found.area_nm2 == pytest.approx(oracle.area, rel=1e-5)
    assert found.enclosed_volume_nm3 == pytest.approx(oracle.volume, rel=1e-5)
    assert found.enclosed_volume_nm3 == pytest.approx(4 / 3 * np.pi * 10 * 14 * 20, rel=0.02)
    assert found.sphericity < 0.97


def test_sphericity_of_a_cube():
    assert sphericity(6.0, 1.0) == pytest.approx((np.pi / 6) ** (1 / 3))


def test_fraction_inferred_is_weighted_by_area():
    """The cap above z = c + r / 2 is a quarter of a sphere's area (Archimedes)."""
    height = np.moveaxis(np.indices(SHAPE, dtype=float), 0, -1)[..., 0] - CENTRE[0]
    mesh = band_mesh(band_of(distance_to_sphere(SHAPE, CENTRE, 18.0), support=np.clip(height, 0, None)))
    assert measured(mesh, inferred=9.0).fraction_inferred == pytest.approx(0.25, abs=0.01)
    # Mutant: a mean over vertices differs once half of the surface is meshed finer.
    part = np.flatnonzero((mesh.vertices[mesh.faces, 0] > CENTRE[0] + 9).all(axis=1))
    finer = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).subdivide(part)
    columns = (np.zeros((len(finer.vertices), 3), np.float32), np.ones(len(finer.vertices), np.float32))
    support = np.clip(finer.vertices[:, 0] - CENTRE[0], 0, None).astype(np.float32)
    fine = Mesh(finer.vertices.astype(np.float32), finer.faces.astype(np.int32), *columns, support)
    assert measured(fine, inferred=9.0).fraction_inferred == pytest.approx(0.25, abs=0.01)
    assert abs((support > 9).mean() - 0.25) > 0.1


def test_sd_mean_and_largest():
    distance = distance_to_sphere(SHAPE, CENTRE, 18.0)
    band = band_of(distance)
    height = band.index[:, 0] - CENTRE[0]
    varied = type(band)(band.index, band.distance, (1 + height / 36).astype(np.float32), band.support, True)
    found = measured(band_mesh(varied))
    assert found.mean_sd_nm == pytest.approx(1.0, abs=0.01)
    assert found.max_sd_nm == pytest.approx(1.5, abs=0.02)


def test_cut_by_the_border():
    found = measured(sphere(centre=(10.0, 24.6, 24.1)))
    assert not found.closed
    assert found.enclosed_volume_nm3 is None and found.sphericity is None
    assert found.not_closed_reason == "cut by the volume's border"


def test_open_sheet_and_holes():
    rows = np.moveaxis(np.indices(SHAPE, dtype=float), 0, -1)
    inner = np.where(np.abs(rows[..., 1:] - 25).max(axis=-1) < 15, rows[..., 0] - 20.2, 99)
    sheet = band_mesh(band_of(inner, closed=False))
    found = measured(sheet, believed_closed=False)
    assert found.not_closed_reason == "open sheet" and found.euler_number == 1
    assert found.area_nm2 == pytest.approx(28**2, rel=1e-4)
    assert measured(sheet, believed_closed=True).not_closed_reason == "holes in the surface"
    wide = band_mesh(band_of(rows[..., 0] - 20.2, closed=False))
    assert measured(wide, believed_closed=False).not_closed_reason == "open sheet that reaches the volume's border"
    holed = distance_to_sphere(SHAPE, (10.0, 24.6, 24.1), 18.0)
    holed[26:, 20:30, 20:30] = 99
    reason = measured(band_mesh(band_of(holed))).not_closed_reason
    assert reason == "cut by the volume's border, and holes in the surface"


def test_two_pieces_are_counted():
    both = np.minimum(distance_to_sphere(SHAPE, (14, 14, 14), 8.0), distance_to_sphere(SHAPE, (34, 34, 34), 9.0))
    found = measured(band_mesh(band_of(both)))
    assert (found.pieces, found.euler_number, found.closed) == (2, 4, True)


def test_inside_out_volume_is_still_positive():
    mesh = sphere()
    flipped = Mesh(mesh.vertices, mesh.faces[:, ::-1].copy(), mesh.normals, mesh.sd, mesh.support)
    assert measured(flipped).enclosed_volume_nm3 == pytest.approx(measured(mesh).enclosed_volume_nm3)


def test_empty_mesh_is_refused():
    with pytest.raises(ValueError, match="without faces"):
        measured(band_mesh(band_of(np.ones((3, 3, 3)))))
