"""Surface distances against Euclidean distance transforms and known shifts."""

import math

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter

from cryoscale.evaluate.surfaces import SurfaceCounts, border_points, count_near, surface_scores


def ball(centre, radius, shape=(40, 40, 40)):
    return np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - np.array(centre), axis=-1) <= radius


def test_against_distance_transforms():
    a, b = ball((19, 20, 20), 12), ball((21, 19, 20), 11)
    voxel = 1.4
    border_a, border_b = np.zeros_like(a), np.zeros_like(b)
    border_a[tuple(np.rint(border_points(a, 1.0)).astype(int).T)] = True
    border_b[tuple(np.rint(border_points(b, 1.0)).astype(int).T)] = True
    to_a = distance_transform_edt(~border_a, sampling=voxel)[border_b]
    to_b = distance_transform_edt(~border_b, sampling=voxel)[border_a]
    both = np.concatenate([to_a, to_b])
    found = surface_scores(border_points(a, voxel), border_points(b, voxel), tolerance_nm=1.5)
    assert found.mean_nm == pytest.approx(both.mean())
    assert found.percentile95_nm == pytest.approx(np.percentile(both, 95))
    assert found.maximum_nm == pytest.approx(both.max())
    assert found.surface_dice == pytest.approx((both <= 1.5).mean())
    assert surface_scores(border_points(b, voxel), border_points(a, voxel), tolerance_nm=1.5) == pytest.approx(found)


def test_both_directions_count():
    """Mutant: a part of the truth that was missed shows only on the way back."""
    grid = np.moveaxis(np.indices((1, 20, 20)), 0, -1).reshape(-1, 3).astype(float)
    half = grid[grid[:, 1] < 10]
    found = surface_scores(half, grid, tolerance_nm=0.5)
    assert found.maximum_nm == 10 and found.surface_dice == pytest.approx(400 / 600)


def test_shifted_plane():
    plane = np.moveaxis(np.indices((1, 30, 30)), 0, -1).reshape(-1, 3).astype(float)
    found = surface_scores(plane + np.array([0.7, 0, 0]), plane, tolerance_nm=1.0)
    np.testing.assert_allclose([found.mean_nm, found.percentile95_nm, found.maximum_nm], 0.7)
    assert found.surface_dice == 1
    assert surface_scores(plane + np.array([0.7, 0, 0]), plane, tolerance_nm=0.6).surface_dice == 0


def test_border_of_a_mask():
    mask = np.zeros((5, 5, 5), bool)
    mask[1:4, 1:4, 1:4] = True
    assert len(border_points(mask, 2.0)) == 26 and border_points(mask, 2.0).max() == 6
    assert len(border_points(np.ones((3, 3, 3), bool), 1.0)) == 0


def test_empty_surfaces():
    none, some = np.zeros((0, 3)), np.zeros((1, 3))
    missed, nothing = surface_scores(none, some, tolerance_nm=1), surface_scores(none, none, tolerance_nm=1)
    assert missed.surface_dice == 0 and math.isnan(missed.mean_nm)
    assert math.isnan(nothing.surface_dice)
    with pytest.raises(ValueError, match="tolerance"):
        surface_scores(some, some, tolerance_nm=-1)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.3])
def test_slabs_give_the_surface_dice_of_the_whole(tolerance: float) -> None:
    """Mutant: with no planes around each slab, the counts differ."""
    rng = np.random.default_rng(3)
    smooth = [gaussian_filter(rng.standard_normal((24, 20, 22)), 2.0) for _ in range(2)]
    found, wanted = smooth[0] > 0.02, smooth[0] + 0.5 * smooth[1] > 0.02

    def counted(halo: int) -> SurfaceCounts:
        total = SurfaceCounts()
        for start in range(0, 24, 5):
            low, high = max(0, start - halo), min(24, start + 5 + halo)
            stop = min(start + 5, 24)
            total += count_near(found[low:high], wanted[low:high], tolerance, start - low, stop - low)
        return total

    whole = surface_scores(border_points(found, 1.0), border_points(wanted, 1.0), tolerance_nm=tolerance)
    enough = math.floor(tolerance) + 1
    assert counted(enough).surface_dice == pytest.approx(whole.surface_dice, abs=1e-12)
    assert counted(0) != counted(enough)


def test_borders_that_cannot_be_counted() -> None:
    with pytest.raises(ValueError, match="one shape"):
        count_near(np.zeros((2, 2, 2), bool), np.zeros((2, 2, 3), bool), 1.0, 0, 2)
    assert math.isnan(SurfaceCounts().surface_dice)
