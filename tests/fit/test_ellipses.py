"""What the ellipses of better slices tell poorer ones, and which voxels they validate."""

from dataclasses import replace

import numpy as np
import pytest

from cryoscale.fit.ellipse import Bounds, Ellipse, fit_ellipse
from cryoscale.fit.ellipses import fit_ellipses_by_slice, goes_round, near_ellipse, near_ellipses
from tests.fit.test_ellipse import TRUE, cloud


def vesicle(seed=0):
    """Slices of an ellipsoid; on the outer ones only an arc of 60 degrees and a foreign blob are left."""
    rng = np.random.default_rng(seed)
    slices, truth, foreign = {}, {}, {}
    for z in range(-20, 21):
        shrink = np.sqrt(1 - (z / 40) ** 2)
        truth[z] = Ellipse(TRUE.centre + 0.2 * z, TRUE.axes * shrink, 0.7)
        poor = abs(z) > 10
        points = cloud(seed + z + 50, ellipse=truth[z], n=25 if poor else 300, gap=5.2 if poor else 0.3)
        blob = rng.normal(TRUE.centre - [4.0, 0.0], 2.0, (8 if poor else 0, 2))
        slices[z] = np.concatenate([points, blob])
        foreign[z] = np.arange(len(slices[z])) >= len(points)
    return slices, truth, foreign


def error_of(ellipses, truth):
    return {z: np.abs(truth[z].distance(ellipses[z].outline())).mean() for z in ellipses}


def test_poorer_slices_are_carried_by_better_ones() -> None:
    slices, truth, _ = vesicle()
    carried = error_of(fit_ellipses_by_slice(slices), truth)
    alone = error_of({z: fit_ellipse(points) for z, points in slices.items()}, truth)
    assert list(carried) == sorted(slices)
    poor = [z for z in slices if abs(z) > 10]
    assert max(carried[z] for z in slices if abs(z) <= 10) < 0.5
    # Each poorer slice starts from the nearest sound one; its errors are not handed on.
    assert np.mean([carried[z] for z in poor]) < 3.0 < 6.0 < np.mean([alone[z] for z in poor])


def test_a_good_slice_helps_a_poor_one_on_its_way_to_the_best() -> None:
    slices = {0: cloud(0, n=500), 1: cloud(1, n=12, gap=5.6, ellipse=Ellipse(TRUE.centre, TRUE.axes - 9, 0.7))}
    slices[2] = cloud(2, n=200, ellipse=Ellipse(TRUE.centre, TRUE.axes - 9.5, 0.7))
    slices[3] = cloud(3, n=12, gap=5.6, ellipse=Ellipse(TRUE.centre, TRUE.axes - 10, 0.7))
    with_it, without = (fit_ellipses_by_slice({z: slices[z] for z in chosen}) for chosen in ((0, 2, 3), (0, 3)))
    assert np.abs(with_it[3].axes - TRUE.axes + 10).max() < 2.0 < np.abs(without[3].axes - TRUE.axes + 10).max()
    every = fit_ellipses_by_slice(slices)
    assert np.abs(every[2].axes - TRUE.axes + 9.5).max() < 1.0


def test_without_bounds_nothing_is_carried() -> None:
    slices, truth, _ = vesicle()
    loose = error_of(fit_ellipses_by_slice(slices, bounds=Bounds(1e3, 1e3, 3.0)), truth)
    held = error_of(fit_ellipses_by_slice(slices), truth)
    poor = [z for z in slices if abs(z) > 10]
    assert np.mean([loose[z] for z in poor]) > 1.5 * np.mean([held[z] for z in poor])


def test_voxels_near_the_ellipses_are_validated() -> None:
    slices, _, foreign = vesicle()
    points = np.concatenate([np.column_stack([np.full(len(p), z), p]) for z, p in slices.items()])
    is_foreign = np.concatenate(list(foreign.values()))
    order = np.random.default_rng(0).permutation(len(points))
    keep, ellipses = near_ellipses(points[order])
    assert goes_round(ellipses) and len(ellipses) == 41
    assert keep[is_foreign[order]].mean() < 0.05
    assert keep[~is_foreign[order]].mean() > 0.98


def test_what_no_ellipse_describes_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    turn, far = rng.uniform(0, 2 * np.pi, 600), 20 * np.sqrt(rng.uniform(0, 1, 600))
    disc = np.stack([far * np.sin(turn), far * np.cos(turn)], 1)
    found = fit_ellipse(disc)
    assert not found.describes and near_ellipse(disc, found).all()
    arc = cloud(0, gap=5.5, n=60, outliers=0.1)
    keep, ellipses = near_ellipses(np.column_stack([np.zeros(60), arc]))
    assert keep.all() and not goes_round(ellipses)


def test_a_band_is_no_ring() -> None:
    y, x = np.mgrid[0:3, 0:80]
    band = np.stack([y.ravel(), x.ravel()], 1)
    flat = fit_ellipse(band)
    assert flat.describes and not flat.is_ring
    # Near both of its sides, pixels of a line cover it all round; only its flatness tells.
    covered = replace(flat, coverage=1.0)
    assert not covered.is_ring and replace(covered, axes=np.array([40.0, 20.0])).is_ring
    assert not goes_round(fit_ellipses_by_slice(dict.fromkeys(range(3), band)))
    assert fit_ellipse(cloud(0)).is_ring


def test_slices_without_enough_pixels() -> None:
    assert fit_ellipses_by_slice({}) == {}
    assert fit_ellipses_by_slice({0: np.zeros((2, 2)), 1: np.array([[0.0, 0], [1, 1], [2, 2], [3, 3]])}) == {}
    found = fit_ellipses_by_slice({0: cloud(0), 1: np.array([[1.0, 2.0]]), 2: cloud(1)[:3]})
    assert list(found) == [0, 2]


def test_bad_points_are_refused() -> None:
    for points in (cloud(0), np.full((9, 3), np.nan)):
        with pytest.raises(ValueError, match=r"shape \(n, 3\)"):
            near_ellipses(points)
