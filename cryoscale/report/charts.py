"""Small charts as SVG inside the page: sharp at any size, and in the page's own colours, light or dark.

Each is a string of elements that names no other resource. Lengths inside are in the units of the chart's own box.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cryoscale.report.colours import colour_of, hex_of
from cryoscale.report.text import amount, clean

__all__ = ["MOST_DOTS", "distribution_chart", "line_chart", "score_chart", "times_chart"]

_WIDTH = 320
_LEFT, _RIGHT, _TOP = 2, 318, 30
_DEPTH = 74
"""Room for the tallest stack."""
_BINS = 28
MOST_DOTS = 120
"""Beyond so many values a distribution is bars."""
_LOG_FROM = 30.0
"""Values that differ by more than this factor get a logarithmic axis."""


def distribution_chart(
    title: str, unit: str, values: npt.ArrayLike, numbers: Sequence[int] = (), *, things: str = "membranes"
) -> str:
    """One dot per membrane, in its colour, stacked where they are close; bars where there are more than 120.

    Parameters
    ----------
    title, unit
        What the values are.
    values
        Those that are not finite are left out.
    numbers
        Of the membranes, for their colours; as many as `values`, or none: bars.
    things
        What there is one value of each of.
    """
    found, owners = _sorted(values, numbers)
    heading = f'<text x="{_LEFT}" y="15" class="t">{clean(title)}<tspan class="u" dx="6">{clean(unit)}</tspan></text>'
    if not len(found):
        return _svg(f"{title}: no values", heading, height=_TOP)
    low, high, middle = float(found[0]), float(found[-1]), float(np.median(found))
    logarithmic = low > 0 and high / low > _LOG_FROM
    bins = np.minimum(_BINS - 1, (_BINS * _places(found, low, high, logarithmic=logarithmic)).astype(int))
    heights = np.bincount(bins)
    pitch = min((_RIGHT - _LEFT) / _BINS, _DEPTH / int(heights.max()))
    base = _TOP + pitch * max(2, int(heights.max()))
    dotted = len(numbers) > 0 and len(found) <= MOST_DOTS
    marks = _dots(bins, owners, base, pitch) if dotted else _bars(heights, base, pitch)
    x = _LEFT + (_RIGHT - _LEFT) * float(_places(np.array([middle]), low, high, logarithmic=logarithmic)[0])
    scale = " (log)" if logarithmic else ""
    axis = (
        f'<line class="a" x1="{_LEFT}" x2="{_RIGHT}" y1="{base:.1f}" y2="{base:.1f}"/>'
        f'<path class="m" d="M{x:.1f} {base + 2:.1f}l-4 7h8z"/>'
        f'<text x="{_LEFT}" y="{base + 22:.1f}">{amount(low)}</text>'
        f'<text x="{_RIGHT}" y="{base + 22:.1f}" class="e">{amount(high)}{scale}</text>'
    )
    # The median's label stays clear of the two ends'.
    if low < high:
        at = min(max(x, _LEFT + 124), _RIGHT - 124)
        axis += f'<text x="{at:.1f}" y="{base + 22:.1f}" class="c">median {amount(middle)}</text>'
    label = f"{title}: {len(found)} {things}, {amount(low)} to {amount(high)} {unit}, median {amount(middle)} {unit}"
    return _svg(label, heading + marks + axis, height=round(base + 28))


def _sorted(values: npt.ArrayLike, numbers: Sequence[int]) -> tuple[npt.NDArray[np.float64], npt.NDArray[Any]]:
    """Return the finite values, ascending, and whose they are."""
    known = np.asarray(values, np.float64)
    owners = np.asarray(numbers) if len(numbers) else np.zeros(len(known), np.uint8)
    if len(owners) != len(known):
        msg = f"{len(known)} values do not fit {len(owners)} numbers"
        raise ValueError(msg)
    finite = np.isfinite(known)
    known, owners = known[finite], owners[finite]
    order = np.lexsort((owners, known))
    return known[order], owners[order]


def _places(values: npt.NDArray[np.float64], low: float, high: float, *, logarithmic: bool) -> npt.NDArray[np.float64]:
    """Places of values on the axis, 0 to 1."""
    if low == high:
        return np.full(len(values), 0.5)
    if logarithmic:
        return np.log(values / low) / math.log(high / low)
    return (values - low) / (high - low)


def _dots(bins: npt.NDArray[np.int_], numbers: npt.NDArray[Any], base: float, pitch: float) -> str:
    step = (_RIGHT - _LEFT) / _BINS
    rows = np.arange(len(bins)) - np.searchsorted(bins, bins)
    return "".join(
        f'<circle cx="{_LEFT + (place + 0.5) * step:.1f}" cy="{base - (row + 0.5) * pitch - 1:.1f}" '
        f'r="{0.45 * min(step, 1.5 * pitch):.1f}" fill="{hex_of(colour_of(int(number)))}"/>'
        for place, row, number in zip(bins, rows, numbers, strict=True)
    )


def _bars(heights: npt.NDArray[np.int_], base: float, pitch: float) -> str:
    step = (_RIGHT - _LEFT) / _BINS
    return "".join(
        f'<rect class="b" x="{_LEFT + place * step + 0.5:.1f}" y="{base - height * pitch:.1f}" '
        f'width="{step - 1:.1f}" height="{height * pitch:.1f}"/>'
        for place, height in enumerate(heights)
        if height
    )


def line_chart(
    title: str, unit: str, places: Sequence[float], series: Mapping[str, Sequence[float]], *, top: float | None = None
) -> str:
    """Draw up to two quantities over a third, the first grey, the second in the page's accent.

    Parameters
    ----------
    title, unit
        What the values are.
    places
        Along the axis, ascending.
    series
        By name, as many values as places; those that are not finite leave a gap.
    top
        Upper end of the values' axis; None takes the largest value.
    """
    left, right, high, base = 34, 318, 34, 140
    known = [v for values in series.values() for v in values if math.isfinite(v)]
    top = top or max(known, default=1.0) or 1.0
    first, last = (places[0], places[-1]) if places else (0.0, 1.0)
    span = (last - first) or 1.0
    parts = [f'<text x="2" y="15" class="t">{clean(title)}<tspan class="u" dx="6">{clean(unit)}</tspan></text>']
    for share in (0.0, 0.5, 1.0):
        y = base - share * (base - high)
        parts.append(f'<line class="a" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" class="e">{amount(share * top, 2)}</text>')
    for kind, (number, (name, values)) in zip("nf", enumerate(series.items()), strict=False):
        path, pen = "", "M"
        for place, value in zip(places, values, strict=True):
            if not math.isfinite(value):
                pen = "M"
                continue
            x = left + (right - left) * (place - first) / span
            path += f"{pen}{x:.1f} {base - min(value / top, 1.0) * (base - high):.1f}"
            pen = "L"
        parts.append(f'<path class="l{kind}" d="{path}"/>')
        at = left + 6 + 110 * number
        parts.append(f'<circle class="{kind}" cx="{at}" cy="{base + 34}" r="4"/>')
        parts.append(f'<text x="{at + 9}" y="{base + 38}">{clean(name)}</text>')
    parts.append(f'<text x="{left}" y="{base + 16}">{amount(first)}</text>')
    parts.append(f'<text x="{right}" y="{base + 16}" class="e">{amount(last)}</text>')
    return _svg(f"{title} {unit}: {', '.join(series)}", "".join(parts), height=186)


def score_chart(
    edges_degrees: Sequence[float], raw: Sequence[float], final: Sequence[float], *, raw_is: str = "network"
) -> str:
    """Dice by the angle between the membrane's normal and the beam: the network's, and that of the final membranes.

    Parameters
    ----------
    edges_degrees
        n + 1 edges of the bins.
    raw, final
        n scores, 0 to 1; NaN where a bin is empty.
    raw_is
        What the raw scores are of.
    """
    if not len(edges_degrees) - 1 == len(raw) == len(final):
        msg = f"{len(edges_degrees)} edges do not fit {len(raw)} raw and {len(final)} final scores"
        raise ValueError(msg)
    left, right, top, base = 26, 318, 34, 150
    step = (right - left) / len(raw)
    parts = ['<text x="2" y="15" class="t">Dice<tspan class="u" dx="6">by angle to the beam</tspan></text>']
    for share in (0.0, 0.5, 1.0):
        y = base - share * (base - top)
        parts.append(f'<line class="a" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" class="e">{share:g}</text>')
    for number, (before, after) in enumerate(zip(raw, final, strict=True)):
        x = left + (number + 0.5) * step
        parts.append(_score_pair(x, before, after, lambda v: base - v * (base - top)))
        words = f"{edges_degrees[number]:g}–{edges_degrees[number + 1]:g}°"
        parts.append(f'<text x="{x:.1f}" y="{base + 16}" class="c">{words}</text>')
    parts.append(
        f'<circle class="n" cx="{left + 6}" cy="{base + 34}" r="4"/>'
        f'<text x="{left + 15}" y="{base + 38}">{clean(raw_is)}</text>'
        f'<circle class="f" cx="{left + 86}" cy="{base + 34}" r="4"/>'
        f'<text x="{left + 95}" y="{base + 38}">final</text>'
    )
    return _svg(f"Dice by angle to the beam, {raw_is} and final", "".join(parts), height=196)


def _score_pair(x: float, before: float, after: float, place: object) -> str:
    assert callable(place)
    known = [v for v in (before, after) if math.isfinite(v)]
    out = ""
    if len(known) == 2:
        out += f'<line class="s" x1="{x:.1f}" x2="{x:.1f}" y1="{place(before):.1f}" y2="{place(after):.1f}"/>'
    for value, kind in ((before, "n"), (after, "f")):
        if math.isfinite(value):
            out += f'<circle class="{kind}" cx="{x:.1f}" cy="{place(value):.1f}" r="4.5"/>'
    return out


def times_chart(seconds: Mapping[str, float], words: Mapping[str, str]) -> str:
    """Horizontal bars, one per stage, each with its time in `words`."""
    longest = max(seconds.values(), default=0.0) or 1.0
    parts = []
    for row, (stage, value) in enumerate(seconds.items()):
        y = 8 + 20 * row
        parts.append(
            f'<text x="78" y="{y + 11}" class="e">{clean(stage, longest=20)}</text>'
            f'<rect class="b" x="86" y="{y}" width="{max(1.0, 130 * value / longest):.1f}" height="14" rx="2"/>'
            f'<text x="{92 + max(1.0, 130 * value / longest):.1f}" y="{y + 11}">{clean(words[stage])}</text>'
        )
    return _svg("Time by stage", "".join(parts), height=16 + 20 * len(seconds))


def _svg(label: str, inside: str, *, height: int) -> str:
    return f'<svg class="chart" role="img" viewBox="0 0 {_WIDTH} {height}" aria-label="{clean(label)}">{inside}</svg>'
