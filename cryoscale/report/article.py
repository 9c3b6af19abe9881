"""One tomogram's part of the page: pictures, distributions, table, why surfaces are open, scores, times, warnings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cryoscale.report.charts import line_chart, score_chart, times_chart
from cryoscale.report.colours import colour_of, hex_of
from cryoscale.report.distributions import distributions_part
from cryoscale.report.interactive import slices_part, viewer_part
from cryoscale.report.proteins import proteins_part
from cryoscale.report.run import TomogramReport
from cryoscale.report.tables import Cell, picture, table
from cryoscale.report.text import (
    NUMBER_COLUMNS,
    amount,
    cell,
    clean,
    column_head,
    duration,
    error_column,
    number_in,
    number_of,
    size_of,
    with_error,
)  # fmt: skip
from cryoscale.report.totals import area_nm2, has_surface, is_closed

__all__ = ["article"]

_IN_FILE_ONLY = (
    "_low_angstrom", "_high_angstrom", "mesh", "vertices", "voxels", "_patches", "max_sd_nm", "middle_axis_nm",
    "middle_axis_se_nm", "boundary_length_nm", "distance_median_nm", "double_distance_sd_nm",
)  # fmt: skip
"""Ends of the names of columns that only the file has: for programs, or one detail too many for a page."""
_PARTS = ("_seen", "_se", "gaussian_", "principal_", "curvedness", "shape_index")
"""Parts of such names: of the seen part alone, standard errors (which follow their values), further curvatures."""
_ANGLE_SCORES = ("angle_edges_degrees", "dice_raw_by_angle", "dice_final_by_angle")


def article(tomogram: TomogramReport, *, most_rows: int) -> str:
    """Write everything about one tomogram, at most `most_rows` of its membranes one by one."""
    name = clean(tomogram.id)
    parts = [
        f'<article id="t-{name}"><h2>{name}</h2>{_facts(tomogram)}',
        _warnings(tomogram),
        _pictures(tomogram),
        slices_part(tomogram),
        viewer_part(tomogram),
        _left_out(tomogram),
        distributions_part(tomogram),
        _membranes(tomogram, most_rows),
        _not_closed(tomogram),
        proteins_part(tomogram),
        _scores(tomogram),
        _cost(tomogram),
        "</article>",
    ]
    return "".join(parts)


def _facts(tomogram: TomogramReport) -> str:
    words = []
    if tomogram.geometry is not None:
        shape, voxel = tomogram.geometry.shape, tomogram.geometry.voxel_size_angstrom
        size = " × ".join(str(n) for n in shape[::-1])
        edges = " × ".join(amount(n * v / 10) for n, v in zip(shape[::-1], voxel[::-1], strict=True))
        words.append(f"{size} voxels (x, y, z) of {amount(sum(voxel) / 3, 4)} Å: {edges} nm")
    if tomogram.protein_count is not None:
        words.append(f"{tomogram.protein_count} proteins")
    words += [f"{clean(key)} {clean(value)}" for key, value in tomogram.facts]
    return f'<p class="soft small facts">{clean(tomogram.source)}<br>{" · ".join(words)}</p>'


def _warnings(tomogram: TomogramReport) -> str:
    if not tomogram.warnings:
        return ""
    items = "".join(f"<li>{clean(text, longest=800)}</li>" for text in tomogram.warnings)
    return f'<div class="warn"><h3>Warnings</h3><ul class="small">{items}</ul></div>'


def _pictures(tomogram: TomogramReport) -> str:
    figures = [
        picture(tomogram.pictures[name], solid=name in ("raw", "overlay"))
        for name in ("raw", "overlay", "sections")
        if name in tomogram.pictures
    ]
    kind = "three" if len(figures) > 2 else "two"
    return f'<div class="{kind}">{"".join(figures)}</div>' if figures else ""


def _left_out(tomogram: TomogramReport) -> str:
    words = ", ".join(clean(name) for name in tomogram.left_out if name != "thumbnail")
    if not words:
        return ""
    there = f'on <a href="{clean(tomogram.page)}">its own page</a>, and ' if tomogram.page else ""
    return (
        f'<p class="soft small">Left out to keep this page small: {words}. They are {there}in '
        f"{clean(tomogram.id)}/pictures.</p>"
    )


def _membranes(tomogram: TomogramReport, most_rows: int) -> str:
    rows = sorted(tomogram.membranes, key=lambda row: -area_nm2(row))[:most_rows]
    if not rows:
        return '<p class="soft">No membranes were found.</p>'
    rows.sort(key=lambda row: number_of(row) or 0)
    columns = [name for name in rows[0] if any(row.get(name) for row in rows) and _is_shown(name)]
    # Sentences come last: they push no number out of sight.
    columns.sort(key=lambda name: "reason" in name)
    cells = [[_swatched(row, name) for name in columns] for row in rows]
    heads = [(*column_head(name), any(row[n].number for row in cells)) for n, name in enumerate(columns)]
    total = len(tomogram.membranes)
    words = f"the {len(rows)} largest of {total}" if total > len(rows) else f"{total}"
    if without := total - sum(map(has_surface, tomogram.membranes)):
        words += f", {without} of them without a surface"
    file = f"{clean(tomogram.root + tomogram.id)}/membranes.csv"
    link = f'all, with places and meshes, in <a href="{file}">membranes.csv</a>'
    return f'<h3>Membranes <span class="soft small">{words}; {link}</span></h3>' + table(
        heads, cells, name=clean(tomogram.id)
    )


def _is_shown(column: str) -> bool:
    return not column.endswith(_IN_FILE_ONLY) and not any(part in column for part in _PARTS)


def _swatched(row: Mapping[str, str], column: str) -> Cell:
    text, is_number = cell(column, row.get(column, ""))
    number = number_of(row)
    error = row.get(error_column(column), "")
    if is_number and error:
        value = number_in(row[column])
        written, spread = with_error(value, number_in(error))
        return Cell(f"{written} <small>± {spread}</small>", True, value)
    if column not in NUMBER_COLUMNS or number is None or row[column] != str(number):
        return Cell(text, is_number)
    swatch = f'<i class="sw" style="background:{hex_of(colour_of(number))}"></i>'
    return Cell(f'<span class="id">{swatch}{text}</span>', False, number)


def _not_closed(tomogram: TomogramReport) -> str:
    """Group the open surfaces by the reason their row gives."""
    if not any("closed" in row for row in tomogram.membranes):
        return ""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in tomogram.membranes:
        if not is_closed(row):
            why = next((value for name, value in row.items() if "reason" in name and value), "no reason recorded")
            noun = "membrane" if has_surface(row) else "region"
            reasons.setdefault((noun, why), []).append(str(number_of(row) or "?"))
    if not reasons:
        return ""
    items = "".join(
        f"<li>{clean(why, longest=600)}: {noun}{'' if len(numbers) == 1 else 's'} "
        f"{', '.join(numbers[:40])}{' …' if len(numbers) > 40 else ''}</li>"
        for (noun, why), numbers in sorted(reasons.items(), key=lambda entry: (entry[0][0], -len(entry[1])))
    )
    count = sum(len(numbers) for (noun, _), numbers in reasons.items() if noun == "membrane")
    title = f"Why {count} of {sum(map(has_surface, tomogram.membranes))} {'is' if count == 1 else 'are'} not closed"
    if any(noun == "region" for noun, _ in reasons):
        title = f"{title}, and others have no surface" if count else "Why regions have no surface"
    return f'<h3>{title}</h3><ul class="small">{items}</ul>'


def _scores(tomogram: TomogramReport) -> str:
    if not tomogram.scores:
        return ""
    lines, words = [], {"raw": str(tomogram.scores.get("raw_is", "network")), "final": "final"}
    for name, value in tomogram.scores.items():
        if isinstance(value, int | float):
            head, unit = column_head(name)
            text = cell(name, repr(value))[0]
            lines.append(f"<dt>{clean(head)}</dt><dd>{text} {unit}</dd>")
    chart = ""
    by_angle = [tomogram.scores.get(name) for name in _ANGLE_SCORES]
    if all(isinstance(values, Sequence) for values in by_angle):
        edges, raw, final = ([float(v) for v in values] for values in by_angle if isinstance(values, Sequence))
        chart = score_chart(edges, raw, final, raw_is=words["raw"])
    by_slice = {name: tomogram.scores.get(f"dice_{name}_by_slice") for name in ("raw", "final")}
    known = {
        words[k]: [math.nan if v is None else float(v) for v in part]
        for k, part in by_slice.items()
        if isinstance(part, Sequence)
    }
    if known:
        voxel_nm = tomogram.geometry.voxel_size_angstrom[0] / 10 if tomogram.geometry else 1.0
        places = [n * voxel_nm for n in range(len(next(iter(known.values()))))]
        chart += line_chart("Dice", "by slice, z in nm", places, known, top=1.0)
    listed = f"<dl>{''.join(lines)}</dl>" if lines else ""
    return f'<h3>Scores against the known truth</h3><div class="charts">{listed}{chart}</div>'


def _cost(tomogram: TomogramReport) -> str:
    if not tomogram.stage_seconds:
        return ""
    words = {stage: duration(value) for stage, value in tomogram.stage_seconds.items()}
    total = duration(sum(tomogram.stage_seconds.values()))
    peak = f", peak memory {size_of(tomogram.peak_bytes)}" if tomogram.peak_bytes else ""
    chart = times_chart(tomogram.stage_seconds, words)
    return (
        f'<h3>Time <span class="soft small">{total} of work in all{peak}</span></h3><div class="charts">{chart}</div>'
    )
