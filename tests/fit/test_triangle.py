"""LAPACK from compiled loops and inverses by halves against SciPy's and NumPy's own."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numba import njit
from scipy.linalg import solve_triangular

from cryoscale.fit import triangle
from cryoscale.fit.lapack import ROUTINES, potrf, trmm, trsv, trtri
from cryoscale.fit.triangle import inverse_by_halves, invert

SIZES = (1, 7, 63, 64, 65, 130, 257, 400)


def _covariance(n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    columns = rng.normal(size=(n, n))
    return columns @ columns.T + n * np.eye(n)


def _within(matrix: np.ndarray) -> np.ndarray:
    """The same matrix as a part of a larger array, whose other numbers nobody may touch."""
    n = len(matrix)
    room = np.full((n + 3, n + 5), 7.0)
    room[1 : n + 1, 2 : n + 2] = matrix
    return room[1 : n + 1, 2 : n + 2]


def _untouched(part: np.ndarray) -> bool:
    room = part.base.copy()
    room[1:-2, 2:-3] = 7.0
    return bool((room == 7.0).all())


@pytest.mark.parametrize("n", SIZES)
def test_factor_solve_and_inverse(n: int) -> None:
    matrix, right = _covariance(n), np.random.default_rng(0).normal(size=n)
    lower, found = np.linalg.cholesky(matrix), _within(matrix)
    assert potrf(ROUTINES, found) == 0
    # Rows of the array are columns of the matrix.
    assert np.allclose(np.triu(found).T, lower, rtol=1e-12, atol=1e-12)
    assert np.array_equal(np.tril(found, -1), np.tril(matrix, -1))
    for transpose, expected in (
        (False, solve_triangular(lower, right, lower=True)),
        (True, solve_triangular(lower.T, right)),
    ):
        x = right.copy()
        trsv(ROUTINES, found, x, transpose)
        assert np.allclose(x, expected, rtol=1e-11)
    whole = solve_triangular(lower, np.eye(n), lower=True)
    for inverse in (invert, trtri):
        turned = _within(found)
        inverse(ROUTINES, turned)
        assert np.allclose(np.triu(turned).T, whole, rtol=0, atol=1e-13 * np.abs(whole).max())
        assert np.array_equal(np.tril(turned, -1), np.tril(matrix, -1))
        assert _untouched(turned)
    assert _untouched(found)


@pytest.mark.parametrize("left", [True, False])
def test_products_with_a_triangle(left: bool) -> None:
    rng = np.random.default_rng(0)
    block, size = rng.normal(size=(5, 9)), 9 if left else 5
    lower = rng.normal(size=(size, size))
    expected = -2.0 * (np.tril(lower) @ block.T if left else block.T @ np.tril(lower)).T
    room = np.full((8, 14), 7.0)
    room[1:6, 2:11] = block
    trmm(ROUTINES, -2.0, _within(lower.T), room[1:6, 2:11], left)
    assert np.allclose(room[1:6, 2:11], expected, rtol=1e-13)
    room[1:6, 2:11] = 7.0
    assert (room == 7.0).all()


@pytest.mark.parametrize("n", SIZES)
def test_inverses_by_products_alone(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triangle, "BLOCK", 16)
    lower = np.stack([np.linalg.cholesky(_covariance(n)), np.linalg.cholesky(_covariance(n) + 3 * np.eye(n))])
    found = inverse_by_halves(lower, np)
    assert np.allclose(found @ lower, np.eye(n), atol=1e-13)
    assert not np.triu(found, 1).any()


def test_a_matrix_that_has_no_factor() -> None:
    matrix = _covariance(40)
    matrix[20, 20] = -1.0
    assert potrf(ROUTINES, matrix) == 21


def test_addresses_are_not_kept_on_disk() -> None:
    """What was compiled for one process runs in the next, where SciPy lies elsewhere."""
    code = (
        "import numpy as np; from cryoscale.fit.lapack import ROUTINES, potrf;"
        "m = 4 * np.eye(3); assert potrf(ROUTINES, m) == 0 and (m == 2 * np.eye(3)).all();"
        "print(ROUTINES[0], sum(potrf.stats.cache_hits.values()))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    found = [run.stdout.split() for run in runs]
    assert found[-1][1] == "1"
    if len({address for address, _ in found}) == 1:
        pytest.skip("libraries lie at the same addresses in every process here")


@njit(nogil=True)
def _until(at: Any, matrix: np.ndarray, flag: np.ndarray, most: int) -> bool:
    for _ in range(most):
        potrf(at, matrix.copy())
        if flag[0]:
            return True
    return False


def test_other_threads_go_on_meanwhile() -> None:
    matrix, flag = _covariance(100), np.zeros(1, bool)
    assert not _until(ROUTINES, matrix, flag, 1)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(_until, ROUTINES, matrix, flag, 100_000)
        while not found.running():
            pass
        flag[0] = True
        assert found.result()
