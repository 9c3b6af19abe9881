"""What a join costs: against circles, and against the formula written out for one pair."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cryoscale.connect.connection import ConnectOptions
from cryoscale.connect.reward import TANGENT_WEIGHT, join_costs, segment_ends

OPTIONS = ConnectOptions(gap_voxels=40.0, tangent_voxels=18, curvature_cost=0.5, dearest_join=100.0)


def arc(radius: float, start: float, stop: float) -> NDArray[np.float64]:
    t = np.linspace(start, stop, max(3, round(radius * abs(stop - start))))
    return np.stack([100 + radius * np.sin(t), 100 + radius * np.cos(t)], 1)


def straight(y: float, x0: float, x1: float) -> NDArray[np.float64]:
    x = np.linspace(x0, x1, round(abs(x1 - x0)) + 1)
    return np.stack([np.full_like(x, y), x], 1)


@pytest.mark.parametrize("grid", [False, True])
@pytest.mark.parametrize("radius", [25.0, 60.0])
def test_tangent_and_curvature_of_a_circle(radius: float, grid: bool) -> None:
    line = arc(radius, 0.3, 2.0)
    point, tangent, curvature, _ = segment_ends([np.rint(line).astype(np.int32) if grid else line], 18)
    assert np.allclose(point, line[[0, -1]], atol=0.71)
    # Angles grow from +x towards +y: the last end turns that way, the first, walked outwards, the other.
    expected = np.array([[-math.cos(0.3), math.sin(0.3)], [math.cos(2.0), -math.sin(2.0)]])
    assert np.degrees(np.arccos(np.clip((tangent * expected).sum(1), -1, 1))).max() < (8 if grid else 1)
    assert np.allclose(curvature, [-1 / radius, 1 / radius], atol=0.02 if grid else 0.007)


def test_the_cost_of_one_join_is_the_formula() -> None:
    a, b = straight(50, 10, 50), arc(30, -2.6, -1.2)
    point, tangent, curvature, _ = segment_ends([a, b], 18)
    cost = join_costs([a, b], [False, False], OPTIONS)
    for first, second in ((1, 2), (1, 3), (0, 2)):
        ab = point[second] - point[first]
        if np.hypot(*ab) > OPTIONS.gap_voxels:
            assert math.isinf(cost[first, second])
            continue
        way = ab + TANGENT_WEIGHT * (tangent[first] - tangent[second])
        cos_a = float(np.dot(way, tangent[first]) / np.hypot(*way))
        cos_b = float(np.dot(-way, tangent[second]) / np.hypot(*way))
        certain = 1 / (1 + 2 * (0.35**2 * 720 / 18**5) / (0.5 / 18) ** 2)
        bend = min(1.0, certain * abs(curvature[first] + curvature[second]) * 18)
        expected = float(np.hypot(*ab)) / 40 + 2.0 * (2 - cos_a - cos_b) + 0.5 * bend
        assert cost[first, second] == pytest.approx(expected, rel=1e-9)
        assert cost[second, first] == pytest.approx(expected, rel=1e-9)


def test_a_longer_gap_a_turn_and_another_curvature_cost_more() -> None:
    a = straight(50, 10, 50)
    near, far, aside = straight(50, 60, 100), straight(50, 70, 110), straight(58, 60, 100)
    joined = {
        name: join_costs([a, other], [False, False], OPTIONS)[1, 2]
        for name, other in {"near": near, "far": far, "aside": aside, "back": near[::-1]}.items()
    }
    assert joined["near"] == pytest.approx(0.25, abs=1e-6)
    assert joined["far"] == pytest.approx(0.5, abs=1e-6)
    assert joined["aside"] > joined["far"]
    # End 2 of the reversed one lies 50 pixels away.
    assert math.isinf(joined["back"])
    smooth, s_shaped = arc(40, 0, 1), arc(40, 1.2, 2.2)
    mirrored = 2 * (s_shaped[0]) - s_shaped
    assert join_costs([smooth, s_shaped], [False] * 2, OPTIONS)[1, 2] < 0.5
    assert join_costs([smooth, mirrored[::-1]], [False] * 2, OPTIONS)[1, 3] > 1.0


@pytest.mark.parametrize("weight", ["distance_cost", "angle_cost", "curvature_cost"])
def test_each_weight_counts(weight: str) -> None:
    lines = [arc(40, 0, 1), straight(150, 95, 60)]
    whole = join_costs(lines, [False] * 2, OPTIONS)
    without = join_costs(lines, [False] * 2, replace(OPTIONS, **{weight: 0.0}))
    assert without[1, 2] < whole[1, 2] < np.inf


def test_the_noise_of_curvature_is_what_scatter_gives_and_short_segments_weigh_little() -> None:
    rng = np.random.default_rng(0)
    for n in (10, 18):
        found = [segment_ends([straight(50, 0, n - 1) + rng.normal(0, 0.35, (n, 1)) * [1, 0]], n) for _ in range(400)]
        assert np.std([f[2] for f in found]) == pytest.approx(float(found[0][3][0]), rel=0.25)
    long, bent, short_bent = straight(50, 10, 50), arc(15, -math.pi / 2, 1), arc(15, -math.pi / 2, -0.97)
    bent, short_bent = (line - line[0] + np.array([50, 53]) for line in (bent, short_bent))
    plain = replace(OPTIONS, distance_cost=0.0, angle_cost=0.0)
    cost = join_costs([long, bent, short_bent], [False] * 3, plain)
    assert cost[1, 2] > 0.3
    assert cost[1, 4] < 0.1


def test_rings_and_an_end_with_itself_are_no_joins_and_a_nearly_closed_arc_is_one() -> None:
    lines = [arc(20, 0, 5.9), arc(8, 0, 6.0)]
    cost = join_costs(lines, [False, True], OPTIONS)
    assert np.isinf(np.diag(cost)).all()
    assert np.isinf(cost[2:]).all()
    assert np.isinf(cost[:, 2:]).all()
    assert cost[0, 1] < 0.6
    assert np.array_equal(cost, cost.T)


def test_dear_and_wide_joins_are_no_actions() -> None:
    lines = [straight(50, 10, 50), straight(58, 55, 90)]
    dear = join_costs(lines, [False] * 2, OPTIONS)[1, 2]
    assert np.isfinite(dear)
    assert np.isinf(join_costs(lines, [False] * 2, replace(OPTIONS, dearest_join=dear * 0.99))[1, 2])
    assert np.isinf(join_costs(lines, [False] * 2, replace(OPTIONS, gap_voxels=9.0))[1, 2])


def test_no_segments() -> None:
    assert join_costs([], [], OPTIONS).shape == (0, 0)
    point, tangent, curvature, _ = segment_ends([], 18)
    assert point.shape == tangent.shape == (0, 2)
    assert curvature.shape == (0,)
