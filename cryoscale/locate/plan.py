"""Units that take touching proteins apart: components in, one row for each protein out.

Components of more than 1.5 balls of the radius are looked at again, a few of them in a unit, each read from its box
slab by slab, so that memory follows its voxels. One last unit writes the table, by component and then by position; it
has the columns ``voxels`` and ``coordinate_sum`` of the table it replaces.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.chunks import Region
from cryoscale.io.files import load_npz, save_npz
from cryoscale.io.omezarr import read_region
from cryoscale.locate.meanshift import assign, modes
from cryoscale.records import Plan, Receipt, Tomogram, Unit
from cryoscale.spec import LocateSpec

__all__ = ["combine", "plan", "split_components"]

CENTRES = "locate/centres.npz"
_MOST_BALLS = 1.5
_BATCH_VOXELS = 50_000
_SLAB_SLICES = 32
_BASE_BYTES = 32 << 20
_VOXEL_BYTES = 400
_BOX_BYTES = 8


def plan(tomogram: Tomogram, spec: LocateSpec, *, located: Mapping[str, Any]) -> Plan:
    """Plan the splitting for one tomogram.

    Parameters
    ----------
    tomogram
        With its geometry.
    spec
        Options, with a radius.
    located
        What grouping the protein voxels returned: ``volume`` and ``regions``.

    Returns
    -------
    dict
        ``regions``, the table of proteins; ``split``, how many components were looked at again; ``count``, proteins.
    """
    table = load_npz(tomogram.path(str(located["regions"])))
    radius = spec.radius_nm / tomogram.known_geometry.voxel_size_nm
    large = np.flatnonzero(table["voxels"] > _MOST_BALLS * 4 / 3 * math.pi * radius**3)
    units, batch = [], np.cumsum(table["voxels"][large]) // _BATCH_VOXELS
    for index, number in enumerate(np.unique(batch)):
        rows = large[batch == number]
        boxes = tuple((int(row), tuple(table["box"][row].tolist())) for row in rows)
        planes = max(int((box[4] - box[1]) * (box[5] - box[2])) for _, box in boxes)
        size = _BASE_BYTES + _VOXEL_BYTES * int(table["voxels"][rows].max()) + _BOX_BYTES * _SLAB_SLICES * planes
        arguments = (tomogram.folder, index, str(located["volume"]), boxes, radius)
        units.append(Unit(("locate-split", tomogram.id, index), split_components, arguments, size))
    receipts = yield units
    files = tuple(name for receipt in receipts for name in receipt.files)
    arguments_of_table = (tomogram.folder, str(located["regions"]), files)
    size = _BASE_BYTES + 200 * len(table["voxels"])
    written = yield [Unit(("locate-table", tomogram.id, 0), combine, arguments_of_table, size)]
    return {"regions": CENTRES, "split": len(large), "count": written[0].numbers["count"]}


def split_components(
    folder: str, index: int, volume: str, boxes: tuple[tuple[int, tuple[int, ...]], ...], radius_voxels: float
) -> Receipt:
    """Find the proteins of a few components; `boxes` are by row of their table, the number less one."""
    rows, voxels, sums = [], [], []
    for row, box in boxes:
        points = _voxels_of(Path(folder) / volume, row + 1, box)
        owner = assign(points, modes(points, radius_voxels))
        parts = np.unique(owner)
        counts = np.bincount(owner)[parts]
        total = np.stack([np.bincount(owner, points[:, axis])[parts] for axis in range(3)], axis=1)
        order = np.lexsort((total / counts[:, None]).T[::-1])
        rows += [row] * len(parts)
        voxels.append(counts[order])
        sums.append(np.rint(total[order]).astype(np.int64))
    name = f"locate/split_{index:04d}.npz"
    columns = {"row": np.array(rows), "voxels": np.concatenate(voxels), "coordinate_sum": np.concatenate(sums)}
    save_npz(Path(folder) / name, **columns)
    return Receipt((name,), {"proteins": len(rows)})


def _voxels_of(path: Path, number: int, box: tuple[int, ...]) -> NDArray[np.int32]:
    """(n, 3) voxels of one component, z, y, x."""
    found = []
    for start in range(box[0], box[3], _SLAB_SLICES):
        low, high = (start, box[1], box[2]), (min(start + _SLAB_SLICES, box[3]), box[4], box[5])
        found.append((np.argwhere(read_region(path, Region(low, high)) == number) + low).astype(np.int32))
    return np.concatenate(found)


def combine(folder: str, regions: str, files: tuple[str, ...]) -> Receipt:
    """Write one table of the components that were left whole and of the proteins that others were taken apart into."""
    root = Path(folder)
    whole = load_npz(root / regions)
    parts = [load_npz(root / name) for name in files]
    again = np.concatenate([part["row"] for part in parts] or [np.zeros(0, np.int64)])
    kept = np.setdiff1d(np.arange(len(whole["voxels"])), again)
    order = np.argsort(np.concatenate([kept, again]), kind="stable")
    table = {
        column: np.concatenate([whole[column][kept], *(part[column] for part in parts)])[order]
        for column in ("voxels", "coordinate_sum")
    }
    save_npz(root / CENTRES, **table)
    return Receipt((CENTRES,), {"count": len(order)})
