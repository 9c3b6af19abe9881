"""What is dropped, what is kept, and what is refused."""

import numpy as np
import pytest

from cryoscale.fit.select import check_points, infer_spacing, select_points, thin
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
    assert sum(kept.dropped.values()) == len(cloud) - len(kept.points)


def test_a_twig_is_dropped() -> None:
    shell = np.argwhere(np.ones((61, 61, 61), bool)) - 30.0
    shell = shell[np.abs(np.linalg.norm(shell, axis=1) - 18) < 1.2]
    twig = np.stack([np.zeros(22), np.zeros(22), np.arange(21, 43)], 1).astype(float)
    kept = select_points(np.concatenate([shell, twig]), np.ones(len(shell) + 22))
    assert (kept.points[:, 2] > 25).sum() <= 3
    assert len(kept.points) > 0.98 * len(shell)


def test_a_flat_sheet_is_not_pruned_by_an_ellipsoid() -> None:
    cloud, _ = degrade(SHAPES["sheet"], seed=0, noise=0.5)
    assert "ellipsoid" not in select_points(cloud, np.ones(len(cloud))).dropped


def test_thinning_keeps_to_the_cap_and_to_the_weights() -> None:
    q = sphere_points(60, 20000, seed=0)
    means, weights, cell = thin(q, np.ones(len(q)), cap=400)
    assert 250 < len(means) <= 400 and weights.sum() == len(q) and cell > 6
