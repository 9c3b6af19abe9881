"""Linking of slices: tables and votes against brute force, the rule on drawn cases, numbers in raster order."""

import itertools

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

import cryoscale.connect.link as linking
from cryoscale.connect.link import Overlaps, link_pieces, slice_overlaps
from cryoscale.connect.pieces import number_membranes, slice_pieces
from cryoscale.regions import concatenate_regions


def labelled(seed, shape=(31, 37), density=0.3):
    return ndimage.label(np.random.default_rng(seed).random(shape) < density, np.ones((3, 3)))[0].astype(np.int32)


def ring(radius=12.0, centre=(20.0, 20.0), shape=(41, 61), width=1.5):
    y, x = np.indices(shape)
    return np.abs(np.hypot(y - centre[0], x - centre[1]) - radius) < width


def membranes(slices, *, reach=2.0, share=0.2, minimum=1):
    """Label volume and table of slices of labels, put through all of the module."""
    tables = [slice_pieces(labels, z) for z, labels in enumerate(slices)]
    offset = np.cumsum([0, *map(len, tables)])
    found = [slice_overlaps(a, b, reach) for a, b in itertools.pairwise(slices)]
    pairs = [part.pairs + offset[[z, z + 1]] for z, part in enumerate(found)]
    overlaps = Overlaps(
        np.concatenate([np.empty((0, 2), np.int64), *pairs]),
        np.concatenate([np.empty((0, 2), np.int64), *(part.votes for part in found)]),
    )
    pieces = concatenate_regions(tables)
    final, table = number_membranes(pieces, link_pieces(pieces, overlaps, share=share), minimum)
    volume = [
        np.append(np.int32(0), final[a:b])[labels] for a, b, labels in zip(offset, offset[1:], slices, strict=False)
    ]
    return np.stack(volume), table


# ----------------------------------------------------------------------------------------------------- tables, votes


@pytest.mark.parametrize("seed", range(3))
def test_a_slice_is_measured_as_scipy_does(seed):
    labels = labelled(seed)
    table, numbers = slice_pieces(labels, 7), np.arange(1, labels.max() + 1)
    np.testing.assert_array_equal(table.voxels, ndimage.sum_labels(labels > 0, labels, numbers))
    centre = np.array(ndimage.center_of_mass(labels > 0, labels, numbers))
    np.testing.assert_allclose(table.coordinate_sum[:, 1:] / table.voxels[:, None], centre)
    np.testing.assert_array_equal(table.coordinate_sum[:, 0], 7 * table.voxels)
    for row, (y, x) in zip(table.box, ndimage.find_objects(labels), strict=True):
        assert row.tolist() == [7, y.start, x.start, 8, y.stop, x.stop]
    first = [7 * labels.size + np.flatnonzero(labels == number)[0] for number in numbers]
    np.testing.assert_array_equal(table.first_voxel, first)


def test_a_number_that_does_not_occur_has_no_voxels_and_no_membrane():
    labels = np.zeros((4, 5), np.int32)
    labels[1, 2] = 3
    assert slice_pieces(labels, 0).voxels.tolist() == [0, 0, 1]
    volume, table = membranes([labels, labels])
    assert len(table) == 1 and volume.max() == 1


@pytest.mark.parametrize("reach", [0.0, 1.0, 1.5, 2.0, 3.0])
def test_votes_are_those_of_a_search_tree(reach):
    lower, upper = labelled(4, density=0.08), labelled(5, density=0.08)
    found = slice_overlaps(lower, upper, reach)
    expected = {}
    for side, (own, other) in enumerate([(lower, upper), (upper, lower)]):
        points = np.argwhere(other)
        names = other[other > 0]
        for y, x in np.argwhere(own):
            distance = np.hypot(*(points - (y, x)).T)
            if distance.min() <= reach + 1e-9:
                # Raster order decides between equally near ones, as np.argmin does.
                voted = names[distance.argmin()]
                pair = (own[y, x] - 1, voted - 1) if side == 0 else (voted - 1, own[y, x] - 1)
                expected.setdefault(pair, [0, 0])[side] += 1
    assert {tuple(p): list(v) for p, v in zip(found.pairs.tolist(), found.votes.tolist(), strict=True)} == expected
    assert found.pairs.tolist() == sorted(found.pairs.tolist())


def test_nearest_not_first_gets_the_vote():
    """Two membranes two pixels apart, both within reach: a pixel votes for its own continuation."""
    lower, upper = np.zeros((2, 9, 30), np.int32)
    lower[3], lower[5] = 1, 2
    upper[3], upper[5] = 2, 1
    found = slice_overlaps(lower, upper, 2.0)
    assert found.pairs.tolist() == [[0, 1], [1, 0]] and found.votes.tolist() == [[30, 30], [30, 30]]
    assert len(cKDTree(np.argwhere(lower == 1)).query_ball_point([5, 4], 2.0)) == 1  # the other one is within reach


# ---------------------------------------------------------------------------------------------------------- the rule


def test_rings_through_slices_are_one_membrane_and_neighbours_stay_apart():
    slices = [ring(8 + z / 2) + 2 * (ring(6, (20, 48)) & ~ring(8 + z / 2)).astype(np.int32) for z in range(8)]
    volume, table = membranes([s.astype(np.int32) for s in slices])
    np.testing.assert_array_equal(volume > 0, np.stack(slices) > 0)
    assert len(table) == 2
    np.testing.assert_array_equal(volume, np.stack(slices))


def two_and_fused():
    """Two rings side by side, and the same with one label and a bridge, as a slice that went wrong has them."""
    two = ring(8, (20, 15)) + 2 * ring(8, (20, 35)).astype(np.int32)
    fused = (two > 0).astype(np.int32)
    fused[20, 22:29] = 1
    return two, fused


@pytest.mark.parametrize("count", [1, 2])
def test_slices_that_joined_two_membranes_by_mistake_fuse_nothing(count):
    two, fused = two_and_fused()
    volume, table = membranes([two] * 4 + [fused] * count + [two] * 4)
    assert len(table) == 2
    right = np.delete(volume, range(4, 4 + count), 0)
    for labels in right:
        np.testing.assert_array_equal(labels, two)


def test_all_slices_vote_not_only_those_beside_a_mistake():
    """One good slice between two mistakes is a short chain; the row of chains it belongs to is long."""
    two, fused = two_and_fused()
    volume, table = membranes([two] * 8 + [fused] * 2 + [two] + [fused] * 3)
    assert len(table) == 2
    np.testing.assert_array_equal(volume[[*range(8), 10]], np.stack([two] * 9))


@pytest.mark.parametrize(("twos", "fused_slices", "count"), [(6, 3, 2), (6, 4, 1), (3, 1, 2), (3, 2, 1)])
def test_two_thirds_decide(twos, fused_slices, count):
    two, fused = two_and_fused()
    assert len(membranes([two] * twos + [fused] * fused_slices)[1]) == count


def test_a_mistake_at_the_end_of_the_volume_fuses_nothing():
    two, fused = two_and_fused()
    volume, table = membranes([two, two, two, fused])
    assert len(table) == 2
    np.testing.assert_array_equal(volume[:3], np.stack([two] * 3))


def test_all_partners_instead_of_the_best_would_fuse_them(monkeypatch):
    two, fused = two_and_fused()
    slices = [two, two, fused, two, two]
    apart = len(membranes(slices)[1])

    def every_partner(pieces, overlaps, share):
        graph = linking.coo_array((np.ones(len(overlaps.pairs)), overlaps.pairs.T), (len(pieces), len(pieces)))
        return linking.connected_components(graph, directed=False)[1].astype(np.int64)

    monkeypatch.setattr("tests.connect.test_link.link_pieces", every_partner)
    assert len(membranes(slices)[1]) == 1 < apart


def test_a_piece_over_two_goes_with_the_one_it_overlaps_more():
    lower, upper = np.zeros((2, 5, 40), np.int32)
    lower[2] = 1
    upper[2, :12], upper[2, 15:] = 1, 2
    volume, _ = membranes([lower, upper, upper, upper])
    assert (volume[1:, 2, 15:] == volume[0, 2, 0]).all()


def broken_ring():
    whole = ring().astype(np.int32)
    broken = whole.copy()
    broken[:, 20] = 0
    broken[:, 21:] *= 2
    return whole, broken


@pytest.mark.parametrize("order", ["rrbbbrrr", "bbrrrrr", "rrrrbb", "rbrbrbr"])
def test_arcs_of_a_ring_that_more_slices_have_closed_join_it(order):
    whole, broken = broken_ring()
    slices = [whole if letter == "r" else broken for letter in order]
    volume, table = membranes(slices)
    assert len(table) == 1
    np.testing.assert_array_equal(volume > 0, np.stack(slices) > 0)


def test_without_the_second_rule_the_arcs_stay_outside(monkeypatch):
    whole, broken = broken_ring()
    monkeypatch.setattr(linking, "_join_chains", lambda pieces, chain, below, above: chain)
    assert len(membranes([whole, broken, whole])[1]) > 1


def test_too_little_overlap_is_none():
    lower, upper = np.zeros((2, 5, 60), np.int32)
    lower[2, :30], upper[2, 28:] = 1, 1
    assert len(membranes([lower, upper], reach=0.0)[1]) == 2
    assert len(membranes([lower, upper], reach=0.0, share=0.05)[1]) == 1


# ----------------------------------------------------------------------------------------------------------- numbers


def test_numbers_follow_first_voxels_and_small_membranes_go():
    slices = np.stack([labelled(seed, density=0.25) for seed in range(6)])
    volume, table = membranes(list(slices), minimum=12)
    assert len(table) > 3 and (np.diff(table.first_voxel) > 0).all() and table.voxels.min() >= 12
    for number in range(1, len(table) + 1):
        where = np.argwhere(volume == number)
        assert len(where) == table.voxels[number - 1]
        assert np.flatnonzero(volume == number)[0] == table.first_voxel[number - 1]
        np.testing.assert_array_equal(where.sum(axis=0), table.coordinate_sum[number - 1])
        np.testing.assert_array_equal([*where.min(axis=0), *(where.max(axis=0) + 1)], table.box[number - 1])


def test_nothing_gives_an_empty_table():
    volume, table = membranes([np.zeros((4, 5), np.int32)] * 3)
    assert not volume.any() and len(table) == 0 and table.box.shape == (0, 6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: slice_overlaps(np.zeros((3, 4), np.int32), np.zeros((4, 3), np.int32), 1.0), r"\(3, 4\) and \(4, 3\)"),
        (lambda: slice_overlaps(np.zeros((3, 4), np.int32), np.zeros((3, 4), np.int32), -1.0), "not -1.0"),
        (lambda: link_pieces(*nothing(), share=0.0), "not 0.0"),
        (lambda: link_pieces(*nothing(), share=1.5), "not 1.5"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def nothing():
    return concatenate_regions([]), Overlaps(np.empty((0, 2), np.int64), np.empty((0, 2), np.int64))
