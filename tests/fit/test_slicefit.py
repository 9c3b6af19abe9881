"""The fits of one slice of labels: which pixels are selected, which rings make a nest, what field they share."""

import tracemalloc

import numpy as np
import pytest

from cryoscale.fit.ellipse import Ellipse, fit_ellipse
from cryoscale.fit.slicefit import field_near, fit_slice, nests
from tests.fit.test_ellipse import TRUE, cloud

SHAPE = (5, 130, 220)


def ring(centre, radius, shape=SHAPE):
    z, y, x = np.indices(shape)
    return np.abs(np.hypot(y - centre[0], x - centre[1]) - radius + 0.3 * np.abs(z - 2)) < 1.5


@pytest.fixture(scope="module")
def labels():
    """A double membrane (1 outside, 4 inside) with a twig, and a vesicle (7) by itself; 9 is a crumb."""
    volume = np.zeros(SHAPE, np.int32)
    volume[ring((65, 65), 48)] = 1
    volume[ring((65, 65), 40)] = 4
    volume[2, 64:67, 114:130] = 1
    volume[ring((65, 170), 30)] = 7
    volume[2, 5, 5:10] = 9
    return volume


def test_rings_nest_and_twigs_are_rejected(labels) -> None:
    found = fit_slice(labels, 2)
    assert [one.number for one in found.membranes] == [1, 4, 7]
    assert found.numbers == ((1, 4), (7,))
    outer = found.membranes[0]
    twig = outer.pixels[:, 1] > 118
    assert not outer.selected[twig].any() and outer.selected[~twig].mean() > 0.98
    assert all(one.selected.all() for one in found.membranes[1:])
    for one, radius in zip(found.membranes, (48, 40, 30), strict=True):
        np.testing.assert_allclose(one.ellipse.axes, radius, atol=0.6)
    pieces = found.curves[0].contours()
    radii = [np.hypot(*(piece.points - 65).T) for piece in pieces]
    assert np.abs(radii[0] - 48).max() < 1.0 and np.abs(radii[1] - 40).max() < 1.0


def test_the_field_alternates_and_is_told_only_near_data(labels) -> None:
    found = fit_slice(labels, 2)
    field = field_near(found.curves, SHAPE[1:])
    assert field.shape == SHAPE[1:] and np.isnan(field[65, 65]) and np.isnan(field[2, 219])
    assert field[65, 65 + 53] < 0 < field[65, 65 - 44] and field[65, 65 - 34] < 0
    assert field[65, 170 - 24] > 0 > field[65, 170 + 36]


def test_a_poor_slice_is_helped_by_its_neighbours() -> None:
    volume = np.where(ring((65, 65), 48), 1, 0)
    x = np.arange(SHAPE[2])
    volume[4, :, x < 105] = 0
    helped = fit_slice(volume, 4).membranes[0].ellipse
    alone = fit_slice(volume[4:], 0).membranes[0].ellipse
    assert np.abs(helped.axes - 47.4).max() < 2.0
    assert alone is None


def test_arcs_have_curves_but_no_ellipse() -> None:
    volume = np.where(ring((65, 65), 48), 3, 0)
    volume[:, :, :90] = 0
    found = fit_slice(volume, 2)
    (one,), (curve,) = found.membranes, found.curves
    assert one.ellipse is None and one.selected.all()
    (piece,) = curve.contours()
    assert not piece.closed and np.abs(np.hypot(*(piece.points - 65).T) - 48).max() < 1.0


def test_only_chains_make_nests() -> None:
    big = Ellipse(TRUE.centre, np.array([90.0, 80.0]), 0.0)
    small = [Ellipse(TRUE.centre + np.array([0, side * 40]), np.array([20.0, 20.0]), 0.0) for side in (-1, 1)]
    tiny = Ellipse(small[0].centre, np.array([9.0, 9.0]), 0.0)
    clouds = [cloud(k, ellipse=e) for k, e in enumerate([tiny, small[0], big, small[1]])]
    fits = [fit_ellipse(points) for points in clouds]
    assert nests(clouds, fits) == [[1, 0], [2], [3]]
    assert nests([clouds[1], clouds[2]], [fits[1], fits[2]]) == [[1, 0]]
    assert nests([clouds[1], clouds[2]], [fits[1], None]) == [[0], [1]]
    half = fit_ellipse(cloud(2, ellipse=big, gap=4.5))
    assert nests([clouds[1], clouds[2]], [fits[1], half]) == [[0], [1]]


def test_an_empty_slice_has_no_fits() -> None:
    found = fit_slice(np.zeros((3, 20, 20), np.int32), 1)
    assert found.membranes == () and found.curves == ()
    assert np.isnan(field_near((), (20, 20))).all()


def test_a_slice_that_is_not_there_is_refused() -> None:
    for row in (-1, 3):
        with pytest.raises(ValueError, match="must be one of"):
            fit_slice(np.zeros((3, 20, 20), np.int32), row)


@pytest.mark.parametrize(
    ("dtype", "names"),
    [(np.uint32, (5, 150_000_000, 2**31 + 5)), (np.uint64, (1, 2, 2**63 + 1)), (np.float32, (1, 4, 70000))],
)
def test_numbers_of_any_size_are_kept_as_names(labels, dtype, names) -> None:
    """In the memory that the volume needs, however large the numbers are."""
    renamed = np.zeros(SHAPE, dtype)
    for old, new in zip((1, 4, 7), names, strict=True):
        renamed[labels == old] = new
    tracemalloc.start()
    found = fit_slice(renamed, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert tuple(one.number for one in found.membranes) == names
    assert found.numbers == ((names[0], names[1]), (names[2],))
    assert peak < 100 * 2**20


def test_a_mask_is_one_membrane() -> None:
    found = fit_slice(ring((65, 65), 48), 2)
    assert [one.number for one in found.membranes] == [1] and found.membranes[0].ellipse is not None


@pytest.mark.parametrize(
    ("value", "dtype", "says"),
    [(-3, np.int16, r"found -3 \(int16\)"), (1.5, np.float32, "found 1.5"), (np.nan, float, "nan"), (1, complex, "1")],
)
def test_labels_that_number_nothing_are_refused(labels, value, dtype, says) -> None:
    wrong = labels.astype(dtype)
    wrong[4, 0, 0] = value
    with pytest.raises(ValueError, match=rf"labels must be whole numbers, 0 for background and positive; .*{says}"):
        fit_slice(wrong, 2)
