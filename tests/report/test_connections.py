"""The picture of a slice's connection: its three panels say what was found, and nothing found is said."""

import dataclasses

import numpy as np
import pytest

from cryoscale.report.connections import Connection, connection_figure
from cryoscale.report.figures import figure_pixels


def arc(centre, radius, start, stop):
    angle = np.linspace(start, stop, round(radius * (stop - start)))
    return np.rint(np.stack([centre[0] + radius * np.sin(angle), centre[1] + radius * np.cos(angle)], 1)).astype(
        np.int32
    )


@pytest.fixture
def found():
    """A ring in three arcs, a ring by itself, an open arc."""
    parts = [(0.2, 1.9), (2.2, 4.0), (4.3, 6.1)]
    segments = [
        *(arc((60, 65), 35, *part) for part in parts),
        arc((100, 150), 25, 0, 6.2),
        arc((30, 160), 30, 0.1, 1.5),
    ]
    mask = np.zeros((140, 200), bool)
    for pixels in segments:
        mask[tuple(pixels.T)] = True
    q = np.full((10, 10), np.nan)
    q[1, 2], q[3, 4], q[5, 0], q[1, 3] = 4.0, 4.5, 5.0, -1.0
    joins = np.array([[segments[a][-1], segments[b][0]] for a, b in ((0, 1), (1, 2), (2, 0))], np.int32)
    paths = [[(0, False), (1, False), (2, False)], [(3, False)], [(4, False)]]
    closed = [True, True, False]
    return Connection(mask, None, segments, paths, closed, joins, np.array([1, 1, 1]), q, 1.0, "TS_001, z = 7 (7 nm)")


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes[:3]]


def test_panels_say_what_was_found(found):
    figure = connection_figure(found)
    segments, membranes, table = titles(figure)
    assert "5 segments" in segments and "2 closed, 1 open; 3 joins" in membranes and "Q of the join" in table
    assert figure.texts[0].get_text() == "TS_001, z = 7 (7 nm)"
    pixels = figure_pixels(figure)
    assert pixels.shape[2] == 4 and (pixels[..., 3] == 255).all()
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 20


def test_rows_run_upwards_and_the_bar_is_as_long_as_it_says(found):
    axes = connection_figure(found).axes[0]
    assert axes.get_ylim()[0] < axes.get_ylim()[1]
    bar = axes.patches[-1]
    assert bar.get_width() * found.nm_per_pixel == float(axes.texts[-1].get_text().split()[0])
    finer = connection_figure(dataclasses.replace(found, nm_per_pixel=0.5)).axes[0]
    assert finer.patches[-1].get_width() * 0.5 == float(finer.texts[-1].get_text().split()[0])


def test_both_ends_of_every_segment_are_marked(found):
    axes = connection_figure(found).axes[0]
    marks = {(line.get_marker(), float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in axes.lines}
    for pixels in found.segments:
        assert ("o", pixels[0, 1], pixels[0, 0]) in marks and ("s", pixels[-1, 1], pixels[-1, 0]) in marks


def test_every_join_is_drawn_in_its_membranes_colour(found):
    axes = connection_figure(found).axes[1]
    dashed = [line for line in axes.lines if line.get_linestyle() == "--" or line.is_dashed()]
    ends = {tuple(zip(line.get_ydata(), line.get_xdata(), strict=True)) for line in dashed}
    assert ends == {tuple(map(tuple, join)) for join in found.joins}
    assert len({line.get_color() for line in dashed}) == 1


def test_the_table_is_in_the_order_of_the_membranes_with_its_joins_ringed(found):
    found.q[2, 4], found.q[0, 3] = 2.0, 3.0
    order = [1, 2, 0, 3, 4]
    paths = [[(1, True), (2, False), (0, True)], [(3, False)], [(4, False)]]
    table = connection_figure(dataclasses.replace(found, paths=paths)).axes[2]
    ends = [2 * k + end for k in order for end in (0, 1)]
    shown = np.ma.filled(table.images[0].get_array(), np.nan)
    np.testing.assert_array_equal(shown, found.q[np.ix_(ends, ends)])
    ringed = {(ends[int(line.get_ydata()[0])], ends[int(line.get_xdata()[0])]) for line in table.lines}
    # Segment 1 backwards is left at its end 0; segment 2 is entered at its end 0 and left at its end 1 ...
    # ... but the walker never could leave that end for segment 0: no ring, as there is no value.
    assert ringed == {(2, 4), (0, 3)}


def test_an_open_path_does_not_come_back(found):
    table = connection_figure(dataclasses.replace(found, closed=[False, True, False])).axes[2]
    assert len(table.lines) == 2


def test_the_tomogram_lies_behind_the_membranes(found):
    noise = np.random.default_rng(0).normal(size=found.mask.shape)
    shown = connection_figure(dataclasses.replace(found, intensity=noise)).axes[1].images[0].get_array()
    assert len(np.unique(shown)) > 5 and shown.shape == found.mask.shape


def test_nothing_found_is_said():
    empty = Connection(
        np.zeros((50, 80), bool), None, [], [], [], np.empty((0, 2, 2), np.int32), np.empty(0, np.int32),
        np.empty((0, 0)), 1.0, "empty",
    )  # fmt: skip
    figure = connection_figure(empty)
    assert "0 segments" in titles(figure)[0]
    assert figure.axes[2].texts[0].get_text() == "no segments"
    figure_pixels(figure)


def test_a_table_that_does_not_fit_is_refused(found):
    with pytest.raises(ValueError, match=r"5 segments must be \(10, 10\), not \(4, 4\)"):
        connection_figure(dataclasses.replace(found, q=np.zeros((4, 4))))
