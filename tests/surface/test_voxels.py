"""Thickness against the analytic shell, painting against a dense brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscale.chunks import Region, blocks
from cryoscale.surface.voxels import VOXEL, membrane_voxels, paint_block, split_by_block, voxel_records
from tests.surface.shapes import band_of, distance_to_sphere


def thickness_along_rays(mask, centre, radius):
    """Length of mask along many rays from the centre, by fine steps: a measure independent of the distance."""
    directions = np.random.default_rng(1).normal(size=(500, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    steps = np.arange(radius - 5, radius + 5, 0.05)
    points = np.rint(centre + directions[:, None] * steps[:, None]).astype(int)
    return mask[tuple(np.moveaxis(points, -1, 0))].sum(axis=1) * 0.05


def test_thickness_is_the_one_asked_for():
    centre, radius = np.array([24.2, 24.7, 24.1]), 18.0
    band = band_of(distance_to_sphere((50, 50, 50), centre, radius))
    mask = np.zeros((50, 50, 50), bool)
    mask[tuple(band.index[membrane_voxels(band, 3.0)].T)] = True
    thickness = thickness_along_rays(mask, centre, radius)
    assert abs(thickness.mean() - 3.05) < 0.15
    assert thickness.std() < 0.5
    assert thickness.min() > 1.5, "a hole"


@pytest.mark.parametrize("thickness", [0, -1, float("nan")])
def test_bad_thickness_is_refused(thickness):
    with pytest.raises(ValueError, match="thickness"):
        membrane_voxels(band_of(np.zeros((2, 2, 2))), thickness)


def test_records_hold_the_membrane():
    support = np.indices((20, 20, 20), dtype=float)[0]
    band = band_of(distance_to_sphere((20, 20, 20), (10, 10, 10), 6), sd=0.4, support=support)
    records = voxel_records(band, 2.0, 1.5, 7)
    dense = np.argwhere(np.abs(distance_to_sphere((20, 20, 20), (10, 10, 10), 6).astype(np.float32)) <= 1)
    np.testing.assert_array_equal(np.column_stack([records[n] for n in "zyx"]), dense)
    np.testing.assert_allclose(records["sd_nm"], 0.6)
    np.testing.assert_allclose(records["support_nm"], 1.5 * dense[:, 0], rtol=1e-6)
    assert (records["number"] == 7).all()


def random_records(rng, count, shape, membranes):
    """Unique voxels per membrane, distances on a coarse scale so that ties occur."""
    records = np.zeros(count, VOXEL)
    for axis, name in enumerate("zyx"):
        records[name] = rng.integers(0, shape[axis], count)
    records["number"] = rng.integers(1, membranes + 1, count)
    records["distance"] = rng.integers(-3, 4, count) / 2
    records["sd_nm"] = rng.uniform(0.1, 1, count)
    records["support_nm"] = rng.uniform(2, 9, count)
    return records[np.unique(records[["z", "y", "x", "number"]], return_index=True)[1]]


def brute_force(records, shape):
    labels, sd, support = np.zeros(shape, int), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for place in np.ndindex(shape):
        here = [r for r in records if (r["z"], r["y"], r["x"]) == place]
        if here:
            best = min(here, key=lambda r: (abs(r["distance"]), r["number"]))
            labels[place], sd[place], support[place] = best["number"], best["sd_nm"], best["support_nm"]
    return labels, sd, support


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(0, 60))
def test_painting_equals_brute_force_whatever_the_order(seed, count):
    rng, shape = np.random.default_rng(seed), (3, 4, 5)
    records = random_records(rng, count, shape, 4)
    painted = paint_block(rng.permutation(records), Region((0, 0, 0), shape))
    for values, wanted in zip(painted, brute_force(records, shape), strict=True):
        np.testing.assert_array_equal(values, wanted)
    assert [values.dtype for values in painted] == [np.uint32, np.float32, np.float32]


@pytest.mark.parametrize("block", [(2, 3, 4), (5, 7, 9), (1, 7, 2)])
def test_blocks_painted_apart_are_the_whole(block):
    rng, shape = np.random.default_rng(5), (5, 7, 9)
    records = random_records(rng, 400, shape, 6)
    whole = paint_block(records, Region((0, 0, 0), shape))
    apart = [np.zeros_like(values) for values in whole]
    regions = blocks(shape, block)
    for number, piece in split_by_block(rng.permutation(records), shape, block):
        for values, part in zip(apart, paint_block(piece, regions[number]), strict=True):
            values[regions[number].slices] = part
    np.testing.assert_array_equal(apart, whole)


def test_ties_go_to_the_smaller_number_and_sign_does_not_matter():
    records = np.array(
        [(0, 0, 0, 0.5, 9, 6, 2), (0, 0, 0, -0.5, 7, 8, 1), (0, 0, 1, -0.2, 3, 0, 5), (0, 0, 1, 0.3, 4, 2, 1)], VOXEL
    )
    labels, sd, support = paint_block(records, Region((0, 0, 0), (1, 1, 2)), np.uint16)
    assert labels.tolist() == [[[1, 5]]] and sd.tolist() == [[[7, 3]]]
    # A membrane may be at 0 from what was seen: it is the label that tells its voxel from an empty one.
    assert support.tolist() == [[[8, 0]]]
    # Mutant: comparing signed distances would choose otherwise in both voxels or one.
    signed = [min(records[k : k + 2], key=lambda r: (-r["distance"], r["number"]))["number"] for k in (0, 2)]
    assert signed != [1, 5]


def test_bad_input_is_refused():
    records = np.array([(0, 0, 3, 0, 1, 1, 70000)], VOXEL)
    with pytest.raises(ValueError, match="70000"):
        paint_block(records, Region((0, 0, 0), (1, 1, 4)), np.uint16)
    with pytest.raises(ValueError, match=r"invalid|index|bound"):
        paint_block(records, Region((0, 0, 0), (1, 1, 3)))
    with pytest.raises(ValueError, match="along x"):
        list(split_by_block(records, (1, 1, 3), (1, 1, 2)))


def test_nothing_to_split():
    assert list(split_by_block(np.zeros(0, VOXEL), (4, 4, 4), (2, 2, 2))) == []
