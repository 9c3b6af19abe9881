"""Learning the closed walk: against every closed path there is, and against learners with a part broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cryoscale.connect import qlearning
from cryoscale.connect.connection import ConnectOptions
from cryoscale.connect.qlearning import Walks, closed_walks, learn
from cryoscale.connect.reward import join_costs
from tests.connect.oracles import best_closed_path, joins_of, random_costs, random_segments
from tests.connect.scenes import line

OPTIONS = ConnectOptions()


def costs_of(seed: int) -> NDArray[np.float64]:
    segments = random_segments(seed)
    return join_costs(segments, [False] * len(segments), OPTIONS)


def agreement(cases: int, costs: Callable[[int], NDArray[np.float64]], options: ConnectOptions) -> float:
    """Share of cases whose first walk is the best closed path there is."""
    same = 0
    for seed in range(cases):
        cost = costs(seed)
        walks = closed_walks(cost, options, seed)
        found = joins_of(walks.paths[0]) if walks.paths else frozenset()
        same += found == best_closed_path(cost, OPTIONS.closing_reward)[1]
    return same / cases


# Seven segments drawn by hand: 0, 2, 3, 5 and 6 go round, 1 and 4 lie across.
SEVEN = [
    [(40, 62), (33, 75), (30, 90), (31, 104)],
    [(28, 112), (18, 122), (10, 135)],
    [(36, 118), (45, 130), (58, 138)],
    [(70, 141), (84, 137), (95, 128)],
    [(99, 122), (84, 104), (70, 90)],
    [(104, 116), (110, 100), (108, 84), (100, 70)],
    [(91, 61), (77, 54), (63, 53), (51, 56)],
]


def seven_segments() -> list[NDArray[np.int32]]:
    out = []
    for corners in SEVEN:
        s = np.arange(len(corners))
        even = np.linspace(0, len(corners) - 1, 16 * (len(corners) - 1))
        degree = min(3, len(corners) - 1)
        smooth = [np.polyval(np.polyfit(s, np.array(corners)[:, axis], degree), even) for axis in (0, 1)]
        pixels = np.rint(np.stack(smooth, 1)).astype(np.int32)
        out.append(pixels[np.concatenate([[True], np.abs(np.diff(pixels, axis=0)).max(1) > 0])])
    return out


def test_the_closed_path_through_seven_hand_drawn_segments() -> None:
    cost = join_costs(seven_segments(), [False] * 7, OPTIONS)
    walks = closed_walks(cost, OPTIONS, 0)
    round_about = ((0, False), (2, False), (3, False), (5, False), (6, False))
    assert len(walks.paths) == 1
    assert joins_of(walks.paths[0]) == joins_of(round_about)
    assert joins_of(walks.paths[0]) == best_closed_path(cost, OPTIONS.closing_reward)[1]
    joins = sum(cost[min(join), max(join)] for join in joins_of(walks.paths[0]))
    assert walks.reward == [pytest.approx(OPTIONS.closing_reward - joins)]


def test_the_same_path_as_trying_all_of_broken_ellipses() -> None:
    assert agreement(100, costs_of, OPTIONS) >= 0.95


def test_the_same_path_as_trying_all_where_every_join_is_as_good_as_another() -> None:
    assert agreement(60, random_costs, OPTIONS) >= 0.95


@pytest.mark.parametrize(
    ("broken", "at_most"),
    [
        # Values that see only the next join; no choice ever made at random; a table hardly changed.
        ({"discount": 1e-9}, 0.85),
        ({"exploration": 1e-12}, 0.75),
        ({"learning_rate": 1e-12}, 0.75),
        ({"episodes": 3}, 0.75),
    ],
)
def test_learners_with_a_part_missing_miss_the_best_path(broken: dict[str, float], at_most: float) -> None:
    assert agreement(40, random_costs, replace(OPTIONS, **broken)) < at_most


def test_without_the_return_reward_nothing_closes() -> None:
    cost = join_costs(seven_segments(), [False] * 7, OPTIONS)
    walks = closed_walks(cost, replace(OPTIONS, closing_reward=1e-9), 0)
    assert walks.paths == []
    assert walks.reward == []


def failed_with(last_exploration: float) -> int:
    """Failed episodes of a walk on which most joins lead nowhere."""
    cost = random_costs(4)
    # Segment 0 is left to segment 2 only, and entered from segment 1 only.
    cost[:2] = cost[:, :2] = np.inf
    cost[1, 5] = cost[5, 1] = 0.5
    cost[0, 3] = cost[3, 0] = 1.0
    start, target = np.nonzero(np.isfinite(cost))
    row = np.searchsorted(start, np.arange(len(cost) + 1)).astype(np.int64)
    q, taken = np.zeros(target.size), np.zeros(len(cost) // 2, bool)
    return int(learn(row, target, cost[start, target], taken, 0, 6.0, 1.0, 1000, 30, 0.9, last_exploration, 0.8, 7, q))


def test_fewer_walks_fail_as_exploration_decays() -> None:
    assert 0 < failed_with(0.009) < 0.7 * failed_with(0.9)


def test_values_obey_the_bellman_equation_on_the_walk() -> None:
    options = replace(OPTIONS, discount=0.8)
    cost = join_costs(seven_segments(), [False] * 7, options)
    walks = closed_walks(cost, options, 1)
    entry = [2 * segment + reverse for segment, reverse in walks.paths[0]]
    value = options.closing_reward - cost[entry[-1] ^ 1, entry[0]]
    assert walks.q[entry[-1] ^ 1, entry[0]] == pytest.approx(value, abs=0.02)
    for leave, enter in zip(entry[-2::-1], entry[:0:-1], strict=True):
        value = -cost[leave ^ 1, enter] + 0.8 * value
        assert walks.q[leave ^ 1, enter] == pytest.approx(value, abs=0.05)
    assert np.isnan(walks.q[~np.isfinite(cost)]).all()
    # Joins off the walk were tried too.
    assert np.isfinite(walks.q).sum() > len(entry)


def check(walks: Walks, cost: NDArray[np.float64]) -> None:
    used = [segment for path in walks.paths for segment, _ in path]
    assert len(used) == len(set(used))
    assert walks.reward == sorted(walks.reward, reverse=True)
    for path, reward in zip(walks.paths, walks.reward, strict=True):
        total = sum(cost[min(join), max(join)] for join in joins_of(path))
        assert reward == pytest.approx(OPTIONS.closing_reward - total)
        assert reward > 0


@pytest.mark.parametrize("seed", range(10))
def test_no_segment_is_in_two_membranes(seed: int) -> None:
    for cost in (costs_of(seed), random_costs(seed)):
        check(closed_walks(cost, OPTIONS, seed), cost)


def test_two_membranes_side_by_side() -> None:
    first = seven_segments()
    both = [*first, *(pixels + np.array([0, 300], np.int32) for pixels in first)]
    walks = closed_walks(join_costs(both, [False] * 14, OPTIONS), OPTIONS, 3)
    assert sorted(sorted(s for s, _ in path) for path in walks.paths) == [[0, 2, 3, 5, 6], [7, 9, 10, 12, 13]]


def test_the_seed_decides_and_the_answer_is_the_same() -> None:
    cost = random_costs(12)
    a, b, other = (closed_walks(cost, OPTIONS, seed) for seed in (5, 5, 6))
    assert np.array_equal(a.q, b.q, equal_nan=True)
    assert (a.paths, a.failed) == (b.paths, b.failed)
    assert not np.array_equal(a.q, other.q, equal_nan=True)
    assert joins_of(a.paths[0]) == joins_of(other.paths[0])


def test_where_nothing_can_close_every_walk_fails() -> None:
    # A chain of four whose far ends cannot join.
    cost = np.full((8, 8), np.inf)
    for a, b in ((1, 2), (3, 4), (5, 6), (0, 7)):
        cost[a, b] = cost[b, a] = 0.2
    closed = closed_walks(cost, OPTIONS, 0)
    assert closed.failed == 0
    assert len(closed.paths[0]) == 4
    cost[0, 7] = cost[7, 0] = np.inf
    cost[0, 3] = cost[3, 0] = 0.2
    walks = closed_walks(cost, OPTIONS, 0)
    assert joins_of(walks.paths[0]) == joins_of(((0, False), (1, False)))
    cost[0, 3] = cost[3, 0] = np.inf
    cost[0, 4] = cost[4, 0] = cost[7, 4] = cost[4, 7] = 0.2
    walks = closed_walks(cost, replace(OPTIONS, actions_per_episode=1), 0)
    assert walks.paths == []
    assert walks.failed == walks.episodes > 0


def test_a_nearly_closed_arc_joins_its_own_ends() -> None:
    t = np.linspace(0, 5.8, 200)
    arc = np.rint(np.stack([60 + 30 * np.sin(t), 60 + 30 * np.cos(t)], 1)).astype(np.int32)
    bar = np.rint(line((10, 5), (10, 30)).points[::100]).astype(np.int32)
    walks = closed_walks(join_costs([bar, arc], [False, False], OPTIONS), OPTIONS, 0)
    assert walks.paths == [((1, False),)]


def test_going_back_from_a_dead_end_when_the_table_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # An empty table: greedy by index runs into segment 1, from which nothing leads back.
    cost = np.full((6, 6), np.inf)
    for a, b in ((1, 2), (1, 4), (5, 0)):
        cost[a, b] = cost[b, a] = 0.1
    monkeypatch.setattr(qlearning, "learn", lambda *_: 0)
    assert joins_of(closed_walks(cost, OPTIONS, 0).paths[0]) == joins_of(((0, False), (2, False)))


def test_no_segments_and_no_joins() -> None:
    for n in (0, 4):
        walks = closed_walks(np.full((n, n), np.inf), OPTIONS, 0)
        assert walks.paths == []
        assert walks.episodes == 0
        assert walks.q.shape == (n, n)
