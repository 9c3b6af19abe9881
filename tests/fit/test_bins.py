"""Cells and neighbours against search trees, sorting and brute force."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from cryoscale.fit import select
from cryoscale.fit.bins import NEIGHBOURS, bin_points, joined, moments_around, nearest_squares
from cryoscale.fit.select import _sparse
from tests.fit.shapes import SHAPES, degrade

Array = NDArray[np.float64]


def _clouds() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    crowd = np.concatenate([rng.normal(0, 0.01, (900, 3)), rng.uniform(-60, 60, (600, 3))])
    lattice = np.argwhere(np.ones((9, 14, 14), bool)) * 1.0
    return {
        "vesicle": degrade(SHAPES["bumpy"], seed=4, outliers=0.05)[0],
        "lattice": lattice[np.abs(np.linalg.norm(lattice - 5, axis=1) - 5) < 1.5],
        "crowd": crowd,
        "far": np.concatenate([rng.normal(0, 3, (300, 3)), [[1e5, 0, 0], [0, -3e12, 0], [1, 2, 1e12]]]),
    }


CLOUDS = _clouds()


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize("cell", [0.7, 2.0, 7.0])
def test_cells_are_those_of_sorting(name: str, cell: float) -> None:
    points = CLOUDS[name]
    bins = bin_points(points, cell)
    index = np.floor((points - points.min(0)) / cell + 0.5).astype(np.int64)
    unique, where = np.unique(index, axis=0, return_inverse=True)
    np.testing.assert_array_equal(bins.where, where.ravel())
    assert len(bins.keys) == len(unique) and (np.diff(bins.keys) > 0).all()


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize("cell", [2.0, 6.0])
def test_cells_that_touch_are_joined(name: str, cell: float) -> None:
    points = CLOUDS[name]
    bins = bin_points(points, cell)
    index = np.empty((len(bins.keys), 3))
    index[bins.where] = np.floor((points - points.min(0)) / cell + 0.5)
    pairs = cKDTree(index).query_pairs(1.8, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs)), pairs.T), (len(index), len(index)))
    count, label = connected_components(graph, directed=False)
    group = joined(bins)
    assert count == len(np.unique(group)) == len(np.unique(np.stack([group, label]), axis=1).T)


@pytest.mark.parametrize("name", ["vesicle", "lattice", "crowd"])
def test_nearest_are_those_of_a_tree_within_a_cell(name: str) -> None:
    points, cell = CLOUDS[name], 2.5
    wanted = np.arange(0, len(points), 3)
    squares = np.full((len(points), NEIGHBOURS), -1.0)
    nearest_squares(points, wanted, bin_points(points, cell), squares)
    true = cKDTree(points).query(points[wanted], k=NEIGHBOURS + 1)[0][:, 1:]
    found = np.sqrt(squares[wanted])
    np.testing.assert_array_equal(found[true < 0.999 * cell], true[true < 0.999 * cell])
    assert (true < 0.999 * cell).any() and (found >= true).all()
    assert (np.delete(squares, wanted, axis=0) == -1).all()


@pytest.mark.parametrize("name", ["vesicle", "lattice", "crowd"])
def test_moments_are_those_of_all_pairs(name: str) -> None:
    points, cell, reach = CLOUDS[name][::3], 2.0, 6.0
    bins = bin_points(points, cell)
    count = np.bincount(bins.where)
    centres = np.stack([np.bincount(bins.where, points[:, a]) / count for a in range(3)], 1)
    sums = moments_around(centres, bins, reach)
    near = np.linalg.norm(centres[:, None] - centres, axis=2) <= reach
    local = centres - centres.mean(0)
    np.testing.assert_array_equal(sums[:, 0], near.sum(1))
    np.testing.assert_allclose(sums[:, 1:4], near @ local, atol=1e-9)
    products = np.einsum("ij,ja,jb->iab", near.astype(float), local, local)
    np.testing.assert_allclose(sums[:, 4:], products.reshape(-1, 9), rtol=1e-9, atol=1e-6)


def _sparse_by_a_tree(points: Array) -> NDArray[np.bool_]:
    mean = cKDTree(points).query(points, k=NEIGHBOURS + 1)[0][:, 1:].mean(1)
    middle = np.median(mean)
    spread = 1.4826 * np.median(np.abs(mean - middle))
    return np.asarray(mean > max(2 * middle, middle + 5 * spread))


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize("scale", [1.0, 0.02, 30.0])
def test_sparse_points_are_those_of_a_tree(name: str, scale: float) -> None:
    points = CLOUDS[name] * scale
    marks = _sparse(points)
    np.testing.assert_array_equal(marks, _sparse_by_a_tree(points))
    assert name == "lattice" or marks.any()


def test_trusting_cells_beyond_their_edge_would_mark_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: what was not found within the cells around is taken for farther than it may be."""
    monkeypatch.setattr(select, "WITHIN", 3.0)
    assert (_sparse(CLOUDS["vesicle"]) != _sparse_by_a_tree(CLOUDS["vesicle"])).any()
