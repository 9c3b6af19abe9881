"""What is dropped, what is kept, and what is refused."""

import numpy as np
import pytest

from cryoscale.fit import select
from cryoscale.fit.select import _off_ellipses, check_points, infer_spacing, select_points, thin
from tests.fit.shapes import SHAPES, degrade, sphere_points


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((0, 3)), "found 0"),
        (np.eye(3), "found 3"),
        (np.zeros((9, 3)), "found 1"),
        (np.zeros((9, 2)), r"found \(9, 2\)"),
        (np.zeros(9), r"found \(9,\)"),
        (np.arange(10)[:, None] * np.ones(3), "one line"),
        (np.where(np.arange(30).reshape(10, 3) == 7, np.nan, 1.0), "row 2"),
    ],
)
def test_bad_points_are_named(points: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_points(points)


@pytest.mark.parametrize("far", [1e9, 1e15])
@pytest.mark.parametrize("outliers", [1, 20])
def test_points_beside_a_far_outlier_are_no_line(far: float, outliers: int) -> None:
    q = sphere_points(20, 1500, seed=1, noise=0.3)
    off = far * (1 + np.arange(outliers)[:, None]) * [1.0, 0.5, -0.2]
    points, weights = check_points(np.concatenate([q, off]))
    kept = select_points(points, weights)
    assert len(kept.points) >= 1480 and np.abs(kept.points).max() < 25
    assert sum((np.abs(dropped) > 100).any(1).sum() for dropped in kept.dropped.values()) == outliers


@pytest.mark.parametrize("more", [[[0, 0, 0]], [[1e10, 0, 0]], [[1e10, 0, 0], [-2e10, 0, 0]]])
def test_a_line_beside_far_outliers_is_a_line(more: list[list[float]]) -> None:
    line = np.arange(200)[:, None] * np.array([1.0, 2.0, -1.0])
    with pytest.raises(ValueError, match="one line"):
        check_points(np.concatenate([line, more]))


def test_bad_weights_are_named() -> None:
    q = sphere_points(10, 50, seed=0)
    with pytest.raises(ValueError, match="found"):
        check_points(q, np.ones(3))
    with pytest.raises(ValueError, match="not negative"):
        check_points(q, -np.ones(50))


def test_repeated_points_count_once_with_their_weights() -> None:
    q = sphere_points(10, 50, seed=0)
    points, weights = check_points(np.concatenate([q, q]))
    assert len(points) == 50 and (weights == 2).all()


@pytest.mark.parametrize("voxel", [1.0, 1.368, 13.68])
def test_spacing_of_voxels_is_the_voxel(voxel: float) -> None:
    grid = np.argwhere(np.ones((25, 25, 25), bool)) - 12.0
    shell = grid[np.abs(np.linalg.norm(grid, axis=1) - 10) < 1.5] * voxel
    assert np.isclose(infer_spacing(shell), voxel)


def test_outliers_are_dropped_and_membrane_is_kept() -> None:
    cloud, clean = degrade(SHAPES["bumpy"], seed=4, cap=0.7, noise=0.5)
    true = np.arange(len(cloud)) < len(clean)
    kept = select_points(cloud, np.ones(len(cloud)))
    alive = {tuple(p) for p in kept.points}
    survived = np.array([tuple(p) in alive for p in cloud])
    assert survived[true].mean() > 0.99
    far = np.abs(SHAPES["bumpy"].distance(cloud)) > 6
    assert survived[far].mean() < 0.1
    # What is listed and what is kept are all of the points, each once.
    listed = np.concatenate([kept.points, *kept.dropped.values()])
    assert np.array_equal(listed[np.lexsort(listed.T)], cloud[np.lexsort(cloud.T)])


def test_of_cells_that_were_merged_the_points_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud, _ = degrade(SHAPES["bumpy"], seed=4, cap=0.7, noise=0.5, density=3.0)
    monkeypatch.setattr(select, "MOST_POINTS", len(cloud) - 1)
    kept = select_points(cloud, np.ones(len(cloud)))
    listed = np.concatenate(list(kept.dropped.values()))
    assert len(kept.points) < 0.8 * kept.weights.sum() and len(kept.dropped) >= 2
    # Each point that was given is in a cell that is kept, or listed once.
    assert kept.weights.sum() + len(listed) == len(cloud)
    assert len({tuple(p) for p in listed}) == len(listed) and {tuple(p) for p in listed} <= {tuple(p) for p in cloud}


@pytest.mark.parametrize(("wide", "rule"), [(0, "sparse"), (1, "twig")])
def test_a_twig_is_dropped_and_listed(wide: int, rule: str) -> None:
    shell = np.argwhere(np.ones((61, 61, 61), bool)) - 30.0
    shell = shell[np.abs(np.linalg.norm(shell, axis=1) - 18) < 1.2]
    twig = np.argwhere(np.ones((2 * wide + 1, 2 * wide + 1, 22), bool)) - [wide, wide, -21.0]
    kept = select_points(np.concatenate([shell, twig]), np.ones(len(shell) + len(twig)))
    assert (kept.points[:, 2] > 25).sum() <= 3
    assert (kept.dropped[rule][:, 2] > 20).mean() > 0.9
    assert len(kept.points) > 0.98 * len(shell)


def test_without_its_rule_a_twig_on_a_sheet_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no ellipsoid or ellipse could tell."""
    sheet = np.argwhere(np.ones((2, 61, 61), bool)) - [0, 30.0, 30.0]
    cloud = np.concatenate([sheet, np.argwhere(np.ones((24, 3, 3), bool)) - [-2.0, 1, 1]])
    left = (select_points(cloud, np.ones(len(cloud))).points[:, 0] > 8).sum()
    monkeypatch.setattr(select, "TWIG_RATIO", 0.0)
    assert left < 30 < 140 < (select_points(cloud, np.ones(len(cloud))).points[:, 0] > 8).sum()


def test_a_flat_sheet_is_not_pruned_by_an_ellipsoid() -> None:
    cloud, _ = degrade(SHAPES["sheet"], seed=0, noise=0.5)
    assert "ellipsoid" not in select_points(cloud, np.ones(len(cloud))).dropped


def test_thinning_keeps_to_the_cap_and_to_the_weights() -> None:
    q = sphere_points(60, 20000, seed=0)
    means, weights, cell = thin(q, np.ones(len(q)), cap=400)
    assert 250 < len(means) <= 400 and weights.sum() == len(q) and cell > 6


def _waisted(seed: int = 0) -> np.ndarray:
    """A tube along the beam with waists, elliptical in every slice: no ellipsoid."""
    rng = np.random.default_rng(seed)
    z, turn = rng.uniform(-40, 40, 6000), rng.uniform(0, 2 * np.pi, 6000)
    wide = 1 + 0.35 * np.cos(z / 9)
    tube = np.stack([z, 14 * wide * np.sin(turn) + 0.2 * z, 20 * wide * np.cos(turn)], 1)
    return np.asarray(tube + rng.normal(0, 0.4, tube.shape))


def test_a_blob_beside_a_membrane_that_is_an_ellipse_in_every_slice_is_dropped_and_listed() -> None:
    tube = _waisted()
    rng = np.random.default_rng(1)
    ball = rng.normal(size=(400, 3))
    ball *= (6 * rng.random(400) ** (1 / 3) / np.linalg.norm(ball, axis=1))[:, None]
    cloud = np.concatenate([tube, ball + np.array([0.0, 0.0, 32.0])])
    kept = select_points(cloud, np.ones(len(cloud)))
    assert len(kept.dropped["ellipses"]) > 100
    assert (kept.points[:, 2] > 31.5).sum() < 0.5 * (cloud[:, 2] > 31.5).sum()
    assert len(kept.points) > len(tube)


@pytest.mark.parametrize("name", ["banana", "peanut", "bumpy", "sheet"])
def test_ellipses_of_slices_take_nothing_from_a_membrane_of_another_shape(name: str) -> None:
    cloud, clean = degrade(SHAPES[name], seed=110, outliers=0.0)
    dropped = select_points(cloud, np.ones(len(cloud))).dropped
    assert len(dropped.get("ellipses", [])) < 0.01 * len(clean)


def test_without_its_safeguard_bananas_would_lose_a_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "MOST_OFF", 1.0)
    cloud, _ = degrade(SHAPES["banana"], seed=110, outliers=0.0)
    assert _off_ellipses(cloud).mean() > 0.1
