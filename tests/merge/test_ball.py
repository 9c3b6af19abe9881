"""Which offsets join, against a brute-force list of all offsets."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import cryoscale.merge.ball as ball_file
from cryoscale.merge import Ball, merge_regions
from cryoscale.merge.ball import ball_of

edges = st.sampled_from([0.5, 0.7, 1.0, 1.3, 2.0, 3.7, 10.0])
sizes = st.tuples(edges, edges, edges)


def offsets_within(ball, reach=40):
    """All (dz, dy, dx) at or below the distance, dx >= 0, with the slack for rounding."""
    steps = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2, np.arange(reach + 1), indexing="ij"), axis=-1)
    near = np.linalg.norm(steps * ball.voxel_size, axis=-1) <= ball.distance * (1 + 4.9e-7)
    return steps[near]


@settings(max_examples=60, deadline=None)
@given(st.floats(1.0, 6.0), sizes)
@example(2.1, (0.7, 0.7, 0.7))
@example(3.0, (1.0, 1.0, 1.0))
@example(5.0, (3.7, 0.5, 10.0))
def test_rows_gaps_and_reach_are_those_of_all_offsets(times, size):
    ball = Ball(times * min(size), size)
    wanted = offsets_within(ball)
    assert ball.reach_voxels == tuple(np.abs(wanted).max(axis=0))
    gaps = {}
    for dz, dy, dx in wanted.tolist():
        if dz < 0 or (dz == 0 and dy < 0):
            gaps[dz, dy] = max(gaps.get((dz, dy), 0), dx)
    rows = ball.row_offsets()
    assert {(dz, dy): gap for dz, dy, gap in rows.tolist()} == gaps
    lengths = np.hypot(rows[:, 0] * size[0], rows[:, 1] * size[1])
    assert np.all(np.diff(lengths) >= -1e-9) and not rows.flags.writeable


def test_the_offsets_of_three_voxels_are_the_ones_of_the_page():
    rows = {(dz, dy): gap for dz, dy, gap in Ball(3.0).row_offsets().tolist()}
    assert [rows.get((-2, dy)) for dy in range(-3, 4)] == [None, 1, 2, 2, 2, 1, None]
    assert [rows.get((0, dy)) for dy in range(-3, 0)] == [0, 2, 2] and rows[-3, 0] == 0 and len(rows) == 14


def test_the_slack_covers_rounding_and_no_more():
    assert Ball(float(np.float32(np.sqrt(3)))).holds(1, 1, 1)
    assert Ball(2.1 * (1 - 1e-9), (0.7, 0.7, 0.7)).holds(0, 0, 3)
    assert not Ball(3.0 - 1e-5).holds(0, 0, 3)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ((3, None, None, None), Ball(3.0)),
        ((3, 2, None, None), Ball(2.0)),
        ((3, None, 4.2, 1.4), Ball(4.2, (1.4, 1.4, 1.4))),
        ((3, None, 4.2, (2.8, 1.4, 1.0)), Ball(4.2, (2.8, 1.4, 1.0))),
        ((2, None, 4.2, [2.8, 1.4]), Ball(4.2, (2.8, 2.8, 1.4))),
    ],
)
def test_options_become_a_ball(options, wanted):
    assert ball_of(*options) == wanted


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"distance": 3.0}, "voxel_size None.*in one unit"),
        ({"voxel_size": 1.0}, "distance None and voxel_size 1.0"),
        ({"distance": 3.0, "voxel_size": 1.0, "distance_voxels": 3.0}, "distance_voxels is 3.0"),
        ({"distance": 3.0, "voxel_size": (1.0, 1.0)}, "2 lengths for a mask of 3 axes"),
        ({"distance": 3.0, "voxel_size": (1.0, 0.0, 1.0)}, "three positive lengths"),
        ({"distance": 3.0, "voxel_size": (1.0, np.nan, 1.0)}, "three positive lengths"),
        ({"distance": 3.0, "voxel_size": (1.0, -1.0, 1.0)}, "three positive lengths"),
        ({"distance": 0.9, "voxel_size": (2.0, 1.0, 1.0)}, "distance is 0.9; it must lie between 1 .* and 1000"),
        ({"distance": 900.0, "voxel_size": (2.0, 0.5, 1.0)}, "distance is 900.0; .* between 0.5 .* and 500"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        merge_regions(np.ones((2, 2, 2), bool), **options)


def test_a_ball_without_its_slack_is_noticed(monkeypatch):
    corner = np.zeros((2, 2, 2), bool)
    corner[0, 0, 0] = corner[1, 1, 1] = True
    distance = float(np.sqrt(np.float32(3)))
    assert merge_regions(corner, distance)[1] == 1
    monkeypatch.setattr(ball_file, "_SLACK", 0.0)
    ball_file._row_offsets.cache_clear()
    ball_file._reach.cache_clear()
    try:
        assert merge_regions(corner, 2.1 / 0.7 * (1 - 1e-9))[1] == 1  # within reach all the same
        assert merge_regions(np.array([[1, 0, 0, 1]]), 2.1 / 0.7 * (1 - 1e-9))[1] == 2
    finally:
        ball_file._row_offsets.cache_clear()
        ball_file._reach.cache_clear()
