"""Second derivatives against finite differences of the first."""

import numpy as np
import pytest

from cryoscale.fit import evaluate
from cryoscale.fit.covariance import KINDS, Kernel
from cryoscale.fit.ellipsoid import Ellipsoid
from cryoscale.fit.hessian import field_hessian, symmetric


@pytest.mark.parametrize("kind", KINDS)
def test_hessian_against_differences(kind: str) -> None:
    rng = np.random.default_rng(0)
    x, alpha = rng.normal(scale=15, size=(80, 3)), rng.normal(size=80)
    kernel = Kernel(kind, 5.0, 70.0 if kind == "cubic" else 30.0)
    q = np.concatenate([rng.normal(scale=18, size=(40, 3)), [[60.0, 60, 60]]])
    found = field_hessian(kernel, x, alpha, q)
    for axis, step in enumerate(1e-4 * np.eye(3)):
        up, down = (evaluate.field_gradient(kernel, x, alpha, q + sign * step)[1] for sign in (1, -1))
        assert np.allclose(found[:, axis], (up - down) / 2e-4, atol=1e-5)
    assert np.array_equal(found, np.swapaxes(found, 1, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_finite_at_a_constraint(kind: str) -> None:
    found = field_hessian(Kernel(kind, 1.0, 10.0), np.zeros((1, 3)), np.ones(1), np.zeros((1, 3)))
    curve = -6 / 10**2 if kind == "cubic" else -5 / 3 / 10**2
    assert np.allclose(found[0], curve * np.eye(3), atol=1e-9)


def test_six_numbers_make_a_symmetric_matrix() -> None:
    assert np.array_equal(symmetric(np.arange(6.0)), [[0, 1, 2], [1, 3, 4], [2, 4, 5]])


def test_ellipsoid_hessian_and_trend_against_differences() -> None:
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    axes = np.array([20.0, 25.0, 33.0])
    ellipsoid = Ellipsoid(np.array([1.0, 2, 3]), (turn / axes**2) @ turn.T, axes)
    q = rng.normal(scale=25, size=(30, 3))
    found = ellipsoid.distance_hessian(q)
    for axis, step in enumerate(1e-4 * np.eye(3)):
        up, down = (ellipsoid.distance_gradient(q + sign * step)[1] for sign in (1, -1))
        assert np.allclose(found[:, axis], (up - down) / 2e-4, atol=1e-5)
    change = 0.01 * rng.normal(size=9)
    moved = ellipsoid.moved(change)
    assert np.allclose(moved.distance(q), ellipsoid.distance(q) + ellipsoid.trend(q) @ change, atol=0.02)
    assert np.abs(moved.distance(q) - ellipsoid.distance(q)).max() > 0.1
    assert np.allclose(np.sort(moved.axes), np.sort(np.linalg.eigvalsh(moved.matrix) ** -0.5))
