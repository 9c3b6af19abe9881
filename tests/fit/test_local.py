"""Variance from the constraints near each place, against the exact posterior."""

import numpy as np
import pytest

from cryoscale.fit import fit_surface, local
from cryoscale.fit.local import local_variance
from cryoscale.fit.surface import Surface
from tests.fit.shapes import SHAPES, degrade


@pytest.fixture(scope="module")
def capped() -> tuple[Surface, np.ndarray]:
    """A large vesicle without its caps, and places on it: seen ones and inferred ones."""
    cloud, _ = degrade(SHAPES["bumpy"], seed=0, cap=0.7, noise=0.5)
    surface = fit_surface(cloud * 1.5, spacing=1.0, kernel="matern52")
    index = surface.band(1.0).index[::40].astype(float)
    assert surface.choice["constraints"] > local.NEAR + local.SPREAD + 100
    return surface, index


def test_close_to_the_exact_posterior(capped: tuple[Surface, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    surface, places = capped

    def excess() -> np.ndarray:
        return np.asarray(surface.model.variance_near(places) / surface.model.variance(places) - 1)

    found = excess()
    assert found.min() > -1e-6
    assert np.median(found) < 0.01 and np.percentile(found, 99) < 0.12
    monkeypatch.setattr(local, "LONELY", np.inf)
    assert excess().mean() > 1.5 * found.mean()
    monkeypatch.setattr(local, "NEAR", 40)
    assert np.median(excess()) > 0.02
    monkeypatch.setattr(local, "NEAR", 10_000)
    assert np.abs(excess()).max() < 1e-6


def test_the_order_of_places_changes_nothing_that_matters(capped: tuple[Surface, np.ndarray]) -> None:
    surface, places = capped
    order = np.random.default_rng(0).permutation(len(places))
    found, again = surface.model.variance_near(places), surface.model.variance_near(places[order])
    assert np.allclose(found[order], again, rtol=1e-9)
    assert not len(surface.model.variance_near(np.zeros((0, 3))))


def test_a_matrix_that_is_no_covariance() -> None:
    points = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(np.linalg.LinAlgError, match="20 constraints"):
        local_variance(
            points,
            points,
            within=lambda rows: np.asfortranarray(-np.eye(len(rows))),
            between=lambda rows, q: (np.zeros((len(q), len(rows))), np.ones(len(q))),
        )
