"""The page's part on proteins: how far from membranes they are, how dense on them, and whether they keep together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cryoscale.report.charts import distribution_chart, line_chart
from cryoscale.report.colours import colour_of, hex_of
from cryoscale.report.run import TomogramReport
from cryoscale.report.tables import Cell, table
from cryoscale.report.text import cell, clean, column_head, number_in

__all__ = ["proteins_part"]

Row = Mapping[str, str]


def proteins_part(tomogram: TomogramReport) -> str:
    """Write the section; nothing where proteins were not looked for, or none were found."""
    rows = tomogram.tables.get("proteins.csv", ())
    if not rows:
        return ""
    name = clean(tomogram.id)
    on = sum(row.get("on_membrane") == "yes" for row in rows)
    link = clean(tomogram.root + tomogram.id)
    words = f'{len(rows)}, {on} of them on a membrane; all in <a href="{link}/proteins.csv">proteins.csv</a>'
    charts = _distances(rows) + _pairs(tomogram.tables.get("protein_pairs.csv", ()))
    return f'<h3>Proteins <span class="soft small">{words}</span></h3><div class="charts">{charts}</div>' + _density(
        tomogram.tables.get("protein_density.csv", ()), f"{name}-proteins"
    )


def _floats(rows: Sequence[Row], column: str) -> list[float]:
    return [number_in(row.get(column, "")) for row in rows]


def _distances(rows: Sequence[Row]) -> str:
    charts = ""
    for column, title in (
        ("distance_nm", "Distance to the nearest membrane"),
        ("neighbour_along_surface_nm", "Nearest neighbour along the surface"),
    ):
        values = [value for value in _floats(rows, column) if math.isfinite(value)]
        if len(set(values)) > 1:
            charts += distribution_chart(title, "nm", values, things="proteins")
    return charts


def _pairs(rows: Sequence[Row]) -> str:
    """Pairs of all membranes together over what chance would give: 1 is chance."""
    radii = _floats(rows, "radius_along_surface_nm")
    pairs, chance = _floats(rows, "pairs"), _floats(rows, "pairs_by_chance")
    found: dict[float, list[float]] = {}
    for radius, seen, expected in zip(radii, pairs, chance, strict=True):
        if math.isfinite(radius + seen + expected):
            total = found.setdefault(radius, [0.0, 0.0])
            total[0] += seen
            total[1] += expected
    places = sorted(radius for radius, total in found.items() if total[1] > 0)
    if len(places) < 2:
        return ""
    ratio = [found[radius][0] / found[radius][1] for radius in places]
    return line_chart(
        "Pairs within a distance", "over chance; nm", places, {"chance": [1.0] * len(places), "all membranes": ratio}
    )


def _density(rows: Sequence[Row], name: str) -> str:
    if not rows:
        return ""
    columns = list(rows[0])
    cells = [[_cell(row, column) for column in columns] for row in rows]
    heads = [(*column_head(column), any(row[n].number for row in cells)) for n, column in enumerate(columns)]
    return table(heads, cells, name=name)


def _cell(row: Row, column: str) -> Cell:
    text, number = cell(column, row[column])
    if column != "membrane" or not row[column].isdigit() or not int(row[column]):
        return Cell(text, number)
    swatch = f'<i class="sw" style="background:{hex_of(colour_of(int(row[column])))}"></i>'
    return Cell(f'<span class="id">{swatch}{text}</span>', False, float(row[column]))
