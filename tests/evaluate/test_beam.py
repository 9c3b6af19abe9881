"""Angles against analytic spheres and planes; bins against brute force."""

import numpy as np
import pytest

from cryoscale.evaluate.beam import beam_angle_degrees, scores_by_angle
from cryoscale.evaluate.overlap import Counts, count_overlap


def points(shape):
    return np.moveaxis(np.indices(shape, dtype=float), 0, -1)


def shell(centre, radius, shape=(52, 52, 52)):
    """Mask of a 4-voxel shell and its exact angle to z."""
    offset = points(shape) - centre
    length = np.linalg.norm(offset, axis=-1)
    angle = np.degrees(np.arccos(np.abs(offset[..., 0]) / np.maximum(length, 1e-9)))
    return np.abs(length - radius) <= 2, angle


def test_angle_on_a_sphere():
    mask, exact = shell((25.6, 25.1, 25.8), 19)
    found = beam_angle_degrees(mask.astype(np.uint16))
    assert np.isnan(found[~mask]).all() and np.isfinite(found[mask]).all()
    error = np.abs(found - exact)[mask]
    assert error.mean() < 1.5 and np.percentile(error, 99) < 5
    # Mutant: angles to another axis are far off.
    other = np.moveaxis(beam_angle_degrees(np.moveaxis(mask, 0, 1).astype(np.uint16)), 1, 0)
    assert np.abs(other - exact)[mask].mean() > 20


def test_angle_of_a_membrane_cut_by_the_border():
    mask, exact = shell((10.2, 25.1, 25.8), 19)
    found = beam_angle_degrees(mask.astype(np.uint16))
    assert np.abs(found - exact)[mask].max() < 15
    assert np.abs(found - exact)[mask].mean() < 2


@pytest.mark.parametrize("tilt", [0, 25, 50, 90])
def test_angle_on_a_plane(tilt):
    normal = np.array([np.cos(np.radians(tilt)), 0, np.sin(np.radians(tilt))])
    rows = points((40, 40, 40)) - 19.6
    mask = (np.abs(rows @ normal) <= 2) & (np.linalg.norm(rows, axis=-1) < 16)
    inner = mask & (np.linalg.norm(rows, axis=-1) < 12)
    found = beam_angle_degrees(mask.astype(int) * 3)
    assert np.abs(found[inner] - tilt).max() < 5


def test_touching_membranes_do_not_bend_each_other():
    labels = np.zeros((30, 40, 40), np.uint8)
    labels[13:17, :, :20] = 1
    labels[:, :, 20:24] = 2
    found = beam_angle_degrees(labels)
    assert found[:, :, :14][labels[:, :, :14] == 1].max() < 5
    assert found[labels == 2].min() > 85
    # Mutant: looked at together, the wall's normals bend where the sheet meets it.
    together = beam_angle_degrees((labels > 0).astype(np.uint8))
    assert together[labels == 2].min() < 70


def test_bins_against_brute_force():
    rng = np.random.default_rng(2)
    truth = rng.random((6, 7, 8)) < 0.2
    prediction = rng.random((6, 7, 8)) < 0.2
    angle = np.where(truth, rng.uniform(0, 90, truth.shape), np.nan)
    bins = scores_by_angle(prediction, truth, angle)
    assert [(b.low_degrees, b.high_degrees) for b in bins] == [(0, 30), (30, 60), (60, 90)]
    assert sum((b.counts for b in bins), Counts()) == count_overlap(prediction, truth)
    for part in bins:
        mine = truth & (angle >= part.low_degrees) & (angle < part.high_degrees)
        assert part.counts.true_positive == (mine & prediction).sum()
        assert part.counts.false_negative == (mine & ~prediction).sum()


def test_surplus_goes_to_the_nearest_truth():
    truth = np.zeros((1, 1, 20), bool)
    truth[..., [2, 17]] = True
    angle = np.where(truth, 0.0, np.nan)
    angle[..., 17] = 90.0
    prediction = np.zeros_like(truth)
    prediction[..., [3, 4, 5, 12, 17]] = True
    caps, middle, sides = scores_by_angle(prediction, truth, angle)
    assert caps.counts == Counts(0, 3, 1)
    assert middle.counts == Counts()
    assert sides.counts == Counts(1, 1, 0)
    # Mutant: surplus shared by the bins' sizes would count 2 and 2.
    assert caps.counts.false_positive != sides.counts.false_positive


def test_true_voxels_without_angle_take_the_nearest():
    truth = np.ones((1, 1, 4), bool)
    angle = np.array([[[10.0, np.nan, np.nan, 80.0]]])
    caps, _, sides = scores_by_angle(np.array([[[1, 0, 1, 1]]]), truth, angle)
    assert caps.counts == Counts(1, 0, 1) and sides.counts == Counts(2, 0, 0)


def test_no_truth_gives_no_counts():
    nothing = np.zeros((2, 2, 2), bool)
    bins = scores_by_angle(~nothing, nothing, np.full((2, 2, 2), np.nan))
    assert all(part.counts == Counts() for part in bins)


def test_bad_input_is_refused():
    one = np.ones((1, 1, 1))
    with pytest.raises(ValueError, match="one shape"):
        scores_by_angle(one, one, np.ones((1, 1, 2)))
    with pytest.raises(ValueError, match="ascend"):
        scores_by_angle(one, one, one, (0, 0))
    with pytest.raises(ValueError, match="span"):
        scores_by_angle(one, one, one * 91)
