"""Phase 2: Q-learning of the closed walk through segments.

    Q(A, B) <- (1 - alpha) Q(A, B) + alpha (r + gamma max over B' of Q(A', B'))              (paper section 4.1)

A state is the end A by which the walk leaves a segment, an action the end B of another segment that it jumps to; it
then stands at A', the far end of B's segment (with ends numbered 2 s and 2 s + 1, A' = B xor 1). The reward is
-cost(A, B), and closing_reward - cost(A, B) on the jump that returns to the first segment, which ends the episode.
Segments already visited are no actions. Choices are epsilon-greedy; epsilon and alpha decay geometrically from the
first episode to the last. An episode that runs out of actions, or takes too many, has failed.

The walk begins at the last pixel of the first segment and closes at its first pixel: one table for each first segment.
(With several first segments in one table the same jump would close one walk and not the other.) The best closed walk
over all first segments is a membrane; its segments leave, and whoever's walk used one of them learns anew.

Random numbers: splitmix64 (Steele, Lea and Flood 2014), one stream per first segment and number of learning runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscale.connect.connection import ConnectOptions

__all__ = ["Walks", "closed_walks", "learn"]

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]
_Bools = NDArray[np.bool_]

LAST_EXPLORATION, LAST_LEARNING_RATE = 0.01, 0.1
"""epsilon and alpha of the last episode, in units of the first one's."""
READ_STEPS = 2000
"""Jumps tried when a table is read: greedily there are as many as segments, the rest is for going back."""


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _uniform(state: NDArray[np.uint64]) -> float:
    """Return a number in [0, 1) and advance the stream."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return float((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _allowed(target: int, goal: int, visited: _Ints, stamp: int) -> bool:
    return target == goal or visited[target >> 1] < stamp


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _choose(
    row: _Ints, target: _Ints, q: _Floats, end: int, goal: int, visited: _Ints, stamp: int,
    epsilon: float, state: NDArray[np.uint64],
) -> int:  # fmt: skip
    """Return the action of greatest value, or with probability epsilon any; -1 where there is none."""
    count, best = 0, -1
    for k in range(row[end], row[end + 1]):
        if _allowed(target[k], goal, visited, stamp):
            count += 1
            if best < 0 or q[k] > q[best]:
                best = k
    if count < 2 or epsilon <= 0.0 or _uniform(state) >= epsilon:
        return best
    pick = int(_uniform(state) * count)
    for k in range(row[end], row[end + 1]):
        if _allowed(target[k], goal, visited, stamp):
            if pick == 0:
                return k
            pick -= 1
    return best


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def learn(
    row: NDArray[np.int64], target: NDArray[np.int64], cost: NDArray[np.float64], taken: NDArray[np.bool_],
    first: int, closing_reward: float, discount: float, episodes: int, actions: int, exploration: float,
    last_exploration: float, learning_rate: float, seed: int, q: NDArray[np.float64],
) -> int:  # fmt: skip
    """Walk `episodes` episodes from one segment and learn the value of every jump.

    Parameters
    ----------
    row : (2 S + 1,) int64 array
        The jumps from end A are row[A] to row[A + 1] - 1.
    target : (n,) int64 array
        The end each jump leads to.
    cost : (n,) float64 array
        What it costs.
    taken : (S,) bool array
        Segments that are no longer there.
    first : int
        The segment the walk begins with.
    closing_reward, discount : float
        Reward of the return; gamma.
    episodes, actions : int
        Episodes, and most actions in one.
    exploration, last_exploration, learning_rate : float
        epsilon in the first and in the last episode; alpha in the first, a tenth of it in the last.
    seed : int
        Of the random choices.
    q : (n,) float64 array
        The table to begin with; overwritten by the learned one.

    Returns
    -------
    int
        Episodes that failed.
    """
    state = np.array([seed], np.uint64)
    _uniform(state)
    visited = np.zeros(taken.size, np.int64)
    visited[taken] = episodes + 1
    goal, failed = 2 * first, 0
    for episode in range(1, episodes + 1):
        done = (episode - 1) / max(episodes - 1, 1)
        epsilon = exploration * (last_exploration / exploration) ** done
        alpha = learning_rate * 0.1**done
        end, closed = goal + 1, False
        visited[first] = episode
        for _ in range(actions):
            k = _choose(row, target, q, end, goal, visited, episode, epsilon, state)
            if k < 0:
                break
            if target[k] == goal:
                q[k] = (1.0 - alpha) * q[k] + alpha * (closing_reward - cost[k])
                closed = True
                break
            visited[target[k] >> 1] = episode
            end = target[k] ^ 1
            ahead = _choose(row, target, q, end, goal, visited, episode, 0.0, state)
            q[k] = (1.0 - alpha) * q[k] + alpha * (-cost[k] + (discount * q[ahead] if ahead >= 0 else 0.0))
        failed += not closed
    return failed


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _read(
    row: _Ints, target: _Ints, q: _Floats, taken: _Bools, first: int, actions: int, walk: _Ints, steps: int
) -> int:
    """Write the closed walk of greatest values to `walk` (its jumps); go back from dead ends; return its length."""
    goal = 2 * first
    visited = taken.copy()
    visited[first] = True
    # Above which value (or at which index, for equal values) the next jump of each depth is looked for.
    tried = np.full(walk.size + 1, -1, np.int64)
    depth, end = 0, goal + 1
    for _ in range(steps):
        best, last = -1, tried[depth]
        for k in range(row[end], row[end + 1]):
            if target[k] != goal and visited[target[k] >> 1]:
                continue
            if last >= 0 and (q[k] > q[last] or (q[k] == q[last] and k <= last)):
                continue
            if best < 0 or q[k] > q[best]:
                best = k
        if best >= 0 and depth < min(actions, walk.size):
            walk[depth] = tried[depth] = best
            if target[best] == goal:
                return depth + 1
            visited[target[best] >> 1] = True
            end = target[best] ^ 1
            depth += 1
            tried[depth] = -1
        elif depth == 0:
            return 0
        else:
            depth -= 1
            visited[target[walk[depth]] >> 1] = False
            end = goal + 1 if depth == 0 else target[walk[depth - 1]] ^ 1
    return 0


@dataclass(frozen=True)
class Walks:
    """Closed walks through the segments of a slice, and what was learned on the way."""

    paths: list[tuple[tuple[int, bool], ...]]
    """Each walk as (segment, reversed); best first."""
    reward: list[float]
    """Closing reward less the costs of the joins."""
    q: NDArray[np.float64]
    """(2 S, 2 S) table, NaN where there is no jump or none was tried; the rows of a segment on a closed walk from the
    table that walk was read from, others from the first in which the jump was tried."""
    failed: int
    """Episodes that did not close."""
    episodes: int
    """Episodes in all."""


class _Learner:
    """The jumps of a slice and the walk that each segment finds by itself."""

    def __init__(self, cost: NDArray[np.float64], options: ConnectOptions, seed: int) -> None:
        self.start, self.target = np.nonzero(np.isfinite(cost))
        self.row = np.searchsorted(self.start, np.arange(len(cost) + 1)).astype(np.int64)
        self.cost = cost[self.start, self.target]
        self.options, self.seed, self.failed, self.episodes = options, seed, 0, 0
        count = len(cost) // 2
        self.taken = np.zeros(count, bool)
        self.runs = np.zeros(count, np.int64)
        self.walks: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * count
        self.tables: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
        self.tables.extend((np.empty(0, np.int64), np.empty(0)) for _ in range(count))
        self.reward = np.full(count, -np.inf)
        self.values = np.full(self.target.size, np.nan)

    def learn(self, first: int) -> None:
        """Learn the table of one first segment, read its walk, and keep the rows of the walk's segments."""
        options, q = self.options, np.zeros(self.target.size)
        seed = np.random.SeedSequence([self.seed, first, int(self.runs[first])]).generate_state(1, np.uint64)[0]
        self.failed += learn(
            self.row, self.target, self.cost, self.taken, first, options.closing_reward, options.discount,
            options.episodes, options.actions_per_episode, options.exploration,
            options.exploration * LAST_EXPLORATION, options.learning_rate, seed, q,
        )  # fmt: skip
        self.runs[first] += 1
        self.episodes += options.episodes
        walk = np.zeros(self.taken.size, np.int64)
        count = _read(self.row, self.target, q, self.taken, first, options.actions_per_episode, walk, READ_STEPS)
        self.walks[first] = walk[:count]
        # A walk is a membrane only if it is worth more than staying.
        worth = options.closing_reward - float(self.cost[walk[:count]].sum()) if count else -np.inf
        self.reward[first] = worth if worth > 0 else -np.inf
        # What no walk will be read from keeps the first value found.
        tried = (q != 0.0) & np.isnan(self.values)
        self.values[tried] = q[tried]
        kept = np.concatenate([np.arange(self.row[2 * s], self.row[2 * s + 2]) for s in self.members(first)])
        self.tables[first] = kept, q[kept]

    def members(self, first: int) -> list[int]:
        """Return the segments of a first segment's walk, in its order."""
        return [first, *(int(self.target[k]) >> 1 for k in self.walks[first][:-1])]

    def path(self, first: int) -> tuple[tuple[int, bool], ...]:
        """Return the walk of a first segment as (segment, reversed)."""
        ends = [2 * first, *(int(self.target[k]) for k in self.walks[first][:-1])]
        return tuple((end >> 1, bool(end & 1)) for end in ends)


def closed_walks(cost: NDArray[np.float64], options: ConnectOptions, seed: int) -> Walks:
    """Find closed walks through segments, the best first, each through segments of its own.

    Parameters
    ----------
    cost : (2 S, 2 S) float64 array
        Cost of joining end A (row) to end B (column); infinite where they cannot be joined.
    options : ConnectOptions
        Rewards and the schedule of learning.
    seed : int
        Of the random choices, 0 or more.

    Returns
    -------
    Walks
        Closed walks of positive reward, and the values learned.
    """
    learner = _Learner(cost, options, seed)
    # A segment that no jump leaves by one of its ends is on no closed walk.
    jumps = np.diff(learner.row).reshape(-1, 2).min(1)
    for first in np.flatnonzero(jumps):
        learner.learn(int(first))
    paths: list[tuple[tuple[int, bool], ...]] = []
    reward: list[float] = []
    while np.isfinite(learner.reward).any():
        best = int(np.argmax(learner.reward))
        paths.append(learner.path(best))
        reward.append(float(learner.reward[best]))
        kept, learned = learner.tables[best]
        learner.values[kept[learned != 0.0]] = learned[learned != 0.0]
        members = learner.members(best)
        learner.taken[members] = True
        learner.reward[members] = -np.inf
        for other in np.flatnonzero(np.isfinite(learner.reward)):
            if learner.taken[learner.members(int(other))].any():
                learner.learn(int(other))
    q = np.full(cost.shape, np.nan)
    q[learner.start, learner.target] = learner.values
    return Walks(paths, reward, q, learner.failed, learner.episodes)
