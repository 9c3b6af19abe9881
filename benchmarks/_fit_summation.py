"""Where a fast summation would win: the field at the nodes near a surface, and its matrix, computed in other ways.

- direct  : the compiled sum over all constraints at the nodes that `cryoscale.fit.cells` asks for, which is ours
- grid    : constraints spread to a grid of 4 voxels (4 x 4 x 4 Lagrange), convolved with the kernel by FFT; gives all
            nodes of the box, and their error against the direct sum, over the field's slope at the surface, in voxels
- sparse  : a kernel that ends at the object's radius (Wendland's C2) makes a sparse matrix: its share of entries, and
            its factorisation by SuperLU against the dense Cholesky

Processor seconds, medians.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfftn, rfftn
from scipy.linalg.lapack import dpotrf
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu
from scipy.spatial.distance import cdist

from benchmarks._fit_linear import processor_and_wall
from benchmarks._fit_speed import EDGE, STEP, WIDTH, Setting, setting
from cryoscale.fit.cells import grow
from cryoscale.fit.covariance import Kernel, correlation
from cryoscale.fit.samples import trace

__all__ = ["summation", "summation_table"]

Array = NDArray[np.float64]
PITCH = 4.0
PAD = 3
SUPPORT = 44.0
COUNTS = (1000, 2000, 4000)
POSITION_ASKED = 0.02


def _nodes(at: Setting) -> Array:
    samples = trace(at.model.value_gradient, np.zeros(3), np.full(3, EDGE - 1.0), STEP)
    cells = grow(at.model.value_gradient, samples.points, 1.5 * STEP, pitch=PITCH, width=WIDTH)
    return np.asarray(cells.nodes * PITCH)


def _lagrange(t: Array) -> Array:
    """Return the weights (m, 4) of nodes -1, 0, 1, 2 at fractions t (m,)."""
    before, after, last = t + 1, t - 1, t - 2
    parts = [-t * after * last / 6, before * after * last / 2, -before * t * last / 2, before * t * after / 6]
    return np.stack(parts, 1)


def _by_grid(kernel: Kernel, points: Array, alpha: Array) -> Array:
    """Return the field at every node of the box by FFT."""
    count = int(EDGE / PITCH) + 2 * PAD
    place = points / PITCH + PAD
    low = np.floor(place).astype(np.int64)
    weights = [_lagrange((place - low)[:, axis]) for axis in range(3)]
    charge = np.zeros((count,) * 3)
    for corner in itertools.product(range(4), repeat=3):
        share = alpha * weights[0][:, corner[0]] * weights[1][:, corner[1]] * weights[2][:, corner[2]]
        np.add.at(charge, tuple((low + np.array(corner) - 1).T), share)
    axis = np.minimum(np.arange(2 * count), 2 * count - np.arange(2 * count)) * PITCH
    r = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    response = rfftn(kernel.amplitude**2 * correlation(kernel.kind, r / kernel.length, np))
    field = irfftn(rfftn(charge, s=(2 * count,) * 3) * response, s=(2 * count,) * 3)
    inner = slice(PAD, count - PAD)
    return np.asarray(field[:count, :count, :count][inner, inner, inner])


def _sparse(at: Setting) -> dict[str, float]:
    """Compare the factorisations of a matrix with a kernel that ends and of ours."""
    r = np.minimum(cdist(at.constraints.points, at.constraints.points) / SUPPORT, 1.0)
    matrix = (1 - r) ** 4 * (4 * r + 1) * at.kernel.amplitude**2 + np.diag(at.constraints.noise**2)
    sparse, dense = csc_matrix(matrix), np.asfortranarray(matrix)
    options = {"diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
    return {
        "entries": sparse.nnz / matrix.size,
        "sparse_s": processor_and_wall(partial(splu, sparse, permc_spec="MMD_AT_PLUS_A", **options), 3)[0],
        "dense_s": processor_and_wall(partial(dpotrf, dense, lower=1, clean=0), 3)[0],
    }


def summation() -> list[dict[str, Any]]:
    """Time and check the ways."""
    rows = []
    for n in COUNTS:
        at = setting(n, "matern52")
        nodes, points, alpha = _nodes(at), at.constraints.points, at.model.patches[0].alpha
        inside = ((nodes >= 0) & (nodes <= EDGE - PITCH)).all(1)
        nodes = nodes[inside]
        direct, (value, slope) = (
            processor_and_wall(partial(at.model.value_gradient, nodes), 3)[0],
            at.model.value_gradient(nodes),
        )
        grid_s, grid = (
            processor_and_wall(partial(_by_grid, at.kernel, points, alpha), 3)[0],
            _by_grid(at.kernel, points, alpha),
        )
        away = np.abs(grid[tuple((nodes / PITCH).astype(np.int64).T)] - value) / np.linalg.norm(slope, axis=1)
        row = {"n": n, "nodes": len(nodes), "direct_s": direct, "grid_s": grid_s}
        row |= {"grid_error_median": float(np.median(away)), "grid_error_max": float(away.max())}
        rows.append(row | _sparse(at))
    return rows


def summation_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the comparison as text."""
    lines = ["fast summation, per field:"]
    for row in rows:
        good = row["grid_error_max"] <= POSITION_ASKED and row["grid_s"] < row["direct_s"]
        lines += [
            f"{row['n']:6} constraints, {row['nodes']} nodes near it: direct with gradient {row['direct_s']:.3f} s; "
            f"by FFT, values alone {row['grid_s']:.3f} s, off by {row['grid_error_median']:.3f} voxel, "
            f"{row['grid_error_max']:.2f} at most ({'wins' if good else 'does not win'})",
            f"       kernel that ends at {SUPPORT:g} voxels: {row['entries']:.0%} of the matrix, sparse factors "
            f"{row['sparse_s']:.2f} s, dense {row['dense_s']:.3f} s "
            f"({'wins' if row['sparse_s'] < row['dense_s'] else 'does not win'})",
        ]
    return "\n".join(lines)
