"""The rows and columns of the tables that have one line per membrane, pair of membranes, patch or point left out.

Columns named se are standard errors. There are none of counts, of what is an error or a scatter itself, of the length
of a boundary and of shares of area (inferred, facing): rims and limits decide these, and the fit knows nothing of rims.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.measure.contact import DOUBLE_SHARE
from cryoscale.measure.thickness import QUALITIES
from cryoscale.records import Geometry

__all__ = [
    "MEANS", "MEMBRANE_COLUMNS", "PAIR_COLUMNS", "PRUNED_COLUMNS", "THICKNESS_COLUMNS", "complete", "pair_rows",
    "pruned_rows", "thickness_rows",
]  # fmt: skip

Row = dict[str, Any]

MEANS = (
    "mean_curvature{}_per_nm",
    "gaussian_curvature{}_per_nm2",
    "principal_1{}_per_nm",
    "principal_2{}_per_nm",
    "curvedness{}_per_nm",
    "shape_index{}",
    "beam_angle{}_degrees",
)
"""Columns that are given for all and for the seen part of a membrane, each with its standard error."""
MEMBRANE_COLUMNS = (
    "number",
    "label",
    "closed",
    "not_closed_reason",
    "segmented_voxels",
    "pruned_points",
    "voxels",
    "area_nm2",
    "area_se_nm2",
    "area_seen_nm2",
    "area_seen_se_nm2",
    "enclosed_volume_nm3",
    "enclosed_volume_se_nm3",
    "sphericity",
    "sphericity_se",
    *(f"{axis}_axis_{kind}" for axis in ("major", "middle", "minor") for kind in ("nm", "se_nm")),
    "major_axis_to_beam_degrees",
    "major_axis_to_beam_se_degrees",
    "euler_number",
    "pieces",
    "boundary_length_nm",
    "fraction_inferred",
    "mean_sd_nm",
    "mean_sd_seen_nm",
    "max_sd_nm",
    *(name.format(kind) for name in MEANS for kind in ("", "_se", "_seen", "_seen_se")),
    "thickness_nm",
    "thickness_se_nm",
    "thickness_defocus_um",
    "thickness_good_patches",
    "thickness_patches",
    "nearest_membrane",
    "nearest_distance_nm",
    "nearest_distance_se_nm",
    "nearest_distance_seen_nm",
    "nearest_distance_seen_se_nm",
    "distance_median_nm",
    "distance_median_se_nm",
    "distance_median_seen_nm",
    "distance_median_seen_se_nm",
    "contact_area_nm2",
    "contact_area_se_nm2",
    "contact_area_seen_nm2",
    "contact_area_seen_se_nm2",
    "double_with",
    "double_distance_nm",
    "double_distance_se_nm",
    "double_distance_sd_nm",
    "double_distance_seen_nm",
    "double_distance_seen_se_nm",
    *(f"{axis}_{end}_angstrom" for end in ("low", "high") for axis in "zyx"),
    "neighbours",
    "mesh",
    "vertices",
)
PAIR_COLUMNS = (
    "membrane",
    "neighbour",
    "distance_nm",
    "distance_se_nm",
    "facing_distance_mean_nm",
    "facing_distance_mean_se_nm",
    "facing_distance_mean_seen_nm",
    "facing_distance_mean_seen_se_nm",
    "facing_distance_median_nm",
    "facing_distance_median_se_nm",
    "facing_distance_sd_nm",
    "facing_angle_median_degrees",
    "facing_angle_median_se_degrees",
    "facing_area_nm2",
    "facing_share",
    "contact_area_nm2",
    "contact_area_se_nm2",
    "double",
)
"""Of the membrane with the smaller area: how it faces the other, and its contact area; share is of that area."""
THICKNESS_COLUMNS = (
    "membrane",
    "patch",
    "z_angstrom",
    "y_angstrom",
    "x_angstrom",
    "vertices",
    "area_nm2",
    "beam_angle_degrees",
    "thickness_nm",
    "thickness_se_nm",
    "quality",
    "contrast",
)

PRUNED_COLUMNS = ("membrane", "z_angstrom", "y_angstrom", "x_angstrom", "rule")


def pair_rows(rows: Sequence[Row], surrounded: Sequence[Row], neighbour_nm: float) -> list[Row]:
    """Return one row per pair of membranes that come within the limit, ascending.

    Parameters
    ----------
    rows
        ``number`` and ``area_nm2`` of each membrane.
    surrounded
        ``number`` of each membrane and ``facing``: by the other's number, as text, the fields of `contact.Facing`.
    neighbour_nm
        The limit.
    """
    area = {row["number"]: row["area_nm2"] for row in rows}
    facing = {(row["number"], int(other)): found for row in surrounded for other, found in row["facing"].items()}
    table = []
    for one, two in sorted({(min(pair), max(pair)) for pair in facing}):
        sides = [pair for pair in ((one, two), (two, one)) if pair in facing]
        least = min((facing[pair] for pair in sides), key=lambda found: found["smallest"])
        side = min(sides, key=lambda pair: (area[pair[0]], pair[0]))
        found = facing[side]
        share = found["area"] / area[side[0]] if area[side[0]] else 0.0
        if least["smallest"] > neighbour_nm:
            continue
        table.append(
            {
                "membrane": one,
                "neighbour": two,
                "distance_nm": least["smallest"],
                "distance_se_nm": least["smallest_error"],
                "facing_distance_mean_nm": found["mean"],
                "facing_distance_mean_se_nm": found["mean_error"],
                "facing_distance_mean_seen_nm": found["mean_seen"],
                "facing_distance_mean_seen_se_nm": found["mean_seen_error"],
                "facing_distance_median_nm": found["median"],
                "facing_distance_median_se_nm": found["median_error"],
                "facing_distance_sd_nm": found["sd"],
                "facing_angle_median_degrees": found["angle_median"],
                "facing_angle_median_se_degrees": found["angle_median_error"],
                "facing_area_nm2": found["area"],
                "facing_share": share,
                "contact_area_nm2": found["contact_area"],
                "contact_area_se_nm2": found["contact_area_error"],
                "double": share >= DOUBLE_SHARE,
            }
        )
    return table


def complete(
    rows: Sequence[Row],
    surrounded: Sequence[Row],
    pairs: Sequence[Row],
    made: Mapping[int, Mapping[str, Any]],
    fitted: Sequence[Mapping[str, Any]],
    segmented: Sequence[int],
    labels: Sequence[int],
) -> list[Row]:
    """Return one row per membrane of the merge with all that is known of it, or the reason why it has no surface.

    Parameters
    ----------
    rows, surrounded, pairs
        What was measured.
    made, fitted
        What the surface stage made of each, by number, and what the fit said.
    segmented
        Voxels of each membrane of the merge, from number 1; empty where the meshes come from no volume.
    labels
        Value of each in the mask, where its values are kept apart; else empty.
    """
    by_number, around = ({row["number"]: row for row in part} for part in (rows, surrounded))
    reasons = {int(entry["number"]): str(entry.get("reason", "the surface lies outside its band")) for entry in fitted}
    pruned = {int(entry["number"]): sum(entry["dropped"].values()) for entry in fitted if "dropped" in entry}
    table = []
    for number in range(1, len(segmented) + 1) if len(segmented) else sorted(by_number):
        row = by_number.get(number)
        if row is None:
            reason = reasons.get(number, "not fitted")
            row = {"number": number, "closed": "no surface", "not_closed_reason": f"no surface: {reason}"}
        counts = {
            "label": labels[number - 1] if len(labels) else None,
            "segmented_voxels": segmented[number - 1] if len(segmented) else None,
            "pruned_points": pruned.get(number),
            "voxels": int(made.get(number, {}).get("voxels", 0)) if len(segmented) else None,
        }
        table.append(row | around.get(number, {}) | counts | _partners(number, pairs))
    return table


def _partners(number: int, pairs: Sequence[Row]) -> Row:
    """Who is near, in words, and the other half of a double membrane."""
    near, best = [], 0.0
    found: Row = {}
    for pair in pairs:
        if number not in (pair["membrane"], pair["neighbour"]):
            continue
        other = pair["neighbour"] if pair["membrane"] == number else pair["membrane"]
        near.append((other, pair["distance_nm"]))
        if pair["double"] and pair["facing_share"] > best:
            best = pair["facing_share"]
            found = {
                "double_with": other,
                "double_distance_nm": pair["facing_distance_mean_nm"],
                "double_distance_se_nm": pair["facing_distance_mean_se_nm"],
                "double_distance_sd_nm": pair["facing_distance_sd_nm"],
                "double_distance_seen_nm": pair["facing_distance_mean_seen_nm"],
                "double_distance_seen_se_nm": pair["facing_distance_mean_seen_se_nm"],
            }
    return found | {"neighbours": "; ".join(f"{other} at {distance:.1f} nm" for other, distance in sorted(near))}


def pruned_rows(parts: Iterable[tuple[int, Mapping[str, NDArray[Any]]]], geometry: Geometry) -> Iterator[list[Any]]:
    """Yield the lines of the table of points left out, from each membrane's number and arrays of its fit."""
    voxel, origin = np.array(geometry.voxel_size_angstrom), np.array(geometry.origin_angstrom)
    for number, part in parts:
        places = origin + part["pruned_places"].astype(np.float64) * voxel
        for place, rule in zip(places.tolist(), part["pruned_rules"].tolist(), strict=True):
            yield [number, *place, rule]


def thickness_rows(parts: Iterable[Mapping[str, NDArray[Any]]]) -> Iterator[tuple[Any, ...]]:
    """Yield the lines of the table of patches, membrane after membrane."""
    for part in parts:
        words = dict(part) | {"quality": [QUALITIES[row] for row in part["quality"].tolist()]}
        yield from zip(*(words[name] for name in THICKNESS_COLUMNS), strict=True)
