"""Meshes for other programs: OBJ, STL, VTP and neuroglancer's fragments; PLY has a file of its own (`meshes`).

======== ================================================= ==========================================
format   opens in                                          keeps
======== ================================================= ==========================================
obj      ChimeraX, Blender, MeshLab, membrain-pick         vertices, normals, faces
stl      IMOD, Blender, Amira                              triangles alone
vtp      ParaView, surface_morphometrics, PyVista          vertices, normals, faces, every column
fragment neuroglancer (legacy, single resolution)          vertices in nm, faces
======== ================================================= ==========================================

Positions go out as x, y, z in the unit they came in; as in `meshes`, the corners of a face are swapped with the axes,
so that normals keep pointing outwards. Rows are written in blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from cryoscale.io.files import atomic_write
from cryoscale.io.meshes import PlyMesh

__all__ = ["write_fragment", "write_obj", "write_stl", "write_vtp"]

_ROWS = 1 << 16
_VTK_TYPES = {"f4": "Float32", "f8": "Float64", "u1": "UInt8", "i1": "Int8", "u2": "UInt16", "i2": "Int16"} | {
    "u4": "UInt32",
    "i4": "Int32",
}


def _xyz(values: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values[:, ::-1], "<f4")


def _corners(mesh: PlyMesh) -> NDArray[np.int32]:
    return np.ascontiguousarray(mesh.faces[:, [0, 2, 1]], "<i4")


def _blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, _ROWS):
        yield slice(start, start + _ROWS)


def write_obj(path: str | Path, mesh: PlyMesh) -> None:
    """Write a mesh as Wavefront OBJ, whole or not at all; its comments come first."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as stream:
        stream.writelines(f"# {text}\n" for text in mesh.comments)
        for letter, values in (("v", mesh.vertices), ("vn", mesh.normals)):
            if values is not None:
                for rows in _blocks(len(values)):
                    stream.writelines(f"{letter} {x:.9g} {y:.9g} {z:.9g}\n" for z, y, x in values[rows].tolist())
        # A vertex and its normal have the same number, counted from 1.
        form = "f {0}//{0} {1}//{1} {2}//{2}\n" if mesh.normals is not None else "f {0} {1} {2}\n"
        corners = _corners(mesh)
        for rows in _blocks(len(corners)):
            stream.writelines(form.format(*face) for face in (corners[rows] + 1).tolist())


def write_stl(path: str | Path, mesh: PlyMesh) -> None:
    """Write a mesh as binary STL, whole or not at all."""
    row = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    points, corners = _xyz(mesh.vertices), _corners(mesh)
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        stream.write(b"binary STL, unit angstrom".ljust(80) + struct.pack("<I", len(corners)))
        for rows in _blocks(len(corners)):
            part = np.zeros(len(corners[rows]), row)
            part["corners"] = points[corners[rows]]
            a, b, c = (part["corners"][:, k].astype(np.float64) for k in range(3))
            normal = np.cross(b - a, c - a)
            part["normal"] = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
            stream.write(part.tobytes())


def write_vtp(path: str | Path, mesh: PlyMesh) -> None:
    """Write a mesh as VTK XML PolyData with its columns, numbers as appended raw data; whole or not at all."""
    corners = _corners(mesh)
    offsets = np.arange(3, 3 * len(corners) + 1, 3, dtype="<i8")
    points = [("Normals", 3, _xyz(mesh.normals))] if mesh.normals is not None else []
    points += [(name, 1, np.ascontiguousarray(values)) for name, values in mesh.properties.items()]
    parts = [
        *points,
        ("Points", 3, _xyz(mesh.vertices)),
        ("connectivity", 1, corners.astype("<i8")),
        ("offsets", 1, offsets),
    ]
    described, at = [], 0
    for name, width, values in parts:
        kind = "Int64" if values.dtype.str[1:] == "i8" else _VTK_TYPES[values.dtype.str[1:]]
        of = f' NumberOfComponents="{width}"' if width > 1 else ""
        described.append(f'<DataArray type="{kind}" Name="{name}"{of} format="appended" offset="{at}"/>')
        at += 8 + values.nbytes
    normals = ' Normals="Normals"' if mesh.normals is not None else ""
    text = (
        '<?xml version="1.0"?>\n'
        '<VTKFile type="PolyData" version="1.0" byte_order="LittleEndian" header_type="UInt64">\n'
        f'<PolyData><Piece NumberOfPoints="{len(mesh.vertices)}" NumberOfPolys="{len(corners)}">\n'
        f"<PointData{normals}>{''.join(described[: len(points)])}</PointData>\n"
        f"<Points>{described[len(points)]}</Points>\n<Polys>{''.join(described[len(points) + 1 :])}</Polys>\n"
        '</Piece></PolyData>\n<AppendedData encoding="raw">_'
    )
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        stream.write(text.encode("ascii"))
        for _, _, values in parts:
            stream.write(struct.pack("<Q", values.nbytes))
            _write_array(stream, values)
        stream.write(b"</AppendedData></VTKFile>\n")


def _write_array(stream: BinaryIO, values: NDArray[np.generic]) -> None:
    for rows in _blocks(len(values)):
        stream.write(values[rows].astype(values.dtype.newbyteorder("<")).tobytes())


def write_fragment(path: str | Path, mesh: PlyMesh, *, nm_per_unit: float) -> None:
    """Write a mesh as a fragment of neuroglancer's single-resolution format, in nm; whole or not at all."""
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        stream.write(struct.pack("<I", len(mesh.vertices)))
        _write_array(stream, _xyz(mesh.vertices) * np.float32(nm_per_unit))
        _write_array(stream, _corners(mesh))
