"""The page's distributions: of one tomogram's membranes, each in its colour, and of all tomograms' together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cryoscale.report.charts import MOST_DOTS, distribution_chart
from cryoscale.report.run import TomogramReport
from cryoscale.report.text import number_in, number_of
from cryoscale.report.totals import Gathered

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


def _charts(columns: Mapping[str, Sequence[float]], colours: Sequence[int]) -> list[str]:
    """One chart for each quantity that membranes have, and that is not the same in all of them."""
    charts = []
    for column, title, unit, factor in _CHARTS:
        values = factor * np.asarray(columns[column], np.float64)
        known = values[np.isfinite(values)]
        if len(known) and known.min() < known.max():
            charts.append(distribution_chart(title, unit, values, colours))
    return charts


def distributions_part(tomogram: TomogramReport) -> str:
    """Write the distributions of one tomogram's membranes; nothing where there are none."""
    rows = tomogram.membranes
    columns = {name: [number_in(row.get(name, "")) for row in rows] for name, *_ in _CHARTS}
    charts = _charts(columns, [number_of(row) or 1 for row in rows])
    steps = tomogram.steps_pixels
    if steps:
        charts.append(distribution_chart("Largest step from slice to slice", "pixels", steps, things="slices"))
    if not charts:
        return ""
    words = "one dot per membrane, in its colour" if len(rows) <= MOST_DOTS else "number of membranes"
    return f'<h3>Distributions <span class="soft small">{words}</span></h3><div class="charts">{"".join(charts)}</div>'


def pooled_part(every: Gathered) -> str:
    """Write the distributions of all tomograms' membranes together; nothing for a single tomogram."""
    charts = _charts(every.columns, every.places) if len(every.lines) > 1 else []
    if not charts:
        return ""
    few = len(every.places) <= MOST_DOTS
    words = "one dot per membrane, coloured by its tomogram" if few else "number of membranes"
    words += '; every one is a row of <a href="membranes.csv">membranes.csv</a>'
    title = f'<h2>All membranes <span class="soft small">{words}</span></h2>'
    return f'<section>{title}<div class="charts">{"".join(charts)}</div></section>'
