"""Meshes as binary PLY: read by ChimeraX, MeshLab, Blender, ParaView, trimesh and Open3D.

Inside cryoscale positions are z, y, x; in the file they are x, y, z. Swapping two axes is a reflection, which would
turn every face inside out, so the order of each face's corners is swapped with it: normals point outwards on both
sides of the door. Vertices carry any further scalar columns under their own names (``sd_nm``, ``seen`` ...).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cryoscale.errors import TomogramError
from cryoscale.io.files import atomic_write

__all__ = ["PlyMesh", "read_ply", "write_ply"]

_TYPES = {"f4": "float", "f8": "double", "u1": "uchar", "i1": "char", "u2": "ushort", "i2": "short", "i4": "int"} | {
    "u4": "uint"
}
_NAMES = {name: code for code, name in _TYPES.items()} | {
    "float32": "f4",
    "float64": "f8",
    "uint8": "u1",
    "int8": "i1",
    "uint16": "u2",
    "int16": "i2",
    "int32": "i4",
    "uint32": "u4",
}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
_ROWS = 1 << 16
_HEADER_LINES = 1000
_LINE_BYTES = 4096


@dataclass(frozen=True)
class PlyMesh:
    """A triangle mesh as a file holds it, in z, y, x."""

    vertices: NDArray[np.floating]
    """(n, 3) positions z, y, x, in the file's unit (cryoscale's own files: ångström)."""
    faces: NDArray[np.int32]
    """(m, 3) vertex numbers; (b - a) x (c - a), taken on (z, y, x), points outwards."""
    normals: NDArray[np.floating] | None = None
    """(n, 3) z, y, x, where the file has them."""
    properties: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Further scalar columns of the vertices, each (n,)."""
    comments: tuple[str, ...] = ()


def write_ply(path: str | Path, mesh: PlyMesh) -> None:
    """Write a mesh, whole or not at all, in blocks of rows.

    Parameters
    ----------
    path
    mesh
        Positions and normals are stored as float32.

    Raises
    ------
    ValueError
        If lengths disagree, a face names a vertex that is not there, a value is not finite, a property's type has no
        PLY name, or a name or comment could not be read back.
    """
    _check(mesh)
    columns: dict[str, NDArray[Any]] = {}
    for names, values in ((("x", "y", "z"), mesh.vertices), (("nx", "ny", "nz"), mesh.normals)):
        if values is not None:
            columns |= {name: values[:, axis].astype("<f4") for name, axis in zip(names, (2, 1, 0), strict=True)}
    columns |= {name: values.astype(values.dtype.newbyteorder("<")) for name, values in mesh.properties.items()}
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        stream.write(_header(mesh, columns).encode("ascii"))
        _write_rows(stream, columns, len(mesh.vertices))
        faces = {name: mesh.faces[:, corner].astype("<i4") for name, corner in (("a", 0), ("b", 2), ("c", 1))}
        _write_rows(stream, {"n": np.full(len(mesh.faces), 3, "u1")} | faces, len(mesh.faces))


def _check(mesh: PlyMesh) -> None:
    count = len(mesh.vertices)
    columns: dict[str, tuple[NDArray[Any], tuple[int, ...]]] = {
        "vertices": (mesh.vertices, (count, 3)),
        "faces": (mesh.faces, (len(mesh.faces), 3)),
    }
    if mesh.normals is not None:
        columns["normals"] = (mesh.normals, (count, 3))
    columns |= {name: (values, (count,)) for name, values in mesh.properties.items()}
    for name, (values, shape) in columns.items():
        if values.shape != shape or values.dtype.str[1:] not in (*_TYPES, "i8"):
            msg = f"{name} must be a {shape} array of a plain number type, not {values.dtype} of {values.shape}"
            raise ValueError(msg)
        if not np.isfinite(values).all():
            msg = f"{name} holds values that are not finite"
            raise ValueError(msg)
    if mesh.faces.size and not (mesh.faces.min() >= 0 and mesh.faces.max() < count):
        msg = f"faces name vertices {mesh.faces.min()} to {mesh.faces.max()}, there are {count}"
        raise ValueError(msg)
    if any(values.dtype.str[1:] not in _TYPES for values in mesh.properties.values()):
        msg = f"properties must be of types {', '.join(_TYPES)}"
        raise ValueError(msg)
    reserved = {"x", "y", "z", "nx", "ny", "nz"}
    for name in mesh.properties:
        if not (name.isascii() and name.isidentifier()) or name in reserved:
            msg = f"property name {name!r} must be an identifier other than {', '.join(sorted(reserved))}"
            raise ValueError(msg)
    if not all(text.isascii() and text.isprintable() and len(text) < _LINE_BYTES - 10 for text in mesh.comments):
        msg = "comments must be single lines of printable ASCII"
        raise ValueError(msg)


def _header(mesh: PlyMesh, columns: Mapping[str, NDArray[Any]]) -> str:
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {text}" for text in mesh.comments)]
    lines.append(f"element vertex {len(mesh.vertices)}")
    lines += [f"property {_TYPES[values.dtype.str[1:]]} {name}" for name, values in columns.items()]
    lines += [f"element face {len(mesh.faces)}", "property list uchar int vertex_indices", "end_header", ""]
    return "\n".join(lines)


def _write_rows(stream: BinaryIO, columns: Mapping[str, NDArray[Any]], count: int) -> None:
    rows = np.empty(min(_ROWS, count), [(name, values.dtype) for name, values in columns.items()])
    for start in range(0, count, _ROWS):
        part = rows[: min(_ROWS, count - start)]
        for name, values in columns.items():
            part[name] = values[start : start + len(part)]
        stream.write(part.tobytes())


def read_ply(path: str | Path, start: int = 0, length: int | None = None) -> PlyMesh:
    """Read a binary PLY mesh of triangles.

    Parameters
    ----------
    path
    start, length
        Bytes that are the mesh, where the file holds others too; None is to its end.

    Raises
    ------
    TomogramError
        It is not such a file, is cut short, or its faces name vertices that are not there. Nothing is allocated
        before the file's length was compared with what its header promises.
    """
    path = Path(path)
    with path.open("rb") as stream:
        stream.seek(start)
        order, elements, comments = _read_header(stream, path)
        if [name for name, _, _ in elements] != ["vertex", "face"]:
            raise _bad(path, "elements", [name for name, _, _ in elements], "vertex, then face")
        (_, count, fields), (_, face_count, face_fields) = elements
        vertex_type = np.dtype([(name, order + code) for name, code in fields])
        if len(face_fields) != 1 or not face_fields[0][1].startswith("list"):
            raise _bad(path, "face properties", face_fields, "one list of vertex numbers")
        size, item = face_fields[0][1].split()[1:]
        face_type = np.dtype([("n", order + size), ("corners", order + item, (3,))])
        expected = stream.tell() - start + count * vertex_type.itemsize + face_count * face_type.itemsize
        there = max(path.stat().st_size - start, 0)
        found = there if length is None else min(length, there)
        if found != expected:
            raise _bad(path, "length", f"{found} bytes", f"{expected} bytes, all faces triangles")
        vertices = np.fromfile(stream, vertex_type, count)
        faces = np.fromfile(stream, face_type, face_count)
    return _assemble(path, vertices, faces, comments)


def _assemble(path: Path, vertices: NDArray[Any], faces: NDArray[Any], comments: tuple[str, ...]) -> PlyMesh:
    names = vertices.dtype.names or ()
    if not {"x", "y", "z"} <= set(names):
        raise _bad(path, "vertex properties", names, "x, y and z among them")
    if (faces["n"] != 3).any():
        raise _bad(path, "faces", "polygons", "triangles")
    corners = faces["corners"].astype(np.int64)
    if corners.size and not (corners.min() >= 0 and corners.max() < len(vertices)):
        raise _bad(path, "faces", f"vertex {corners.max()}", f"0 to {len(vertices) - 1}")
    axes = {name: vertices[name].astype(vertices[name].dtype.newbyteorder("=")) for name in names}
    normals = None
    if {"nx", "ny", "nz"} <= set(names):
        normals = np.column_stack([axes.pop(name) for name in ("nz", "ny", "nx")])
    positions = np.column_stack([axes.pop(name) for name in "zyx"])
    return PlyMesh(positions, corners[:, [0, 2, 1]].astype(np.int32), normals, axes, comments)


_Element = tuple[str, int, list[tuple[str, str]]]


def _read_header(stream: BinaryIO, path: Path) -> tuple[str, list[_Element], tuple[str, ...]]:
    """Byte order, elements (name, count, [(property, type)]) and comments."""
    lines: list[str] = []
    while len(lines) < _HEADER_LINES:
        raw = stream.readline(_LINE_BYTES)
        lines.append(raw.decode("latin-1").strip())
        if not raw.endswith(b"\n") or lines[-1] == "end_header":
            break
    if lines[0] != "ply" or lines[-1] != "end_header":
        raise _bad(path, "header", repr(lines[0][:20]), "'ply' ... 'end_header'")
    order, elements, comments = "", list[_Element](), []
    for line in lines[1:-1]:
        try:
            match line.split(maxsplit=1)[0] if line else "":
                case "format":
                    order = _ORDERS[line.split()[1]]
                case "element":
                    _, name, count = line.split()
                    elements.append((name, _count(count), []))
                case "property":
                    elements[-1][2].append(_property(line))
                case "comment":
                    comments.append(line[8:])
                case "obj_info" | "":
                    pass
                case _:
                    raise ValueError(line)
        except (ValueError, KeyError, IndexError) as error:
            raise _bad(path, "header line", repr(line[:80]), "binary PLY 1.0") from error
    if not order or any(len({name for name, _ in fields}) != len(fields) for _, _, fields in elements):
        raise _bad(path, "header", "no format, or a property twice", "binary PLY 1.0")
    return order, elements, tuple(comments)


def _count(text: str) -> int:
    count = int(text)
    if not 0 <= count < 1 << 31:
        raise ValueError(text)
    return count


def _property(line: str) -> tuple[str, str]:
    words = line.split()
    if words[1] == "list":
        _, _, size, item, name = words
        return name, f"list {_NAMES[size]} {_NAMES[item]}"
    _, kind, name = words
    return name, _NAMES[kind]


def _bad(path: Path, what: str, found: object, allowed: str) -> TomogramError:
    return TomogramError(f"mesh file not readable: {what}", where=str(path), found=found, allowed=allowed)
