"""The picture of a slice's fits: selected and rejected pixels, seen and inferred parts, bands, the field."""

import dataclasses

import numpy as np
import pytest

from cryoscale.report.figures import figure_pixels
from cryoscale.report.slicefits import DrawnCurve, DrawnMembrane, SliceFits, slice_fits_figure


def circle(radius, count=120):
    turn = np.linspace(0, 2 * np.pi, count)
    normal = np.stack([np.sin(turn), np.cos(turn)], 1)
    return 60 + radius * normal, normal


@pytest.fixture
def found():
    """One ring, its last fifth inferred, ten pixels rejected."""
    points, normals = circle(35)
    pixels = np.rint(points)
    mask = np.zeros((120, 160), bool)
    mask[tuple(pixels.astype(int).T)] = True
    selected, seen = np.arange(120) >= 10, np.arange(120) < 96
    membrane = DrawnMembrane(3, pixels, selected, points, True)
    curve = DrawnCurve(3, points, np.full(120, 1.5), normals, seen)
    field = np.full((120, 160), np.nan)
    field[20:100, 20:100] = 0.5
    return SliceFits(mask, None, [membrane], [curve], field, 1.0, "TS_001, z = 7 (7 nm)")


def panels(found):
    return slice_fits_figure(found).axes[:3]


def test_panels_say_what_was_found(found) -> None:
    figure = slice_fits_figure(found)
    pixels, curves, field = (axes.get_title(loc="left") for axes in figure.axes[:3])
    assert "110 of 120 pixels selected" in pixels and "1 of 1 are ellipses" in pixels
    assert "80% seen" in curves and "+1 inside" in field
    assert figure.texts[0].get_text() == "TS_001, z = 7 (7 nm)"
    drawn = figure_pixels(figure)
    assert (drawn[..., 3] == 255).all() and len(np.unique(drawn.reshape(-1, 4), axis=0)) > 20


def test_selected_and_rejected_pixels_are_told_apart(found) -> None:
    kept, rejected = panels(found)[0].collections[:2]
    assert len(kept.get_offsets()) == 110 and len(rejected.get_offsets()) == 10
    np.testing.assert_array_equal(rejected.get_offsets(), found.membranes[0].pixels[:10, ::-1])


def test_what_is_inferred_is_dashed(found) -> None:
    axes = panels(found)[1]
    dashed = [line for line in axes.lines if line.is_dashed()]
    assert len(dashed) == 1 and len(dashed[0].get_xdata()) == 25
    np.testing.assert_array_equal(dashed[0].get_ydata(), found.curves[0].points[95:, 0])
    solid = axes.collections[1]
    assert len(solid.get_segments()) == 95


def test_the_band_is_two_sds_wide_and_not_endless(found) -> None:
    def widths(one):
        quads = np.array([path.vertices[:4] for path in panels(one)[1].collections[0].get_paths()])
        return np.linalg.norm(quads[:, 0] - quads[:, 3], axis=1)

    np.testing.assert_allclose(widths(found), 6.0)
    wide = dataclasses.replace(found.curves[0], sd_pixels=np.full(120, 1e6))
    np.testing.assert_allclose(widths(dataclasses.replace(found, curves=[wide])), 20.0)


def test_an_ellipse_that_does_not_describe_is_dotted_or_absent(found) -> None:
    def lines(**changes):
        membrane = dataclasses.replace(found.membranes[0], **changes)
        return panels(dataclasses.replace(found, membranes=[membrane]))[0].lines

    assert not lines()[0].is_dashed() and lines(describes=False)[0].is_dashed() and len(lines(outline=None)) == 0


def test_rows_run_upwards_and_the_bar_is_as_long_as_it_says(found) -> None:
    for nm_per_pixel in (1.0, 0.5):
        axes = panels(dataclasses.replace(found, nm_per_pixel=nm_per_pixel))[0]
        assert axes.get_ylim() == (-0.5, 119.5) and axes.get_xlim() == (-0.5, 159.5)
        assert axes.patches[-1].get_width() * nm_per_pixel == float(axes.texts[-1].get_text().split()[0])


def test_the_tomogram_lies_behind_the_curves(found) -> None:
    noise = np.random.default_rng(0).normal(size=found.mask.shape)
    shown = panels(dataclasses.replace(found, intensity=noise))[1].images[0].get_array()
    assert len(np.unique(shown)) > 5 and shown.shape == found.mask.shape


def test_nothing_found_is_said() -> None:
    empty = SliceFits(np.zeros((50, 80), bool), None, [], [], np.full((50, 80), np.nan), 1.0, "empty")
    figure = slice_fits_figure(empty)
    assert "0 of 0" in figure.axes[0].get_title(loc="left") and figure.axes[1].get_title(loc="left").endswith(
        "no curve"
    )
    assert figure_pixels(figure).size > 0


def test_shapes_that_differ_are_refused(found) -> None:
    with pytest.raises(ValueError, match="one shape"):
        slice_fits_figure(dataclasses.replace(found, field=np.zeros((3, 3))))
