"""PLY against trimesh as an independent reader and writer; damaged files."""

import numpy as np
import pytest
import trimesh

from cryoscale.errors import TomogramError
from cryoscale.io import meshes
from cryoscale.io.meshes import PlyMesh, read_ply, write_ply


def tetrahedron():
    """Outward faces in z, y, x."""
    vertices = np.array([[0, 0, 0], [4, 0, 0], [0, 3, 0], [0, 0, 2]], float)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)
    normals = np.eye(4)[:, :3]
    columns = {"sd_nm": np.array([0.1, 0.2, 0.3, 0.4], np.float32), "seen": np.array([1, 0, 1, 1], np.uint8)}
    return PlyMesh(vertices, faces, normals, columns, ("unit angstrom",))


def test_round_trip(tmp_path):
    mesh = tetrahedron()
    write_ply(tmp_path / "a.ply", mesh)
    back = read_ply(tmp_path / "a.ply")
    np.testing.assert_array_equal(back.vertices, mesh.vertices)
    np.testing.assert_array_equal(back.faces, mesh.faces)
    np.testing.assert_array_equal(back.normals, mesh.normals)
    assert set(back.properties) == {"sd_nm", "seen"} and back.comments == ("unit angstrom",)
    for name, values in mesh.properties.items():
        np.testing.assert_array_equal(back.properties[name], values)
        assert back.properties[name].dtype == values.dtype


def test_trimesh_reads_x_y_z_and_outward_faces(tmp_path):
    mesh = tetrahedron()
    write_ply(tmp_path / "a.ply", mesh)
    foreign = trimesh.load(tmp_path / "a.ply", process=False)
    np.testing.assert_array_equal(foreign.vertices, mesh.vertices[:, ::-1])
    assert foreign.is_watertight and foreign.volume == pytest.approx(4.0)
    np.testing.assert_allclose(foreign.metadata["_ply_raw"]["vertex"]["data"]["sd_nm"], mesh.properties["sd_nm"])
    # Mutant: without the swap of corners the reflection turns the solid inside out.
    inside_out = PlyMesh(mesh.vertices, mesh.faces[:, [0, 2, 1]])
    write_ply(tmp_path / "b.ply", inside_out)
    assert trimesh.load(tmp_path / "b.ply", process=False).volume == pytest.approx(-4.0)


def test_reads_what_trimesh_writes(tmp_path):
    ball = trimesh.creation.icosphere(subdivisions=1)
    (tmp_path / "a.ply").write_bytes(trimesh.exchange.ply.export_ply(ball, vertex_normal=True))
    mesh = read_ply(tmp_path / "a.ply")
    np.testing.assert_allclose(mesh.vertices[:, ::-1], ball.vertices, atol=1e-6)
    np.testing.assert_allclose(mesh.normals[:, ::-1], ball.vertex_normals, atol=1e-6)
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    assert np.einsum("ij,ij->", a, np.cross(b, c)) > 0


def test_blocks_of_rows_join(tmp_path, monkeypatch):
    rng = np.random.default_rng(2)
    mesh = PlyMesh(rng.normal(size=(100, 3)).astype(np.float32), rng.integers(0, 100, (150, 3)).astype(np.int32))
    write_ply(tmp_path / "a.ply", mesh)
    monkeypatch.setattr(meshes, "_ROWS", 7)
    write_ply(tmp_path / "b.ply", mesh)
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()
    np.testing.assert_array_equal(read_ply(tmp_path / "b.ply").vertices, mesh.vertices)


def test_empty_mesh(tmp_path):
    write_ply(tmp_path / "a.ply", PlyMesh(np.zeros((0, 3)), np.zeros((0, 3), np.int32)))
    back = read_ply(tmp_path / "a.ply")
    assert back.vertices.shape == (0, 3) and back.faces.shape == (0, 3) and back.normals is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"faces": np.array([[0, 1, 4]], np.int32)}, "vertices 0 to 4"),
        ({"faces": np.zeros((1, 4), np.int32)}, "faces"),
        ({"vertices": np.full((4, 3), np.nan)}, "not finite"),
        ({"normals": np.zeros((3, 3))}, "normals"),
        ({"properties": {"sd nm": np.zeros(4)}}, "sd nm"),
        ({"properties": {"x": np.zeros(4)}}, "'x'"),
        ({"properties": {"n": np.zeros(4, np.int64)}}, "types"),
        ({"properties": {"n": np.zeros(4, complex)}}, "number type"),
        ({"comments": ("two\nlines",)}, "comments"),
    ],
)
def test_bad_mesh_is_refused_and_nothing_is_left(tmp_path, change, words):
    fields = tetrahedron().__dict__ | change
    with pytest.raises(ValueError, match=words):
        write_ply(tmp_path / "a.ply", PlyMesh(**fields))
    assert list(tmp_path.iterdir()) == []


def damaged():
    head = b"ply\nformat binary_little_endian 1.0\nelement vertex %d\nproperty float x\nproperty float y\n"
    tail = b"property float z\nelement face %d\nproperty list uchar int vertex_indices\nend_header\n"
    body = np.zeros(9, "<f4").tobytes()
    face = b"\x03" + np.array([0, 1, 2], "<i4").tobytes()
    yield "empty", b""
    yield "not ply", b"solid cube\n" * 5
    yield "no end", b"ply\n" * 5000
    yield "one long line", b"ply" + b"x" * 100_000
    yield "ascii", (head % 3).replace(b"binary_little_endian", b"ascii") + tail % 1 + body + face
    yield "cut", head % 3 + tail % 1 + body + face[:-1]
    yield "too long", head % 3 + tail % 1 + body + face + b"x"
    yield "huge count", head % (2**31 - 1) + tail % 1 + body + face
    yield "negative count", (head % 3).replace(b"vertex 3", b"vertex -3") + tail % 1 + body + face
    yield "no vertex number", head % 3 + tail % 1 + body + b"\x03" + np.array([0, 1, 3], "<i4").tobytes()
    yield "quad", head % 3 + tail % 1 + body + b"\x04" + face[1:]
    yield "no z", head % 3 + (tail % 1).replace(b"float z", b"float w") + body + face
    yield "x twice", head % 3 + (tail % 1).replace(b"float z", b"float x") + body + face
    yield "no faces", (head % 0) + b"end_header\n"
    yield "unknown type", head % 3 + (tail % 1).replace(b"float z", b"quad z") + body + face
    yield "property first", b"ply\nformat binary_little_endian 1.0\nproperty float x\nend_header\n"
    yield "bad word", b"ply\nformat binary_little_endian 1.0\nnonsense\nend_header\n"


@pytest.mark.parametrize(("name", "content"), [pytest.param(*case, id=case[0]) for case in damaged()])
def test_damaged_file_is_refused(tmp_path, name, content):
    (tmp_path / "a.ply").write_bytes(content)
    with pytest.raises(TomogramError, match=r"a\.ply"):
        read_ply(tmp_path / "a.ply")
