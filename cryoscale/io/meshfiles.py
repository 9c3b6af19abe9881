"""Triangle meshes from anywhere: PLY, OBJ, STL, OFF as other programs write them, read by trimesh, and VTP.

Positions become z, y, x in ångström. Corners that formats without shared vertices (STL) repeat are welded, faces of a
closed mesh that point inward are turned round, and a surface's own columns (``sd_nm`` ...) stay where the file is one
of cryoscale's.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from cryoscale.errors import TomogramError
from cryoscale.io.inputs import open_regular
from cryoscale.io.meshes import PlyMesh, read_ply
from cryoscale.io.vtp import read_vtp

__all__ = ["MESH_SUFFIXES", "UNITS", "read_mesh"]

MESH_SUFFIXES = (".ply", ".obj", ".stl", ".off", ".vtp")
UNITS = {"angstrom": 1.0, "nm": 10.0}


def read_mesh(path: str | Path, unit: str = "angstrom") -> PlyMesh:
    """Read a mesh of triangles.

    Parameters
    ----------
    path
    unit
        Of the positions in the file, a key of `UNITS`.

    Raises
    ------
    TomogramError
        It cannot be read, has no triangles, or positions that are not finite.
    """
    path, scale = Path(path), UNITS[unit]
    descriptor, _ = open_regular(path)
    os.close(descriptor)
    if path.suffix.lower() == ".ply":
        try:
            own = read_ply(path)
        except TomogramError:
            own = None
        if own is not None and "sd_nm" in own.properties:
            return own
    return _foreign(path, scale)


def _foreign(path: Path, scale: float) -> PlyMesh:
    # Half a second that only this verb needs.
    import trimesh

    try:
        if path.suffix.lower() == ".vtp":
            found = trimesh.Trimesh(*read_vtp(path), process=True)
        else:
            found = trimesh.load(path, file_type=path.suffix.lower()[1:], force="mesh", process=True)
        vertices = np.asarray(found.vertices, np.float64)[:, ::-1] * scale
        faces = np.asarray(found.faces, np.int64).reshape(-1, 3)[:, [0, 2, 1]]
    except Exception as error:
        raise TomogramError(
            "mesh not readable", where=str(path), found=error, allowed=f"triangles in {', '.join(MESH_SUFFIXES)}"
        ) from error
    if not len(faces) or not np.isfinite(vertices).all():
        raise TomogramError("mesh not usable", where=str(path), found=f"{len(faces)} triangles", allowed="finite ones")
    if found.is_watertight and found.volume < 0:
        faces = faces[:, ::-1]
    return PlyMesh(vertices, faces.astype(np.int32))
