"""The occupancy rule on a volume small enough to count by hand, and against a slow reading of the same rules."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import generate_binary_structure, grey_dilation

from cryoscale.evaluate import occupancy
from cryoscale.evaluate.occupancy import dilated_at, nearest_voxels, score_hits

CROSS = generate_binary_structure(3, 1)


def score(truth, mask, predictions):
    """`truth` and `predictions`: rows (class, x, y, z), as the files have them."""
    names, positions = [row[0] for row in predictions], zyx(predictions)
    voxels, _ = nearest_voxels(positions, mask.shape)
    return score_hits([row[0] for row in truth], zyx(truth), names, voxels, dilated_at(mask, voxels))


def zyx(rows):
    return np.array([row[:0:-1] for row in rows], float).reshape(-1, 3)


def by_the_book(truth, mask, predictions):
    """The rules once more, particle by particle, on a mask that really is dilated."""
    dilated = grey_dilation(mask, footprint=CROSS, mode="constant", cval=0)
    hits = {number: [] for number in range(len(truth) + 1)}
    for name, *xyz in predictions:
        x, y, z = (min(max(round(v), 0), n - 1) for v, n in zip(xyz, mask.shape[::-1], strict=True))
        number = int(dilated[z, y, x])
        hits[number].append((name.upper(), math.dist((x, y, z), truth[number - 1][1:]) if number else None))
    targets = {k: t[0].upper() for k, t in enumerate(truth, 1) if t[0].upper() not in ("4V94", "VESICLE")}
    found = [k for k in targets if hits[k]]
    classes = {}
    for name in set(targets.values()):
        first = {k: hits[k][0][0] if hits[k] else "" for k in targets}
        tp = sum(targets[k] == name == first[k] for k in targets)
        classes[name] = (
            tp,
            sum(first[k] == name != targets[k] for k in targets),
            sum(targets[k] == name != first[k] for k in targets),
        )
    return {
        "particles": sum(t[0].upper() != "4V94" for t in truth),
        "reported": len(predictions),
        "true_positive": len(found),
        "false_positive": len(hits[0]),
        "false_negative": len(targets) - len(found),
        "multiple_hits": sum(len(hits[k]) > 1 for k in targets),
        "excluded_hits": sum(len(hits[k]) for k in hits if k and k not in targets),
        "mean_distance_voxels": sum(hits[k][0][1] for k in found) / len(found) if found else math.nan,
    }, classes


TRUTH = [
    ("1s3x", 3, 3, 3),
    ("3qm1", 6, 3, 3),
    ("4V94", 12, 3, 3),
    ("vesicle", 3, 12, 3),
    ("1s3x", 12, 12, 3),
    ("fiducial", 8, 8, 8),
    ("3qm1", 16, 16, 8),
]
"""class x y z. Particles 1 and 2 touch once they are dilated: voxels (x) 2-4 and 5-7."""


@pytest.fixture
def mask():
    volume = np.zeros((12, 20, 20), np.int16)
    for number, (_, x, y, z) in enumerate(TRUTH, 1):
        volume[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = number
    volume[2:5, 2:5, 5:8] = 2
    return volume


PREDICTIONS = [
    ("1S3X", 3.6, 3.0, 3.0),  # x 4: voxel of 1, but 2 dilates over it: 2 wins, wrong class, distance 2
    ("3qm1", 6.0, 3.0, 3.0),  # 2 again: a duplicate, its right class comes too late
    ("1s3x", 2.0, 3.0, 3.0),  # 1, right class, distance 1
    ("1s3x", 12.0, 3.0, 3.0),  # 4V94: not counted but reported
    ("3qm1", 3.0, 12.0, 3.0),  # vesicle: the same
    ("1s3x", 0.0, 19.0, 11.0),  # background
    ("3qm1", 12.0, 12.0, 5.0),  # 5 by dilation alone (z 5), wrong class, distance 2
    ("1s3x", 14.5, 12.0, 3.0),  # rounds to 14, halves to even: background, for 5 dilated ends at 14 -> hit
    ("4v94", 8.0, 8.0, 8.0),  # the fiducial, called an excluded class: background in the confusion matrix
    ("3qm1", 40.0, 19.0, -3.0),  # outside: moved to (19, 19, 0), background
]


def test_counted_by_hand(mask):
    found = score(TRUTH, mask, PREDICTIONS)
    # Targets are 1, 2, 5, 6, 7; hit: 2 (twice), 1, 5 (twice), 6; nobody hits 7.
    assert (found.true_positive, found.false_negative, found.false_positive) == (4, 1, 2)
    assert (found.multiple_hits, found.excluded_hits, found.reported) == (2, 2, 10)
    assert found.particles == 6  # 4V94 is out of the denominator, the vesicle is in it
    assert found.recall == 4 / 6
    assert found.precision == 4 / 10
    assert found.f1 == pytest.approx(2 / (6 / 4 + 10 / 4))
    assert found.miss_rate == pytest.approx(1 - 4 / 6)
    assert found.mean_distance_voxels == pytest.approx((2 + 1 + 2 + 0) / 4)
    assert found.classes == ("1s3x", "3qm1", "fiducial")
    # 1: 1s3x; 5: 3qm1 | 2: 1s3x; 7: nobody | 6: 4v94, that is background.
    np.testing.assert_array_equal(found.confusion, [[1, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 1]])
    f1 = {name: counts.dice for name, counts in found.class_counts().items()}
    assert f1 == {"1s3x": 0.5, "3qm1": 0.0, "fiducial": 0.0}


def test_by_hand_and_by_the_book_agree(mask):
    expected, classes = by_the_book(TRUTH, mask, PREDICTIONS)
    found = score(TRUTH, mask, PREDICTIONS)
    assert {name: getattr(found, name) for name in expected} == expected
    counts = {name.upper(): c for name, c in found.class_counts().items()}
    assert {n: (c.true_positive, c.false_positive, c.false_negative) for n, c in counts.items()} == classes


NAMES = st.sampled_from(["1s3x", "3QM1", "fiducial", "vesicle", "4v94", "1bxn"])


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    names=st.lists(NAMES, min_size=1, max_size=9),
    picks=st.lists(st.tuples(NAMES, *[st.floats(-2, 9).map(lambda v: round(2 * v) / 2)] * 3), max_size=30),
)
def test_any_volume_as_by_the_book(seed, names, picks):
    rng = np.random.default_rng(seed)
    shape = (5, 6, 7)
    mask = np.where(rng.random(shape) < 0.5, rng.integers(0, len(names) + 1, shape), 0).astype(np.int32)
    truth = [(name, *(int(v) for v in rng.integers(0, 5, 3))) for name in names]
    expected, classes = by_the_book(truth, mask, picks)
    found = score(truth, mask, picks)
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, nan_ok=True)
    counts = {n.upper(): (c.true_positive, c.false_positive, c.false_negative) for n, c in found.class_counts().items()}
    assert {name: counts[name] for name in classes} == classes
    assert all(counts[name][0] == counts[name][2] == 0 for name in counts.keys() - classes.keys())
    # Every prediction is somewhere: on background, on an excluded particle, a first hit or a further one.
    assert found.false_positive + found.excluded_hits + found.true_positive <= found.reported
    assert found.confusion.sum() == found.true_positive + found.false_negative


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_dilation_is_scipys(seed):
    rng = np.random.default_rng(seed)
    mask = np.where(rng.random((4, 5, 6)) < 0.3, rng.integers(0, 9, (4, 5, 6)), 0)
    everywhere = np.argwhere(np.ones(mask.shape, bool))
    expected = grey_dilation(mask, footprint=CROSS, mode="constant", cval=0)
    np.testing.assert_array_equal(dilated_at(mask, everywhere), expected.ravel())


def mutants():
    """Each clause of the rule, broken; the volume above must notice every one."""
    cross = occupancy._CROSS
    yield "not dilated", {"_CROSS": cross[:1]}
    yield "dilated by the 26 neighbours", {"_CROSS": np.array(list(np.ndindex(3, 3, 3))) - 1}
    yield "vesicles are targets", {"EXCLUDED": ("4v94",)}
    yield "4V94 is a target", {"EXCLUDED": ("vesicle",)}
    yield "vesicles leave the denominator", {"_OUT_OF_THE_DENOMINATOR": ("4v94", "vesicle")}
    yield "4V94 stays in the denominator", {"_OUT_OF_THE_DENOMINATOR": ()}


@pytest.mark.parametrize(("name", "broken"), list(mutants()), ids=lambda value: value if isinstance(value, str) else "")
def test_a_broken_clause_is_seen(mask, monkeypatch, name, broken):
    corner = [*PREDICTIONS, ("1s3x", 14.0, 14.0, 3.0), ("1s3x", 14.0, 12.0, 5.0)]
    before = score(TRUTH, mask, corner)
    for attribute, value in broken.items():
        monkeypatch.setattr(occupancy, attribute, value)
    after = score(TRUTH, mask, corner)
    assert summary(after) != summary(before), name


def summary(found):
    return (
        *(round(v, 9) for v in (found.recall, found.precision, found.f1, found.mean_distance_voxels)),
        found.true_positive, found.false_positive, found.false_negative, found.multiple_hits, found.confusion.tolist(),
    )  # fmt: skip


def test_order_of_the_file_matters(mask):
    assert summary(score(TRUTH, mask, PREDICTIONS[::-1])) != summary(score(TRUTH, mask, PREDICTIONS))


@pytest.mark.parametrize("rounding", [np.floor, lambda v: np.floor(v + 0.5)], ids=["cut off", "halves up"])
def test_another_rounding_is_seen(mask, rounding):
    other = [(name, *rounding(np.array(xyz))) for name, *xyz in PREDICTIONS]
    assert summary(score(TRUTH, mask, other)) != summary(score(TRUTH, mask, PREDICTIONS))


def test_the_lower_number_winning_is_seen(mask):
    voxels, outside = nearest_voxels(zyx(PREDICTIONS), mask.shape)
    assert outside == 1
    at = dilated_at(np.where(mask > 0, 100 - mask, 0), voxels)
    wrong = score_hits(
        [t[0] for t in TRUTH], zyx(TRUTH), [p[0] for p in PREDICTIONS], voxels, np.where(at, 100 - at, 0)
    )
    assert summary(wrong) != summary(score(TRUTH, mask, PREDICTIONS))


def test_nothing_predicted_and_nothing_to_find():
    mask = np.zeros((3, 3, 3), np.int8)
    found = score([("a", 1, 1, 1)], mask, [])
    assert found.recall == 0 and math.isnan(found.precision) and math.isnan(found.mean_distance_voxels)
    found = score([("vesicle", 1, 1, 1)], mask, [("a", 0, 0, 0)])
    assert found.recall == 0 and found.precision == 0 and found.false_positive == 1
    assert math.isnan(score([("4v94", 1, 1, 1)], mask, []).recall)


def test_numbers_beyond_the_list_are_refused():
    mask = np.full((3, 3, 3), 2)
    with pytest.raises(ValueError, match="there are 1"):
        score([("a", 1, 1, 1)], mask, [("a", 1, 1, 1)])
