"""Which two strips are the walls of one tube: against tubes, sheets and grooves of known shape."""

import numpy as np
import pytest

from cryoscale.fit import walls as module
from cryoscale.fit.walls import is_wall, tube_of_walls

RADII = (9.0, 13.0)


def wall(
    facing: float,
    *,
    radius: float = 11.0,
    turn: float = 90.0,
    bend: float = 0.0,
    start: float = 0.0,
    share: float = 1.0,
):
    """Places on a part of a tube 100 long, `turn` degrees around the one at `facing`, tilted and bent."""
    rng = np.random.default_rng(int(facing) + 1)
    angle, t = np.radians(facing + turn * (rng.random(700) - 0.5)), start + 100 * share * rng.random(700)
    far = radius + rng.normal(0, 0.4, 700)
    return np.column_stack([far * np.sin(angle) + 0.2 * t, far * np.cos(angle) + bend * (t - 50) ** 2, t]) + 40.0


def sheet(height: float, width: float = 15.0):
    rng = np.random.default_rng(3)
    return np.column_stack([height + rng.normal(0, 0.4, 700), width * rng.random(700), 100 * rng.random(700)])


OVAL = np.array([0.8, 1.2, 1.0])
TURNED = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def lens(side: float):
    """Places on one of two walls 20 wide, 22 apart and 2.5 higher in the middle: each of radius 21."""
    places = sheet(0.0, 20.0) - [0.0, 10.0, 0.0]
    places[:, 0] += 11.0 - 2.5 * (places[:, 1] / 10) ** 2
    return places * [side, 1.0, 1.0]


@pytest.mark.parametrize("bend", [0.0, 0.003])
@pytest.mark.parametrize("radius", [9.5, 11.0, 12.5])
def test_the_radius_of_the_tube_whose_walls_face_each_other(radius, bend):
    one, other = (wall(facing, radius=radius, bend=bend) for facing in (0.0, 180.0))
    assert is_wall(one, RADII[1]) and is_wall(other, RADII[1])
    assert tube_of_walls(one, other, RADII) == pytest.approx(radius, rel=0.03)


def test_walls_need_not_be_of_one_length_nor_whole():
    short = wall(180.0)
    short = short[(short[:, 2] > 60) & (short[:, 2] < 115)]
    assert tube_of_walls(wall(0.0), short, RADII) == pytest.approx(11.0, rel=0.05)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(sheet(0.0), sheet(20.0), id="flat sheets"),
        pytest.param(wall(0.0), np.add(wall(0.0), [0.0, 22.0, 0.0]), id="grooves that face the same way"),
        pytest.param(wall(0.0), wall(0.0, radius=11.4, turn=60.0), id="one wall twice"),
        pytest.param(wall(0.0, radius=15.0), wall(180.0, radius=15.0), id="a wide tube"),
        pytest.param(wall(0.0, turn=120.0), sheet(0.0) @ TURNED + [0.0, 29.0, 0.0], id="a groove and a flat sheet"),
        pytest.param(lens(1.0), lens(-1.0), id="a flattened tubule"),
        pytest.param(wall(0.0), wall(180.0, start=70.0), id="one behind the other"),
        pytest.param(wall(0.0), np.add(wall(180.0), [0.0, 300.0, 0.0]), id="far from each other"),
        pytest.param(wall(0.0)[:, [0, 2, 1]], wall(180.0), id="across each other"),
        pytest.param(wall(0.0)[:30], wall(180.0)[:0], id="no places"),
        pytest.param(wall(0.0)[:30], wall(180.0)[:9], id="too few places"),
    ],
)
def test_what_is_no_tube(one, other):
    assert tube_of_walls(one, other, RADII) is None


@pytest.mark.parametrize(
    ("rule", "loose", "pair"),
    [
        ("BETTER_THAN_LINE", 99.0, (wall(0.0, turn=50.0), wall(180.0, turn=50.0))),
        ("OFF_CIRCLE", 99.0, (wall(0.0, turn=120.0) * OVAL, wall(180.0, turn=120.0) * OVAL)),
        ("BESIDE", 0.0, (wall(0.0), wall(180.0, start=55.0))),
        ("LEAST_LENGTH", 0.0, (wall(0.0, share=0.4), wall(180.0, share=0.4))),
        ("LARGEST_GAP_DEGREES", 360.0, (wall(0.0), wall(60.0))),
    ],
)
def test_each_rule_is_needed(monkeypatch, rule, loose, pair):
    assert tube_of_walls(*pair, RADII) is None
    monkeypatch.setattr(module, rule, loose)
    assert tube_of_walls(*pair, RADII) is not None


def test_what_is_too_far_is_not_looked_at(monkeypatch):
    monkeypatch.setattr(module, "_directions", None)
    assert tube_of_walls(wall(0.0), wall(180.0) - [0.0, 45.0, 0.0], RADII) is None


def test_a_wall_may_be_bent_evenly():
    assert is_wall(wall(90.0, bend=0.01), RADII[1]) and is_wall(wall(0.0, bend=0.01), RADII[1])


def test_what_is_no_narrow_straight_strip():
    assert not is_wall(sheet(0.0, 40.0), RADII[1]) and not is_wall(wall(0.0)[:9], RADII[1])
    assert not is_wall(wall(0.0, share=0.4), RADII[1]) and not is_wall(np.zeros((0, 3)), RADII[1])
