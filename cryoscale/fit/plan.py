"""Units of the fit stage: a few membranes each, sorted by size, solved in one batch.

A unit reads its membranes' voxels (or the ridge of the score inside them, where there is a score) tile by tile of the
membranes' boxes, so that a thin membrane across the whole volume costs no more memory than a small one; fits the
surfaces, and writes each one's narrow band to ``fits/<number>.npz``, with curvatures and how its errors hang together
(`sites`), and with the points that were left out before the fit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.band import Band, band_file
from cryoscale.chunks import Region
from cryoscale.fit import Surface, fit_surfaces, projected_bytes, ridge_points
from cryoscale.fit.ridge import RIDGE_HALO
from cryoscale.fit.sites import surface_sites
from cryoscale.fit.tube import MICROTUBULE_NM, tube_radius
from cryoscale.fit.walls import is_wall, tube_of_walls
from cryoscale.io.files import load_npz, save_npz
from cryoscale.io.omezarr import read_region, read_values
from cryoscale.records import Geometry, Plan, Receipt, Tomogram, Unit
from cryoscale.spec import FitSpec

__all__ = ["fit_batch", "plan", "tile_bytes"]

_TILE_VOXELS = 64
_BATCH_VOXELS = 400_000
"""A unit takes no further membrane once it has this many voxels, so that large ones run alone."""

Member = tuple[int, Region, int]
"""A membrane's number, bounding box and voxel count."""


def plan(tomogram: Tomogram, spec: FitSpec, *, instances: str, regions: str, scores: str = "") -> Plan:
    """Plan one fit per region.

    Parameters
    ----------
    tomogram
        With its geometry.
    spec
        Options of the stage.
    instances, regions
        The volume of region numbers and the table of regions (.npz), in the tomogram's folder.
    scores
        The volume of membrane scores, empty where there is none.

    Returns
    -------
    Summary with ``membranes``: for each number what was chosen, or the reason why there is no surface.
    """
    table = load_npz(tomogram.path(regions))
    members = [
        (row + 1, Region(tuple(map(int, box[:3])), tuple(map(int, box[3:]))), int(count))
        for row, (box, count) in enumerate(zip(table["box"], table["voxels"], strict=True))
    ]
    scores_path = str(tomogram.path(scores)) if scores else ""
    receipts = yield [
        Unit(
            ("fit", tomogram.id, index),
            fit_batch,
            (tomogram.folder, str(tomogram.path(instances)), scores_path, batch, tomogram.known_geometry, spec),
            max(projected_bytes(count) + tile_bytes(box) for _, box, count in batch),
        )
        for index, batch in enumerate(_batches(members, spec.batch_membranes))
    ]
    fitted = [entry for receipt in receipts for entry in receipt.numbers["membranes"]]
    if spec.drop_microtubules and scores:
        _name_walls(tomogram, fitted)
    return {"membranes": sorted(fitted, key=lambda entry: int(entry["number"]))}


def _name_walls(tomogram: Tomogram, fitted: list[dict[str, Any]]) -> None:
    """Give the open surfaces that are a microtubule's two walls the reason why they are no membranes."""
    voxel_size_nm = tomogram.known_geometry.voxel_size_nm
    radii = (MICROTUBULE_NM[0] / voxel_size_nm, MICROTUBULE_NM[1] / voxel_size_nm)
    walls = []
    for entry in fitted:
        if "reason" not in entry and not entry["closed"]:
            places = load_npz(tomogram.path(band_file(entry["number"])), "bend_places")["bend_places"].astype(float)
            walls += [(entry, places)] if is_wall(places, radii[1]) else []
    for (one, here), (other, there) in itertools.combinations(walls, 2):
        radius = tube_of_walls(here, there, radii)
        if radius is None:
            continue
        for entry, opposite in ((one, other), (other, one)):
            entry["reason"] = (
                f"a microtubule: with {opposite['number']} the walls of a straight tube of radius "
                f"{radius * voxel_size_nm:.1f} nm; kept with fit.drop_microtubules = false"
            )


def _batches(members: list[Member], most: int) -> list[tuple[Member, ...]]:
    """Group membranes of similar size, largest first: the long units start early."""
    batches: list[list[Member]] = []
    for member in sorted(members, key=lambda member: (-member[2], member[0])):
        last = batches[-1] if batches else []
        if not last or len(last) == most or sum(count for _, _, count in last) + member[2] > _BATCH_VOXELS:
            batches.append([member])
        else:
            last.append(member)
    return [tuple(batch) for batch in batches]


def tile_bytes(box: Region) -> int:
    """Return the memory for one tile of a membrane's box: numbers, mask, scores, the ridge filter's temporaries."""
    return math.prod(min(n, _TILE_VOXELS) + 2 * RIDGE_HALO for n in box.shape) * (4 + 1 + 12 * 4)


def fit_batch(
    folder: str, instances: str, scores: str, members: tuple[Member, ...], geometry: Geometry, spec: FitSpec
) -> Receipt:
    """Fit the membranes of one unit and write their bands."""
    clouds = [_points(instances, scores, number, box, geometry.shape) for number, box, _ in members]
    corners = ((0, 0, 0), geometry.shape)
    # Below two voxels marching cubes would leave holes between grid points.
    reach = max(spec.reach_nm / geometry.voxel_size_nm, 2.0)
    surfaces = fit_surfaces(clouds, kernel=spec.kernel, spacing=1.0, box=corners)
    files, entries = [], []
    for (number, _, count), surface in zip(members, surfaces, strict=True):
        entry: dict[str, Any] = {"number": number}
        entries.append(entry)
        if not isinstance(surface, Surface):
            entry["reason"] = str(surface)
            continue
        band = surface.band(reach, box=corners)
        entry |= {"closed": surface.closed, **surface.choice}
        reason = _no_membrane(surface, band, geometry.voxel_size_nm, spec, network_voxels=count if scores else 0)
        if reason:
            entry["reason"] = reason
            continue
        files.append(band_file(number))
        save_band(Path(folder) / files[-1], band, **surface_sites(surface), **_pruned(surface))
    return Receipt(tuple(files), {"membranes": entries})


def _no_membrane(surface: Surface, band: Band, voxel_size_nm: float, spec: FitSpec, *, network_voxels: int) -> str:
    """Return why a surface is not taken for a membrane; an empty text where it is.

    ``network_voxels`` is how many the network's region has, 0 where somebody else marked it: what somebody marked is
    what they want.
    """
    area_nm2 = _area_voxels2(band) * voxel_size_nm**2
    least_nm2 = spec.minimum_area_nm2 if surface.closed else spec.minimum_open_area_nm2
    if area_nm2 < least_nm2:
        return f"too small for a membrane: {area_nm2:.0f} nm2, at least {least_nm2:.0f}"
    volume_nm3, least_nm = network_voxels * voxel_size_nm**3, spec.minimum_open_thickness_nm
    if network_voxels and not surface.closed and volume_nm3 < least_nm * area_nm2:
        return f"too thin for a membrane: {volume_nm3 / area_nm2:.1f} nm of it segmented, at least {least_nm:g}"
    # A network's eye for walls is all that microtubules need.
    radius_nm = (tube_radius(surface) or 0.0) * voxel_size_nm if spec.drop_microtubules and network_voxels else 0.0
    if MICROTUBULE_NM[0] <= radius_nm <= MICROTUBULE_NM[1]:
        return f"a microtubule: straight tube of radius {radius_nm:.1f} nm; kept with fit.drop_microtubules = false"
    return ""


def _area_voxels2(band: Band) -> float:
    """Area of a surface from its band: the voxels within one voxel of it fill a layer two voxels thick."""
    return float(np.count_nonzero(np.abs(band.distance) <= 1.0)) / 2.0


def _pruned(surface: Surface) -> dict[str, NDArray[Any]]:
    """Return the places (k, 3) of the points that were left out, in voxels, and the rule of each."""
    rules = [rule for rule, points in surface.pruned.items() for _ in range(len(points))]
    places = np.concatenate([np.zeros((0, 3)), *surface.pruned.values()])
    return {"pruned_places": places.astype(np.float32), "pruned_rules": np.array(rules, "U9")}


def save_band(path: Path, band: Band, **more: NDArray[Any]) -> None:
    """Write a band, what `surface_sites` says of the surface, and what was left out."""
    save_npz(
        path,
        index=band.index,
        distance=band.distance,
        sd=band.sd,
        support=band.support,
        closed=np.array(band.closed),
        **more,
    )


def _points(instances: str, scores: str, number: int, box: Region, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Gather one membrane's points in raster order: ridge of the score where there is one, else its voxels.

    A ridge point belongs to the voxel that it is the top of, and a voxel to one tile: the tiles change no point.
    """
    found = [np.zeros((0, 3))]
    for tile in _tiles(box):
        mask = read_region(instances, tile) == number
        if not mask.any():
            continue
        if scores:
            around = tile.grow((RIDGE_HALO,) * 3, shape)
            inside = np.zeros(around.shape, bool)
            inside[tile.within(around)] = mask
            found.append(ridge_points(read_values(scores, around), inside, threshold=0.0, start=around.start))
        else:
            found.append(np.argwhere(mask).astype(np.float64) + tile.start)
    points = np.concatenate(found)
    return points[np.lexsort(points.T[::-1])]


def _tiles(box: Region) -> Iterator[Region]:
    """Yield a box's parts in the volume's own tiles, whose chunks are then read few times."""
    low = tuple(a // _TILE_VOXELS for a in box.start)
    count = tuple(-(-b // _TILE_VOXELS) - a for a, b in zip(low, box.stop, strict=True))
    for place in np.ndindex(count):
        start = tuple((a + i) * _TILE_VOXELS for a, i in zip(low, place, strict=True))
        yield Region(
            tuple(max(a, b) for a, b in zip(start, box.start, strict=True)),
            tuple(min(a + _TILE_VOXELS, b) for a, b in zip(start, box.stop, strict=True)),
        )
