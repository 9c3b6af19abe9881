"""Compiled covariance matrices against array arithmetic, on the host and as a device would compute them."""

import numpy as np
import pytest

from cryoscale.fit.covariance import KINDS, Kernel, covariance
from cryoscale.fit.device import solve_on_device
from cryoscale.fit.host import solve_on_host
from cryoscale.fit.matrix import fill


def _batch(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Kernel]]:
    rng = np.random.default_rng(0)
    kernels = [Kernel(kind, 3.0, 150.0), Kernel(kind, 5.0, 90.0), Kernel(kind, 1.0, 120.0)]
    return rng.normal(scale=9, size=(3, 64, 3)) + 40, rng.uniform(0.3, 1, (3, 64)), np.array([64, 50, 1]), kernels


@pytest.mark.parametrize("kind", KINDS)
def test_triangles_against_dense_covariances(kind: str) -> None:
    points, noise, counts, kernels = _batch(kind)
    none, nothing = np.zeros((0, 0)), np.zeros(0)
    for member, (n, kernel) in enumerate(zip(counts, kernels, strict=True)):
        columns, found = np.ascontiguousarray(points[member].T), np.full((64, 64), 7.0)
        form = (kind == "cubic", kernel.length, kernel.amplitude**2)
        fill(columns, noise[member], none, nothing, 1.0, n, *form, found)
        expected = np.eye(64)
        x = points[member, :n] - 40
        expected[:n, :n] = covariance(kernel, x, x, np) + np.diag(noise[member, :n] ** 2)
        # Array arithmetic takes distances from scalar products and loses digits near zero.
        assert np.abs(np.triu(found) - np.triu(expected)).max() < 1e-6
        assert (np.tril(found, -1) == np.tril(np.full((64, 64), 7.0), -1)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", [False, True])
def test_host_and_device_factorise_the_same_matrix(kind: str, more: bool) -> None:
    points, noise, counts, kernels = _batch(kind)
    rng = np.random.default_rng(1)
    right = rng.normal(size=(3, 64)) * (np.arange(64) < counts[:, None])
    trend, shared = rng.normal(size=(3, 64, 9)), rng.uniform(0, 1, (3, 64))
    options = {"trend": trend, "shared": shared, "reach": np.array([3.0, 4.0, 5.0])} if more else {}
    host = solve_on_host(points, noise, counts, kernels, right, **options)
    device = solve_on_device(points, noise, counts, kernels, right, **options)
    for left, other in zip(host, device, strict=True):
        assert np.allclose(left, other, rtol=1e-6, atol=1e-6)
