"""Ridge points against the centre lines of known scores."""

import numpy as np
import pytest

from cryoscale.fit.ridge import RIDGE_HALO, ridge_points

CENTRE = np.array([20.3, 20.6, 19.8])


def _score(radius: float = 13.4, width: float = 1.6) -> np.ndarray:
    grid = np.stack(np.meshgrid(*[np.arange(41.0)] * 3, indexing="ij"), -1)
    d = np.linalg.norm(grid - CENTRE, axis=-1) - radius
    return np.clip(np.exp(-((d / width) ** 2)), 0, 1).astype(np.float32)


@pytest.mark.parametrize("saturated", [False, True])
def test_points_lie_on_the_centre_line(saturated: bool) -> None:
    score = (_score() > 0.4).astype(np.float32) if saturated else _score()
    q = ridge_points(score, np.ones(score.shape, bool))
    r = np.linalg.norm(q - CENTRE, axis=1)
    assert np.abs(r - 13.4).mean() < 0.25
    assert np.abs(r.mean() - 13.4) < 0.15
    assert 0.7 < len(q) / (4 * np.pi * 13.4**2) < 1.8
    assert len(q) < 0.5 * (score >= 0.5).sum()


def test_mask_and_threshold_bound_them() -> None:
    score = _score()
    half = np.zeros(score.shape, bool)
    half[:, :, :20] = True
    assert (ridge_points(score, half)[:, 2] < 20).all()
    assert len(ridge_points(score, ~np.zeros_like(half), threshold=1.1)) == 0
    assert len(ridge_points(np.ones((9, 9, 9)), np.ones((9, 9, 9), bool))) == 0


def test_a_halo_makes_slabs_equal_the_whole_and_one_less_does_not() -> None:
    score, mask = _score(), np.ones((41, 41, 41), bool)
    whole = ridge_points(score, mask)

    def by_slabs(halo: int) -> np.ndarray:
        parts = []
        for low in range(0, 41, 10):
            start = max(low - halo, 0)
            inside = np.zeros((41, 41, 41), bool)
            inside[low : low + 10] = True
            cut = slice(start, low + 10 + halo)
            parts.append(ridge_points(score[cut], inside[cut]) + np.array([start, 0, 0]))
        return np.concatenate(parts)

    assert np.allclose(by_slabs(RIDGE_HALO), whole, atol=1e-5)
    short = by_slabs(RIDGE_HALO - 1)
    assert short.shape != whole.shape or np.abs(short - whole).max() > 1e-5


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="one shape"):
        ridge_points(np.zeros((3, 3, 3)), np.zeros((3, 3, 4), bool))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_named(wrong: float) -> None:
    score = np.full((9, 10, 11), 0.7)
    score[3, 4, 5] = wrong
    with pytest.raises(ValueError, match=r"must be finite; found 1 of 990 voxels .* \(3, 4, 5\)"):
        ridge_points(score, np.ones(score.shape, bool))
