"""Variance from the constraints near each place, against the exact posterior."""

from dataclasses import replace

import numpy as np
import pytest

from cryoscale.fit import fit_surface, local
from cryoscale.fit.covariance import Kernel
from cryoscale.fit.local import local_variance
from cryoscale.fit.model import Patch
from tests.fit.shapes import SHAPES, degrade


@pytest.fixture(scope="module")
def capped() -> tuple[Patch, np.ndarray]:
    """A large vesicle without its caps, its prior mean zero, and places on it: seen ones and inferred ones."""
    cloud, _ = degrade(SHAPES["bumpy"], seed=0, cap=0.7, noise=0.5)
    surface = fit_surface(cloud * 2.2, spacing=1.0, kernel="matern52", control_points=1500)
    patch = surface.model.patches[0]
    patch = replace(patch, hypothesis=replace(patch.hypothesis, ellipsoid=None), lower_inverse=None, change=None)
    assert len(patch.constraints.points) > local.NEAR + local.SPREAD + 100
    return patch, surface.band(1.0).index[::100].astype(float)


def test_close_to_the_exact_posterior(capped: tuple[Patch, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    patch, places = capped
    exact = patch.variance(places)

    def excess() -> np.ndarray:
        return np.asarray(patch.local_variance(places)[0] / exact - 1)

    found = excess()
    assert found.min() > -1e-6
    assert np.median(found) < 0.001 and np.percentile(found, 99) < 0.03
    monkeypatch.setattr(local, "LONELY", np.inf)
    assert excess().mean() > 1.3 * found.mean()
    monkeypatch.setattr(local, "NEAR", 40)
    assert np.median(excess()) > 0.02
    monkeypatch.setattr(local, "NEAR", 10_000)
    assert np.abs(excess()).max() < 1e-6


def test_the_gradient_against_differences(capped: tuple[Patch, np.ndarray]) -> None:
    patch, places = capped
    part = places[::20] + 0.5
    gradient = patch.local_variance(part)[1]
    for axis in range(3):
        # In the middle of voxels, clear of the blocks' faces: beyond one of them other constraints are taken.
        step = 1e-3 * np.eye(3)[axis]
        up, down = patch.local_variance(part + step)[0], patch.local_variance(part - step)[0]
        away = np.abs(gradient[:, axis] - (up - down) / 2e-3)
        assert (away < 1e-3 * np.abs(gradient).max()).all()


def test_the_order_of_places_changes_nothing_that_matters(capped: tuple[Patch, np.ndarray]) -> None:
    patch, places = capped
    order = np.random.default_rng(0).permutation(len(places))
    found, again = patch.local_variance(places)[0], patch.local_variance(places[order])[0]
    assert np.allclose(found[order], again, rtol=1e-9)
    assert not len(patch.local_variance(np.zeros((0, 3)))[0])


def test_a_matrix_that_is_no_covariance() -> None:
    points = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(np.linalg.LinAlgError, match="20 constraints"):
        local_variance(Kernel("cubic", 1.0, 10.0), points, points, lambda rows: np.asfortranarray(-np.eye(len(rows))))
