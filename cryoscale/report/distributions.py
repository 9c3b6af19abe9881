"""The page's distributions: of one tomogram's membranes, each in its colour, and of all tomograms' together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cryoscale.report.charts import distribution_chart
from cryoscale.report.run import TomogramReport
from cryoscale.report.text import number_in, number_of

__all__ = ["distributions_part", "pooled_part"]

_CHARTS = (
    ("area_nm2", "Area", "nm²", 1.0),
    ("major_axis_nm", "Diameter (major axis)", "nm", 1.0),
    ("mean_curvature_per_nm", "Mean curvature", "nm⁻¹", 1.0),
    ("thickness_nm", "Thickness", "nm", 1.0),
    ("nearest_distance_nm", "Nearest other membrane", "nm", 1.0),
    ("mean_sd_nm", "Standard deviation of the position", "nm", 1.0),
    ("fraction_inferred", "Inferred rather than seen", "% of the area", 100.0),
)
_MOST_DOTS = 120

Row = Mapping[str, str]


def _charts(rows: Sequence[Row], colours: Sequence[int]) -> list[str]:
    """One chart for each quantity that rows have, and that is not the same in all of them."""
    charts = []
    for column, title, unit, factor in _CHARTS:
        known = [(number_in(row.get(column, "")), n) for row, n in zip(rows, colours, strict=True)]
        found = [(factor * value, n) for value, n in known if math.isfinite(value)]
        if len({value for value, _ in found}) > 1:
            charts.append(distribution_chart(title, unit, [value for value, _ in found], [n for _, n in found]))
    return charts


def distributions_part(tomogram: TomogramReport) -> str:
    """Write the distributions of one tomogram's membranes; nothing where there are none."""
    charts = _charts(tomogram.membranes, [number_of(row) or 1 for row in tomogram.membranes])
    steps = tomogram.steps_pixels
    if steps:
        charts.append(distribution_chart("Largest step from slice to slice", "pixels", steps, things="slices"))
    if not charts:
        return ""
    words = "one dot per membrane, in its colour" if len(tomogram.membranes) <= _MOST_DOTS else "number of membranes"
    return f'<h3>Distributions <span class="soft small">{words}</span></h3><div class="charts">{"".join(charts)}</div>'


def pooled_part(tomograms: Sequence[TomogramReport]) -> str:
    """Write the distributions of all tomograms' membranes together; nothing for a single tomogram."""
    rows = [(row, place) for place, tomogram in enumerate(tomograms, 1) for row in tomogram.membranes]
    charts = _charts([row for row, _ in rows], [place for _, place in rows]) if len(tomograms) > 1 else []
    if not charts:
        return ""
    words = "one dot per membrane, coloured by its tomogram" if len(rows) <= _MOST_DOTS else "number of membranes"
    title = f'<h2>All membranes <span class="soft small">{words}</span></h2>'
    return f'<section>{title}<div class="charts">{"".join(charts)}</div></section>'
