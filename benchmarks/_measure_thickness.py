"""Thickness of simulated bilayers in reconstructed tilt series: how far off, with the defocus stated, found, ignored.

Spheres of radius 35 nm, their surface known to 0.3 nm; 41 tilts over +-60 degrees, shot noise, contrast transfer.
``tails`` have a trough between the layers half as deep as these are high, which no part of the fit stands for: what is
then called true is what the fit makes of the density itself, before any microscope.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cryoscale.measure.shape import beam_angle_degrees
from cryoscale.measure.thickness import geodesic_patches, measure_thickness, profiles_at
from cryoscale.simulate import image_phantom

__all__ = ["thickness_rows"]

Array = NDArray[np.float64]
_RADIUS_NM, _SURFACE_SD_NM, _PATCH_NM = 35.0, 0.3, 20.0
_CELL_VOXELS = 5
_NONE_UM = 1e-6
"""A defocus that leaves all frequencies alike."""
_KINDS = {
    "small": {"voxels_nm": (1.0,), "true_nm": (3.3, 4.6), "defocus_um": (2.6,), "snr": (0.3,)},
    "full": {"voxels_nm": (0.8, 1.35), "true_nm": (2.8, 3.3, 3.9, 4.6), "defocus_um": (2.6, 5.0), "snr": (0.3, 0.1)},
}  # fmt: skip


def thickness_rows(size: str, contour: Any) -> list[dict[str, Any]]:
    """Return one row for each way to treat the defocus, without and with tails.

    Parameters
    ----------
    size
        A key of the conditions.
    contour
        Function that makes vertices, faces and normals of a volume's zero.
    """
    kind = _KINDS[size]
    off: dict[tuple[str, str], list[float]] = {}
    spent: dict[tuple[str, str], float] = {}
    by_error: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    for voxel in kind["voxels_nm"]:
        distance, sampled = _sphere(voxel, contour)
        for true, tails in itertools.product(kind["true_nm"], ("no tails", "tails")):
            density = _bilayer(distance, true, voxel, trough=0.5 * (tails == "tails"))
            plain = measure_thickness(*sampled(-density), defocus_um=_NONE_UM).whole
            wanted = true if tails == "no tails" or plain is None else plain
            for defocus, snr in itertools.product(kind["defocus_um"], kind["snr"]):
                lines = sampled(_imaged(density, voxel, defocus, snr))
                for who, stated in (("stated", defocus), ("found", 0.0), ("ignored", _NONE_UM)):
                    start = time.process_time()
                    found = measure_thickness(*lines, defocus_um=stated)
                    spent[tails, who] = spent.get((tails, who), 0.0) + time.process_time() - start
                    off.setdefault((tails, who), []).append(np.nan if found.whole is None else found.whole - wanted)
                    wholes, patches = by_error.setdefault((tails, who), ([], []))
                    if found.whole is not None and found.whole_error:
                        wholes.append((found.whole - wanted) / found.whole_error)
                    good = found.quality == 0
                    patches.extend((found.patch[good] - wanted) / found.error[good])
    return [_row(*key, np.array(values), spent[key], *by_error[key]) for key, values in off.items()]


def _row(tails: str, who: str, off: Array, seconds: float, wholes: list[float], patches: list[float]) -> dict[str, Any]:
    names = {"stated": "ours", "found": "ours, defocus found", "ignored": "two peaks, defocus ignored"}
    return {
        "part": "thickness" if tails == "no tails" else "with tails",
        "who": names[who],
        "seconds": seconds,
        "bilayers": len(off),
        "unresolved": int(np.isnan(off).sum()),
        "bias_nm": float(np.nanmean(off)),
        "error": float(np.sqrt(np.nanmean(off**2))),
        "largest_nm": float(np.nanmax(np.abs(off))),
        "rms_off_by_error": float(np.sqrt(np.mean(np.square(wholes)))),
        "patches": len(patches),
        "patches_rms_off_by_error": float(np.sqrt(np.mean(np.square(patches)))),
    }


def _sphere(voxel: float, contour: Any) -> tuple[Array, Any]:
    """Signed distance (nm) of a sphere in a box, and what samples a density of that box along its normals."""
    side = int(2 * (_RADIUS_NM + 14) / voxel)
    middle = side / 2 - 0.3
    places = np.moveaxis(np.indices((side,) * 3, dtype=np.float32), 0, -1)
    distance = np.linalg.norm(places - middle, axis=-1) * voxel - _RADIUS_NM
    error = gaussian_filter(np.random.default_rng(1).normal(size=distance.shape), 6 / voxel)
    level = distance + _SURFACE_SD_NM * error / error.std()
    vertices, faces, normals = contour(level)
    normals = normals * np.sign((normals * (vertices - middle)).sum())
    reach = max(7.0, 5 * voxel)
    offsets = np.arange(-np.floor(2 * reach / voxel), np.floor(2 * reach / voxel) + 1) * voxel / 2
    patch = geodesic_patches(vertices * voxel, faces, _PATCH_NM)
    key = np.column_stack([patch, np.floor(vertices / _CELL_VOXELS).astype(int)])
    cells, owner, counts = np.unique(key, axis=0, return_inverse=True, return_counts=True)
    mean = np.stack([np.bincount(patch, normals[:, axis]) for axis in range(3)], 1)
    angle = beam_angle_degrees(mean / np.linalg.norm(mean, axis=1, keepdims=True))

    def sampled(density: Array) -> tuple[Any, ...]:
        sums = np.zeros((len(cells), len(offsets)))
        np.add.at(sums, owner.ravel(), profiles_at(density, vertices, normals, offsets / voxel))
        return sums / counts[:, None], counts, cells[:, 0], angle, offsets

    return distance, sampled


def _bilayer(distance: Array, true: float, voxel: float, trough: float) -> Array:
    """Two layers 0.6 nm wide, as voxels hold them."""
    width = np.hypot(0.6, 0.29 * voxel)
    layers = sum(np.exp(-0.5 * ((distance - side * true / 2) / width) ** 2) for side in (-1, 1))
    return np.asarray(layers - trough * np.exp(-0.5 * (4 * distance / true) ** 2))


def _imaged(density: Array, voxel: float, defocus: float, snr: float) -> Array:
    made = image_phantom(
        density.astype(np.float32), seed=3, snr=snr, voxel_size_angstrom=10 * voxel, tilt_step_degrees=3.0,
        defocus_um=defocus, detector_at_nyquist=0.8,
    )  # fmt: skip
    return made.astype(np.float64)
