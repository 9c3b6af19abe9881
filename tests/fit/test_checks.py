"""Arguments of a fit: what is refused in words, and what is taken as it was meant."""

from typing import Any

import numpy as np
import pytest

from cryoscale.fit import Surface, fit_surface, fit_surfaces
from cryoscale.fit.checks import checked_box, checked_control_points
from cryoscale.fit.select import check_points
from tests.fit.shapes import sphere_points

CLOUD = sphere_points(12, 700, seed=1, noise=0.3)


@pytest.mark.parametrize("value", [0, -5, 1, 3, 2.5, 499.5, True, "a", "500", None, float("nan"), float("inf"), [500]])
def test_control_points_that_cannot_be_are_named(value: Any) -> None:
    with pytest.raises(ValueError, match="control_points must be a whole number, at least 4; found"):
        fit_surface(CLOUD, control_points=value)


@pytest.mark.parametrize("value", [4, 500, np.int16(30), 60.0, np.float32(60)])
def test_whole_numbers_of_any_type_are_control_points(value: Any) -> None:
    found = checked_control_points(value)
    assert type(found) is int and found == value


def test_the_least_control_points_carry_a_surface() -> None:
    flat = np.argwhere(np.ones((1, 20, 20), bool)).astype(float)
    surface = fit_surface(flat, spacing=1.0, control_points=4)
    assert np.abs(surface.mesh(1.0)[0][:, 0]).max() < 0.1


@pytest.mark.parametrize(
    "box",
    [
        ((60, 80, 80), (0, 0, 0)),
        ((0, 0, 0), (60, 0, 80)),
        ((0, 0, 0), (60, np.nan, 80)),
        ((0, 0, 0),),
        (60, 80, 80),
        ((0, 0), (60, 80)),
        np.ma.masked_equal([[0, 0, 0], [60, 80, 99]], 99),
        "abc",
        ({}, {}),
        ((0, 0, 0), (1, 2)),
    ],
)
def test_a_box_that_is_none_is_refused_before_anything_is_solved(box: Any) -> None:
    with pytest.raises(ValueError, match="box must be"):
        fit_surfaces([np.zeros((0, 3))], box=box)


def test_a_box_may_come_as_an_array() -> None:
    assert checked_box(np.array([[0, 0, 0], [60, 80, 80]])) == ((0, 0, 0), (60, 80, 80))
    assert checked_box(None) is None


@pytest.mark.parametrize("wrong", [{}, np.array([[1, 2, {}]]), np.full((9, 3), 1j), [[1, 2], [3]], [["a"] * 3]])
def test_what_is_no_array_of_numbers_spoils_no_other_membrane(wrong: Any) -> None:
    first, second = fit_surfaces([wrong, CLOUD], spacing=1.0, control_points=200)
    assert isinstance(first, ValueError) and "points must be an array of real numbers; found" in str(first)
    assert isinstance(second, Surface)


def test_weights_that_are_no_numbers_spoil_no_other_membrane() -> None:
    first, second = fit_surfaces([CLOUD, CLOUD], weights=[{}, None], spacing=1.0, control_points=200)
    assert isinstance(first, ValueError) and "weights must be an array of real numbers; found dict" in str(first)
    assert isinstance(second, Surface)


def test_every_membrane_has_its_weights() -> None:
    with pytest.raises(ValueError, match="one entry per membrane, 2; found 1"):
        fit_surfaces([CLOUD, CLOUD], weights=[None])


@pytest.mark.parametrize("weight", [1e308, np.inf, np.nan, -1.0])
def test_weights_whose_sums_are_no_numbers_are_refused(weight: float) -> None:
    shares = np.ones(len(CLOUD))
    shares[3] = weight
    with pytest.raises(ValueError, match=r"weights must be finite and not negative, at most 1e\+100; found"):
        fit_surface(CLOUD, weights=shares)


def test_the_largest_weights_allowed_can_be_computed_with() -> None:
    surface = fit_surface(CLOUD, weights=np.full(len(CLOUD), 1e100), spacing=1.0)
    assert np.abs(surface.distance(sphere_points(12, 50, seed=3))).max() < 0.3


def test_what_a_mask_hides_is_left_out() -> None:
    array = np.ma.masked_array(np.concatenate([CLOUD, [[np.nan, 0, 0], [900.0, 0, 0]]]), mask=False)
    array[-2:, 0] = np.ma.masked
    shares = np.ma.masked_array(np.ones(len(array)), mask=False)
    shares[0] = np.ma.masked
    mask = shares.mask.copy()
    expected = CLOUD[1:][np.lexsort(CLOUD[1:].T[::-1])]
    np.testing.assert_array_equal(check_points(array, shares)[0], expected)
    assert (shares.mask == mask).all() and array.mask[:, 0].sum() == 2
