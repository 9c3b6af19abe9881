"""Charts as SVG: one mark per value, in its place."""

from __future__ import annotations

import math
import re

import pytest

from cryoscale.report.charts import distribution_chart, score_chart, times_chart
from cryoscale.report.colours import colour_of, hex_of


def circles(svg: str) -> list[tuple[float, str]]:
    return [(float(x), fill) for x, fill in re.findall(r'<circle cx="([\d.]+)"[^>]*fill="(#\w+)"', svg)]


def test_one_dot_per_membrane_in_order_and_colour() -> None:
    svg = distribution_chart("Area", "nm²", [10.0, 30.0, 20.0, math.nan], [1, 2, 3, 4])
    found = circles(svg)
    assert [fill for _, fill in found] == [hex_of(colour_of(n)) for n in (1, 3, 2)]
    places = [x for x, _ in found]
    assert places == sorted(places)
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=12)
    assert "median 20.0" in svg


def test_wide_ranges_get_a_logarithmic_axis() -> None:
    found = circles(distribution_chart("Area", "nm²", [1.0, 100.0, 10_000.0], [1, 2, 3]))
    assert found[1][0] - found[0][0] == pytest.approx(found[2][0] - found[1][0], abs=12)
    assert "(log)" in distribution_chart("Area", "nm²", [1.0, 100.0], [1, 2])


def test_many_values_become_bars_that_count_them() -> None:
    svg = distribution_chart("Area", "nm²", [float(n) for n in range(280)], list(range(1, 281)))
    heights = [float(h) for h in re.findall(r'<rect class="b"[^>]*height="([\d.]+)"', svg)]
    assert len(heights) == 28
    assert max(heights) == pytest.approx(min(heights), abs=0.2)


def test_nothing_and_one_value() -> None:
    assert "no values" in distribution_chart("Area", "nm²", [], [])
    assert len(circles(distribution_chart("Area", "nm²", [5.0], [1]))) == 1


def test_scores_leave_out_empty_bins() -> None:
    svg = score_chart([0, 30, 60, 90], [0.2, math.nan, 0.8], [0.7, 0.8, math.nan])
    assert svg.count('class="n"') == 2 + 1
    assert svg.count('class="f"') == 2 + 1
    assert svg.count('class="s"') == 1
    with pytest.raises(ValueError, match="edges"):
        score_chart([0, 90], [0.1, 0.2], [0.1, 0.2])


def test_times_are_drawn_to_scale() -> None:
    svg = times_chart({"ingest": 1.0, "fit": 4.0}, {"ingest": "1 s", "fit": "4 s"})
    widths = [float(w) for w in re.findall(r'<rect class="b"[^>]*width="([\d.]+)"', svg)]
    assert widths[1] == pytest.approx(4 * widths[0], rel=0.01)
