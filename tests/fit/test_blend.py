"""Weights of patches against finite differences; which places they speak at against brute force."""

import numpy as np
import pytest

from cryoscale.fit.blend import box_weights, ground_weights, speaking, weight_hessians


def test_weights_and_their_gradient() -> None:
    low, high = np.zeros(3), np.full(3, 10.0)
    q = np.array([[5.0, 5, 5], [-3, 5, 5], [-3, 12, 5], [40, 5, 5]])
    w, dw = box_weights(q, low, high, 8.0)
    assert w[0] == 1 and 0 < w[2] < w[1] < 1 and w[3] < 1e-6
    step = 1e-6 * np.eye(3)
    for a in range(3):
        numeric = (box_weights(q + step[a], low, high, 8.0)[0] - box_weights(q - step[a], low, high, 8.0)[0]) / 2e-6
        assert np.allclose(dw[:3, a], numeric[:3], atol=1e-6)


def test_curvature_of_the_weights() -> None:
    rng = np.random.default_rng(1)
    q, low, high = rng.uniform(-6, 16, (200, 3)), np.zeros(3), np.full(3, 10.0)
    numeric = np.stack(
        [
            (box_weights(q + step, low, high, 8.0)[1] - box_weights(q - step, low, high, 8.0)[1]) / 2e-6
            for step in 1e-6 * np.eye(3)
        ],
        -1,
    )
    assert np.allclose(weight_hessians(q, low, high, 8.0), numeric, atol=1e-6)


def test_weight_of_the_ground_and_its_derivatives() -> None:
    rng = np.random.default_rng(2)
    slope, bend = rng.normal(size=(50, 3)), rng.normal(size=(50, 3, 3))
    bend += np.swapaxes(bend, 1, 2)
    base = rng.uniform(0, 1, 50)

    def total(x: np.ndarray) -> np.ndarray:
        return base + (slope * x).sum(1) + 0.5 * np.einsum("i,nij,j->n", x, bend, x)

    w, dw, ddw = ground_weights(base, slope, bend)
    assert np.allclose(w, (1 - base) ** 3)
    for a, step in enumerate(1e-5 * np.eye(3)):
        numeric = ((1 - total(step)) ** 3 - (1 - total(-step)) ** 3) / 2e-5
        assert np.allclose(dw[:, a], numeric, atol=1e-7)
        second = ((1 - total(step)) ** 3 - 2 * w + (1 - total(-step)) ** 3) / 1e-10
        assert np.allclose(ddw[:, a, a], second, atol=1e-3)


@pytest.mark.parametrize("places", [0, 1, 500])
def test_who_speaks_where(places: int) -> None:
    rng = np.random.default_rng(places)
    low = rng.uniform(0, 60, (17, 3))
    high, q = low + rng.uniform(3, 20, (17, 3)), rng.uniform(-20, 100, (places, 3))
    ends, near, nearest = speaking(q, low, high, 8.0)
    far = np.maximum(np.maximum(low - q[:, None], q[:, None] - high), 0).max(2)
    assert len(ends) == 18 and len(near) == ends[-1]
    for box in range(17):
        assert np.array_equal(near[ends[box] : ends[box + 1]], np.flatnonzero(far[:, box] < 8.0))
    assert np.array_equal(nearest, far.argmin(1))
