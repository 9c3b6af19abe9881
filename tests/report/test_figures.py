"""Slices, sections and surfaces as pictures."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

import cryoscale.report.figures as figures
from cryoscale.report.colours import PALETTE
from cryoscale.report.figures import (
    Slice,
    figure_pixels,
    grey_of,
    overlay_of,
    scale_bar_nm,
    section_panels,
    slice_panels,
    stack_figure,
    surface_figures,
)
from tests.report.scene import sphere

BOX = (40.0, 64.0, 72.0)


def planes() -> list[Slice]:
    rng = np.random.default_rng(2)
    out = []
    for name, position, shape in (("xy", 20, (64, 72)), ("xz", 32, (40, 72)), ("yz", 36, (40, 64))):
        labels = np.zeros(shape, np.uint16)
        labels[5:9, 10:30] = 2
        inferred = np.zeros(shape, bool)
        inferred[5:9, 20:30] = True
        out.append(Slice(name, float(position), rng.standard_normal(shape), labels, inferred, 1.0))
    return out


def test_greys_run_from_black_to_white_and_are_few() -> None:
    raw = np.random.default_rng(0).standard_normal((200, 200))
    grey = grey_of(raw)
    assert grey.min() == 0
    assert grey.max() == 255
    assert len(np.unique(grey)) <= 24
    assert np.corrcoef(grey.ravel(), raw.ravel())[0, 1] > 0.98
    raw[0, 0] = np.nan
    assert 100 < grey_of(raw)[0, 0] < 155
    assert grey_of(np.full((4, 4), np.nan)).shape == (4, 4)
    assert grey_of(np.ones((4, 4))).dtype == np.uint8


def test_membranes_are_coloured_and_inferred_ones_dashed() -> None:
    grey = np.full((40, 60), 128, np.uint8)
    labels = np.zeros((40, 60), int)
    labels[10:20] = 1
    inferred = np.zeros((40, 60), bool)
    inferred[:, 30:] = True
    rgb = overlay_of(grey, labels, inferred).astype(int)
    assert (rgb[25:] == 128).all()
    seen, dashed = rgb[10:20, :30].reshape(-1, 3), rgb[10:20, 30:].reshape(-1, 3)
    assert len(np.unique(seen, axis=0)) == 1
    assert np.abs(seen[0] - np.array(PALETTE[0])).max() < 40
    assert len(np.unique(dashed, axis=0)) == 2


def test_rows_run_upwards() -> None:
    plane = planes()[0]
    panel = slice_panels([plane], overlay=True)[0]
    row, column = np.nonzero(np.ptp(panel.rgba[..., :3].astype(int), axis=2) > 0)
    zoom = panel.rgba.shape[1] // 72
    assert zoom >= 2
    assert panel.rgba.shape == (64 * zoom, 72 * zoom, 4)
    # Rows 5 to 8 of the data lie near the bottom of the picture.
    assert row.min() == (64 - 9) * zoom
    assert column.min() == 10 * zoom
    assert panel.nm_per_pixel == pytest.approx(1 / zoom)


def test_pictures_have_whole_pixels() -> None:
    panels = slice_panels(planes(), overlay=False)
    pixels = figure_pixels(stack_figure(panels))
    heights = [p.rgba.shape[0] for p in panels]
    assert pixels.shape == (sum(heights) + 12, panels[0].rgba.shape[1], 4)
    # Between the writing, the picture is the panel, pixel by pixel.
    middle = slice(heights[0] // 2, heights[0] // 2 + 20)
    assert np.array_equal(pixels[middle, 200:300], panels[0].rgba[middle, 200:300])
    with pytest.raises(ValueError, match="at least one"):
        stack_figure([])


def test_sections_match_their_slices() -> None:
    ball = sphere((20.0, 32.0, 36.0), 15.0)
    slices = planes()
    sections = section_panels([ball], slices, BOX)
    for section, cut in zip(sections, slice_panels(slices, overlay=False), strict=True):
        assert abs(section.rgba.shape[0] - cut.rgba.shape[0]) <= 1
        assert section.rgba.shape[1] == cut.rgba.shape[1]
        assert section.nm_per_pixel == pytest.approx(cut.nm_per_pixel, rel=1e-6)
    # The first is cut at the sphere's equator: a disc of its radius.
    area = (sections[0].rgba[..., 3] > 127).sum() * sections[0].nm_per_pixel ** 2
    assert area == pytest.approx(np.pi * 15**2, rel=0.02)
    # Behind a plane above the sphere nothing is cut away, behind one below it nothing is left.
    below = [Slice("xy", 2.0, s.raw, s.labels, s.inferred, 1.0) for s in slices[:1]]
    assert not (section_panels([ball], below, BOX)[0].rgba[..., 3] > 0).any()


def test_surfaces_by_membrane_and_by_uncertainty() -> None:
    balls = [sphere((20.0, 20.0, 20.0), 12.0, number=1, values=0.2), sphere((20.0, 45.0, 50.0), 12.0, number=2)]
    first, second, small = (figure_pixels(figure) for figure in surface_figures(balls, BOX, width=300))
    assert first.shape == second.shape
    assert small.shape[:2] == (first.shape[0] // 3, 100)
    assert first.shape[1] == 300
    assert (first[..., 3] > 0).mean() > 0.1
    assert not np.array_equal(first, second)


def test_towers_do_not_make_towering_pictures() -> None:
    box = (900.0, 30.0, 30.0)
    first = surface_figures([sphere((450.0, 15.0, 15.0), 12.0)], box, width=300)[0]
    assert figure_pixels(first).shape[0] < 1.4 * 300
    tower = Slice("xz", 15.0, np.zeros((900, 30)), np.zeros((900, 30), int), np.zeros((900, 30), bool), 1.0)
    assert slice_panels([tower], overlay=False)[0].rgba.shape[0] <= 1000


def test_slices_that_do_not_fit_are_refused() -> None:
    bad = Slice("xy", 0.0, np.zeros((4, 4)), np.zeros((4, 5), int), np.zeros((4, 4), bool), 1.0)
    with pytest.raises(ValueError, match="one shape"):
        slice_panels([bad], overlay=True)


@pytest.mark.parametrize(("width", "bar"), [(512.0, 100.0), (79.0, 10.0), (9000.0, 2000.0), (20.0, 5.0)])
def test_scale_bars(width: float, bar: float) -> None:
    assert scale_bar_nm(width) == bar
    assert doctest.testmod(figures).failed == 0
