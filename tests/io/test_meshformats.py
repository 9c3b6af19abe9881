"""OBJ, STL, VTP and fragments, read back by trimesh or by what the formats say."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import trimesh

from cryoscale.io import meshformats
from cryoscale.io.meshes import PlyMesh
from cryoscale.io.meshformats import write_fragment, write_obj, write_stl, write_vtp
from tests.report.scene import BALLS, sphere


@pytest.fixture(scope="module")
def mesh() -> PlyMesh:
    """A sphere of radius 14 with its normals outwards, its middle at z, y, x = 520, -276, 142."""
    ball = sphere(*BALLS[0], rings=24)
    vertices = ball.vertices.astype(np.float64) + np.array([500.0, -300.0, 120.0])
    outwards = (ball.vertices - np.array(BALLS[0][0])) / BALLS[0][1]
    faces = ball.faces[np.ptp(np.sort(ball.faces, axis=1), axis=1) > 0]
    solid = trimesh.Trimesh(vertices, faces, process=False)
    if solid.volume < 0:
        faces = faces[:, ::-1]
    columns = {"sd_nm": np.linspace(0, 1, len(vertices)).astype(np.float32), "seen": np.ones(len(vertices), np.uint8)}
    return PlyMesh(vertices, np.ascontiguousarray(faces), outwards, columns, ("unit angstrom",))


def outward_volume(points: np.ndarray, faces: np.ndarray) -> float:
    """Enclosed volume in x, y, z: positive where faces point outwards."""
    a, b, c = (points[faces[:, k]].astype(float) - points.astype(float).mean(axis=0) for k in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


@pytest.mark.parametrize("rows", [1 << 16, 100])
@pytest.mark.parametrize(("suffix", "write"), [("obj", write_obj), ("stl", write_stl)])
def test_trimesh_reads_them(mesh, suffix, write, rows, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(meshformats, "_ROWS", rows)
    write(tmp_path / f"a.{suffix}", mesh)
    foreign = trimesh.load(tmp_path / f"a.{suffix}", process=False)
    assert len(foreign.faces) == len(mesh.faces)
    assert np.allclose(foreign.bounds, np.array([[128, -290, 506], [156, -262, 534]]), atol=0.1)
    # Mutant: with the corners as they were the reflection turns the solid inside out.
    assert foreign.volume == pytest.approx(4 / 3 * np.pi * 14**3, rel=0.02)
    if suffix == "obj":
        assert np.allclose(foreign.vertices, mesh.vertices[:, ::-1], atol=1e-5)
        assert np.allclose(foreign.vertex_normals, mesh.normals[:, ::-1], atol=1e-5)


def test_vtp_has_every_column(mesh: PlyMesh, tmp_path: Path) -> None:
    write_vtp(tmp_path / "a.vtp", mesh)
    content = (tmp_path / "a.vtp").read_bytes()
    head, data = content.split(b'<AppendedData encoding="raw">_', 1)
    root = ElementTree.fromstring(head + b"</VTKFile>")
    kinds = {"Float32": "<f4", "UInt8": "u1", "Int64": "<i8"}
    columns = {}
    for array in root.iter("DataArray"):
        at = int(array.attrib["offset"])
        (size,) = struct.unpack_from("<Q", data, at)
        columns[array.attrib["Name"]] = np.frombuffer(data[at + 8 : at + 8 + size], kinds[array.attrib["type"]])
    piece = next(root.iter("Piece")).attrib
    assert (int(piece["NumberOfPoints"]), int(piece["NumberOfPolys"])) == (len(mesh.vertices), len(mesh.faces))
    points, faces = columns["Points"].reshape(-1, 3), columns["connectivity"].reshape(-1, 3)
    assert np.allclose(points, mesh.vertices[:, ::-1], atol=1e-4)
    assert outward_volume(points, faces) == pytest.approx(4 / 3 * np.pi * 14**3, rel=0.02)
    assert columns["offsets"][-1] == 3 * len(faces)
    assert np.array_equal(columns["sd_nm"], mesh.properties["sd_nm"])
    assert np.array_equal(columns["seen"], mesh.properties["seen"])
    assert data.endswith(b"</AppendedData></VTKFile>\n")


def test_fragments_are_in_nm(mesh: PlyMesh, tmp_path: Path) -> None:
    write_fragment(tmp_path / "1", mesh, nm_per_unit=0.1)
    content = (tmp_path / "1").read_bytes()
    (count,) = struct.unpack_from("<I", content)
    assert count == len(mesh.vertices)
    points = np.frombuffer(content, "<f4", 3 * count, 4).reshape(-1, 3)
    faces = np.frombuffer(content, "<u4", offset=4 + 12 * count).reshape(-1, 3)
    assert np.allclose(points, mesh.vertices[:, ::-1] / 10, atol=1e-5)
    assert outward_volume(points, faces) == pytest.approx(4 / 3 * np.pi * 1.4**3, rel=0.02)
    assert json.dumps([int(faces.max())]) == f"[{count - 1}]"


def test_a_mesh_without_normals_or_columns(mesh: PlyMesh, tmp_path: Path) -> None:
    bare = PlyMesh(mesh.vertices, mesh.faces)
    write_obj(tmp_path / "a.obj", bare)
    assert trimesh.load(tmp_path / "a.obj", process=False).volume > 0
    write_vtp(tmp_path / "a.vtp", bare)
    assert b"Normals" not in (tmp_path / "a.vtp").read_bytes()
