"""Meshes that other programs wrote: positions, orientation, welding, refusals."""

import base64
import struct
import zlib

import numpy as np
import pytest
import trimesh

from cryoscale.band import Mesh, is_closed, mesh_volume
from cryoscale.errors import CryoscaleError
from cryoscale.io.meshes import PlyMesh, write_ply
from cryoscale.io.meshfiles import read_mesh
from cryoscale.io.meshformats import write_vtp
from cryoscale.io.vtp import read_vtp


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


@pytest.mark.parametrize("suffix", ["ply", "obj", "stl", "vtp"])
def test_refused(tmp_path, suffix):
    for name, text in (("empty", b""), ("noise", bytes(range(256)) * 9)):
        path = tmp_path / f"{name}.{suffix}"
        path.write_bytes(text)
        with pytest.raises(CryoscaleError, match="mesh not"):
            read_mesh(path)
    with pytest.raises(CryoscaleError, match="cannot be opened"):
        read_mesh(tmp_path / f"absent.{suffix}")


def stored(values, *, packed, word):
    """Parts of an array as VTK stores it: what base64 takes in one stretch each."""
    data = values.tobytes()
    if not packed:
        return [struct.pack(word, len(data)) + data]
    blocks = [data[start : start + 1000] for start in range(0, len(data), 1000)]
    small = [zlib.compress(block) for block in blocks]
    counts = [len(blocks), 1000, len(data) % 1000, *(len(block) for block in small)]
    return [b"".join(struct.pack(word, count) for count in counts), b"".join(small)]


def vtp(mesh, form, *, packed=False, long=True, order="<"):
    """A file of polygons as VTK writes it: `form` is ascii, binary, raw or base64."""
    word = order + ("Q" if long else "I")
    offsets = np.arange(3, 3 * len(mesh.faces) + 1, 3)
    kinds = {"Points": ("Float32", "f4", mesh.vertices), "connectivity": ("Int64", "i8", mesh.faces)}
    kinds["offsets"] = ("Int64", "i8", offsets)
    texts, appended = {}, b""
    for name, (kind, short, values) in kinds.items():
        array = np.ascontiguousarray(values, order + short)
        parts = stored(array, packed=packed, word=word)
        head = f'<DataArray type="{kind}" Name="{name}" NumberOfComponents="{3 if name == "Points" else 1}" '
        if form == "ascii":
            texts[name] = f'{head}format="ascii">\n{" ".join(map(str, array.ravel().tolist()))}\n</DataArray>'
        elif form == "binary":
            inside = b"".join(base64.b64encode(part) for part in parts).decode()
            texts[name] = f'{head}format="binary">\n  {inside}\n</DataArray>'
        else:
            texts[name] = f'{head}format="appended" offset="{len(appended)}"/>'
            appended += b"".join(part if form == "raw" else base64.b64encode(part) for part in parts)
    packer = ' compressor="vtkZLibDataCompressor"' if packed else ""
    ends, size = "LittleEndian" if order == "<" else "BigEndian", 64 if long else 32
    text = (
        f'<?xml version="1.0"?>\n<VTKFile type="PolyData" version="0.1" byte_order="{ends}" header_type="UInt{size}"'
        f'{packer}>\n<PolyData><Piece NumberOfPoints="{len(mesh.vertices)}" NumberOfPolys="{len(mesh.faces)}">\n'
        f"<Points>{texts['Points']}</Points><Polys>{texts['connectivity']}{texts['offsets']}</Polys>"
        "</Piece></PolyData>\n"
    ).encode()
    if form in ("raw", "base64"):
        text += f'<AppendedData encoding="{form}">\n _'.encode() + appended + b"\n</AppendedData>\n"
    return text + b"</VTKFile>\n"


@pytest.mark.parametrize("form", ["ascii", "binary", "raw", "base64"])
@pytest.mark.parametrize("options", [{}, {"packed": True}, {"packed": True, "long": False, "order": ">"}])
def test_vtp_however_its_numbers_are_stored(tmp_path, form, options):
    mesh = ellipsoid()
    (tmp_path / "a.vtp").write_bytes(vtp(mesh, form, **options))
    points, faces = read_vtp(tmp_path / "a.vtp")
    np.testing.assert_allclose(points, mesh.vertices, atol=1e-5)
    np.testing.assert_array_equal(faces, mesh.faces)
    assert volume(read_mesh(tmp_path / "a.vtp", "nm")) == pytest.approx(1000 * mesh.volume, rel=1e-5)


def test_vtp_of_our_own(tmp_path):
    mesh = ellipsoid()
    write_vtp(tmp_path / "a.vtp", PlyMesh(mesh.vertices[:, ::-1], mesh.faces[:, [0, 2, 1]].astype(np.int32)))
    assert volume(read_mesh(tmp_path / "a.vtp")) == pytest.approx(mesh.volume, rel=1e-5)


def test_polygons_become_triangles(tmp_path):
    text = vtp(trimesh.creation.box((2, 2, 2)), "ascii").decode()
    corners = "0 1 3 2  4 6 7 5  0 4 5 1  2 3 7 6  0 2 6 4  1 5 7"
    head, tail = text.split('Name="connectivity"')
    tail = tail[: tail.index(">")] + f">{corners} 3</DataArray>" + tail[tail.index("<DataArray") :]
    tail = tail[: tail.rindex(">\n", 0, tail.rindex("</DataArray>"))] + ">4 8 12 16 20 24</DataArray></Polys></Piece>"
    (tmp_path / "a.vtp").write_text(f'{head}Name="connectivity"{tail}</PolyData></VTKFile>')
    assert volume(read_mesh(tmp_path / "a.vtp")) == pytest.approx(8)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b'"PolyData"', b'"UnstructuredGrid"', "not a VTKFile of PolyData"),
        (b"vtkZLibDataCompressor", b"vtkLZ4DataCompressor", "packed by vtkLZ4DataCompressor"),
        (b"</Points>", b"", "no XML"),
        (b'NumberOfPolys="1280"', b'NumberOfPolys="0"', "0 triangles"),
        (b'offset="0"', b'offset="9999999"', "0 of 8 bytes"),
        (b'"Float32"', b'"Float23"', "Float23"),
    ],
)
def test_vtp_that_cannot_be_read(tmp_path, old, new, why):
    whole = vtp(ellipsoid(), "raw", packed=True)
    assert old in whole
    (tmp_path / "a.vtp").write_bytes(whole.replace(old, new, 1) if old != b'"PolyData"' else whole.replace(old, new))
    with pytest.raises(CryoscaleError, match=why):
        read_mesh(tmp_path / "a.vtp")
    (tmp_path / "a.vtp").write_bytes(whole[:-900])
    with pytest.raises(CryoscaleError, match="mesh not readable"):
        read_mesh(tmp_path / "a.vtp")
