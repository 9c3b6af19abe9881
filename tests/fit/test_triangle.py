"""Triangles in place against SciPy's and NumPy's own."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from scipy.linalg import solve_triangular

from cryoscale.fit import triangle
from cryoscale.fit.triangle import factorise, inverse_by_halves, invert, solve

SIZES = (1, 7, 63, 64, 65, 130, 257)


def _covariance(n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    columns = rng.normal(size=(n, n))
    return np.asfortranarray(columns @ columns.T + n * np.eye(n))


@pytest.mark.parametrize("n", SIZES)
def test_factor_solve_and_inverse(n: int) -> None:
    matrix, right = _covariance(n), np.random.default_rng(0).normal(size=n)
    lower = np.linalg.cholesky(matrix)
    found = matrix.copy("K")
    factorise(found)
    assert np.allclose(np.tril(found), lower, rtol=1e-12, atol=1e-12)
    assert np.array_equal(np.triu(found, 1), np.triu(matrix, 1))
    given = right.copy()
    assert np.allclose(solve(found, right), solve_triangular(lower, right, lower=True), rtol=1e-11)
    assert np.allclose(solve(found, right, transpose=True), solve_triangular(lower.T, right), rtol=1e-11)
    assert np.array_equal(right, given)
    invert(found)
    expected = solve_triangular(lower, np.eye(n), lower=True)
    assert np.allclose(np.tril(found), expected, rtol=0, atol=1e-13 * np.abs(expected).max())
    assert np.array_equal(np.triu(found, 1), np.triu(matrix, 1))


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
    with pytest.raises(np.linalg.LinAlgError, match="pivot 21 of 40"):
        factorise(matrix)


@pytest.mark.parametrize(
    "matrix",
    [np.eye(4, dtype=np.float32, order="F"), np.arange(16.0).reshape(4, 4), np.ones((4, 3), order="F"), np.ones(4)],
)
def test_memory_that_is_laid_out_otherwise_is_refused(matrix: np.ndarray) -> None:
    for call in (factorise, invert, lambda m: solve(m, np.ones(4))):
        with pytest.raises(ValueError, match="Fortran"):
            call(matrix)


def test_other_threads_go_on_meanwhile() -> None:
    for routine in (triangle._POTRF, triangle._TRTRI, triangle._TRMM, triangle._TRSV):
        assert not type(routine)._flags_ & ctypes._FUNCFLAG_PYTHONAPI
