"""Volumes to merge, and the answer by another way: a search tree over points and SciPy's graph components."""

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree


def oracle(mask, distance, separate_values=False, voxel_size=1.0):
    """Labels in raster order of first voxels, from all pairs of voxels within the distance."""
    points, values = np.argwhere(mask) * voxel_size, mask[mask != 0]
    labels = np.zeros(mask.shape, np.int64)
    if not len(points):
        return labels, 0
    pairs = cKDTree(points).query_pairs(distance * (1 + 1e-9), output_type="ndarray")
    if separate_values:
        pairs = pairs[values[pairs[:, 0]] == values[pairs[:, 1]]]
    graph = coo_matrix((np.ones(len(pairs)), pairs.T), (len(points), len(points)))
    count, component = connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)
    labels[mask != 0] = (np.argsort(np.argsort(first)) + 1)[component]
    return labels, count


def random_mask(seed, shape, density):
    return np.random.default_rng(seed).random(shape) < density


def shells(seed, shape, count=4, thickness=1.5):
    """Broken spherical shells: what membranes look like."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    mask = np.zeros(shape, bool)
    for _ in range(count):
        radius, centre = rng.uniform(2, 2 + max(shape) / 2), rng.uniform(0, 1, 3) * shape
        distance = np.linalg.norm(grid - centre, axis=-1)
        mask |= (np.abs(distance - radius) < thickness / 2) & (rng.random(shape) < 0.8)
    return mask


def checkerboard(shape):
    return np.indices(shape).sum(axis=0) % 2 == 0


def comb(shape):
    """Teeth along x that meet only in the last column: one region, found last."""
    mask = np.zeros(shape, bool)
    mask[:, ::4] = True
    mask[..., -1] = True
    return mask


def dots(shape, step, seed=0):
    """Single voxels, a step apart in random directions: chains whose links are exactly one distance long."""
    rng, mask, at = np.random.default_rng(seed), np.zeros(shape, bool), np.array(shape) // 2
    for _ in range(40):
        mask[tuple(at)] = True
        at = (at + rng.permutation(step) * rng.choice((-1, 1), 3)) % shape
    return mask


def spiral(size):
    """One thread that winds inwards through the blocks of a square, three voxels from itself."""
    mask = np.zeros((1, size, size), bool)
    at, step = np.zeros(2, int), np.array([0, 1])
    lengths = [size - 1, *np.repeat(np.arange(size - 1, 0, -3), 2)]
    mask[0, 0, 0] = True
    for length in lengths:
        for _ in range(length):
            at += step
            mask[0, at[0], at[1]] = True
        step = np.array([step[1], -step[0]])
    return mask


DISTANCES = [1.0, np.sqrt(2), np.sqrt(3), 2.0, 2.5, 3.0, 4.5, 5.0]
SHAPES = {
    "random sparse": lambda: random_mask(0, (13, 17, 19), 0.02),
    "random": lambda: random_mask(1, (13, 17, 19), 0.1),
    "random dense": lambda: random_mask(2, (7, 11, 13), 0.5),
    "shells": lambda: shells(3, (23, 29, 31)),
    "checkerboard": lambda: checkerboard((6, 7, 8)),
    "dots 5 apart": lambda: dots((29, 31, 37), (0, 3, 4)),
    "dots 3 apart": lambda: dots((17, 19, 23), (1, 2, 2)),
    "comb along z": lambda: comb((9, 13, 17)).transpose(2, 0, 1),
    "comb": lambda: comb((9, 13, 17)),
    "spiral": lambda: spiral(31),
    "spiral along z": lambda: spiral(31).transpose(2, 1, 0),
    "full": lambda: np.ones((5, 7, 11), bool),
    "nothing": lambda: np.zeros((0, 4, 5), bool),
    "empty": lambda: np.zeros((5, 7, 11), bool),
    "one voxel": lambda: np.ones((1, 1, 1), bool),
    "thin z": lambda: random_mask(4, (1, 37, 41), 0.08),
    "thin y": lambda: random_mask(5, (37, 1, 41), 0.08),
    "thin x": lambda: random_mask(6, (37, 41, 1), 0.08),
    "line": lambda: random_mask(7, (1, 1, 211), 0.2),
}
