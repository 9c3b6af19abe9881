"""Membranes told apart by shape: what touches is split, what continues across a gap is joined."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cryoscale.separate.evidence import Evidence
from cryoscale.separate.separate import join_patches, separate_membranes

Ints = NDArray[np.int32]


def shells(*spheres: tuple[tuple[float, float, float], float], shape: tuple[int, int, int]) -> Ints:
    """Voxels within 2 of the spheres (centre, radius), numbered by the nearest one; 0 elsewhere."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    away = np.stack([np.abs(np.linalg.norm(grid - np.array(c), axis=-1) - r) for c, r in spheres])
    return np.where(away.min(0) <= 2.0, away.argmin(0) + 1, 0).astype(np.int32)


def parts(truth: Ints) -> tuple[Ints, Ints]:
    """The parts found in a volume, and the true number of each voxel."""
    points = np.argwhere(truth > 0).astype(np.int32)
    return separate_membranes(points), truth[truth > 0]


def agreement(found: Ints, true: Ints) -> float:
    """Share of voxels in the largest part of their membrane, parts one to one."""
    pairs, count = np.unique(np.stack([found, true]), axis=1, return_counts=True)
    best = {int(t): int(pairs[0][pairs[1] == t][count[pairs[1] == t].argmax()]) for t in np.unique(true)}
    assert len(set(best.values())) == len(best)
    return float(count[[best[int(t)] == f for f, t in pairs.T]].sum() / true.size)


TOUCHING = shells(((20, 20, 20), 15), ((20, 20, 52), 13), shape=(40, 40, 72))
NESTED = shells(((26, 26, 26), 22), ((26, 26, 26), 17), shape=(52, 52, 52))


@pytest.mark.parametrize("truth", [TOUCHING, NESTED], ids=["touching", "nested"])
def test_membranes_that_touch_are_two(truth: Ints) -> None:
    found, true = parts(truth)
    assert agreement(found, true) > 0.99
    assert found.max() == 2


def test_pieces_of_one_membrane_join_across_a_gap_and_its_neighbour_stays_apart() -> None:
    truth = TOUCHING.copy()
    truth[:, 15:25, :36] = 0
    found, true = parts(truth)
    assert agreement(found, true) > 0.99
    assert found.max() == 2


def test_a_gap_wider_than_allowed_stays() -> None:
    truth = shells(((20, 20, 20), 15), shape=(40, 40, 40))
    truth[:, 15:25] = 0
    points = np.argwhere(truth > 0).astype(np.int32)
    assert separate_membranes(points).max() == 1
    assert separate_membranes(points, gap_voxels=9.0).max() == 2


def test_parallel_sheets_bridged_by_a_few_voxels_are_two() -> None:
    truth = np.zeros((20, 60, 60), np.int32)
    truth[4:8], truth[10:14] = 1, 2
    bridged = truth.copy()
    bridged[8:10, 20:23, 30:33] = 1
    found, true = parts(bridged)
    assert agreement(found, true) > 0.99


def test_a_bent_sheet_is_one() -> None:
    """Two parallel faces with a round fold between them: they face each other, and yet are one."""
    z, y, x = np.meshgrid(np.arange(30), np.arange(40), np.arange(60), indexing="ij")
    away = np.where(x < 40, np.abs(np.abs(z - 14.5) - 6.5), np.abs(np.hypot(z - 14.5, x - 40) - 6.5))
    found, _ = parts((away <= 1.5).astype(np.int32) * (y > 2))
    assert found.max() == 1


def test_moving_the_points_changes_nothing_and_the_input_is_only_read() -> None:
    points = np.argwhere(TOUCHING > 0).astype(np.int32)
    points.flags.writeable = False
    found = separate_membranes(points)
    np.testing.assert_array_equal(found, separate_membranes(points + np.array([7, 1000, 13], np.int32)))
    np.testing.assert_array_equal(found, separate_membranes(points))


def test_numbers_follow_the_first_voxels() -> None:
    found, _ = parts(TOUCHING)
    _, first = np.unique(found, return_index=True)
    assert (np.diff(first) > 0).all()


def test_a_scrap_is_one_membrane() -> None:
    np.testing.assert_array_equal(separate_membranes(np.array([[0, 0, 0], [0, 0, 1]], np.int32)), [1, 1])
    assert separate_membranes(np.zeros((0, 3), np.int32)).shape == (0,)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((3, 2), np.int32), "shape"),
        (np.zeros((3, 3), np.float32), "float32"),
        (np.array([[0, 0, 1], [0, 0, 0]], np.int32), "row 1"),
        (np.zeros((2, 3), np.int32), "once"),
    ],
)
def test_what_is_no_group_is_refused(points: NDArray[np.generic], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        separate_membranes(points)  # type: ignore[arg-type]


def pairs(
    rows: list[tuple[int, int, float]], looks: list[tuple[int, int, int]], front: float = 40.0, step: float = 8.0
) -> Evidence:
    return Evidence(
        np.array([row[:2] for row in rows], np.int64).reshape(-1, 2),
        np.full(len(rows), 9, np.int64),
        np.array([row[2] for row in rows], np.float64),
        np.full(len(rows), front),
        np.full(len(rows), step),
        np.array([look[:2] for look in looks], np.int64).reshape(-1, 2),
        np.array([look[2] for look in looks], np.int64),
    )


def test_the_smoothest_pair_joins_first_and_facing_forbids_what_follows() -> None:
    sizes = np.full(3, 100, np.int64)
    both = [(0, 1, 0.3), (1, 2, 0.2)]
    np.testing.assert_array_equal(join_patches(sizes, pairs(both, [])), [0, 0, 0])
    facing = [(0, 2, 40), (2, 0, 40)]
    np.testing.assert_array_equal(join_patches(sizes, pairs(both, facing)), [0, 1, 1])
    np.testing.assert_array_equal(join_patches(sizes, pairs([(0, 1, 0.9)], [])), [0, 1, 2])


def test_a_tongue_joins_only_without_a_seam() -> None:
    """The patches are 20 voxels wide: a front of 9 is narrow, unless no gap is there."""
    sizes = np.full(2, 100, np.int64)
    for excess, front, step, one in (
        (0.2, 9.0, 8.0, False),
        (0.1, 9.0, 8.0, True),
        (0.2, 11.0, 8.0, True),
        (0.2, 9.0, 3.0, True),
    ):
        joined = join_patches(sizes, pairs([(0, 1, excess)], [], front, step))
        assert (joined[1] == 0) == one, (excess, front, step)
