"""Meshes that other programs wrote: positions, orientation, welding, refusals."""

import numpy as np
import pytest
import trimesh

from cryoscale.band import Mesh, is_closed, mesh_volume
from cryoscale.errors import CryoscaleError
from cryoscale.io.meshes import PlyMesh, write_ply
from cryoscale.io.meshfiles import read_mesh


def ellipsoid():
    """Half axes 3, 4, 5 along x, y, z."""
    mesh = trimesh.creation.icosphere(3, 1.0)
    return trimesh.Trimesh(mesh.vertices * (3.0, 4.0, 5.0) + (10, 20, 30), mesh.faces, process=False)


def volume(mesh):
    blank = np.zeros(len(mesh.vertices), np.float32)
    made = Mesh(mesh.vertices.astype(np.float32), mesh.faces, mesh.vertices.astype(np.float32), blank, blank)
    assert is_closed(made)
    return mesh_volume(made)


@pytest.mark.parametrize("suffix", ["ply", "obj", "stl", "off"])
def test_axes_welding_and_orientation(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    ellipsoid().export(path)
    found = read_mesh(path)
    np.testing.assert_allclose(found.vertices.min(axis=0), (25, 16, 7), atol=1e-5)
    np.testing.assert_allclose(found.vertices.max(axis=0), (35, 24, 13), atol=1e-5)
    assert len(found.vertices) == 642
    assert volume(found) == pytest.approx(ellipsoid().volume, rel=1e-5)
    assert volume(read_mesh(path, "nm")) == pytest.approx(1000 * ellipsoid().volume, rel=1e-5)


def test_inside_out_is_turned_round(tmp_path):
    mesh = ellipsoid()
    trimesh.Trimesh(mesh.vertices, mesh.faces[:, ::-1], process=False).export(tmp_path / "a.stl")
    assert volume(read_mesh(tmp_path / "a.stl")) > 0


def test_own_columns_stay(tmp_path):
    mesh = ellipsoid()
    sd = np.linspace(0, 1, len(mesh.vertices)).astype(np.float32)
    own = PlyMesh(mesh.vertices[:, ::-1], mesh.faces[:, [0, 2, 1]].astype(np.int32), None, {"sd_nm": sd})
    write_ply(tmp_path / "a.ply", own)
    np.testing.assert_array_equal(read_mesh(tmp_path / "a.ply").properties["sd_nm"], sd)


@pytest.mark.parametrize("suffix", ["ply", "obj", "stl"])
def test_refused(tmp_path, suffix):
    for name, text in (("empty", b""), ("noise", bytes(range(256)) * 9)):
        path = tmp_path / f"{name}.{suffix}"
        path.write_bytes(text)
        with pytest.raises(CryoscaleError, match="mesh not"):
            read_mesh(path)
    with pytest.raises(CryoscaleError, match="cannot be opened"):
        read_mesh(tmp_path / f"absent.{suffix}")
