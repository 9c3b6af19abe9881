"""The same Gaussian process, or its nearest kin, in the libraries a user would pick; None where not installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

from benchmarks._fit_peers import optional
from cryoscale.fit.covariance import Kernel

__all__ = ["PEERS", "Posterior"]

Array = NDArray[np.float64]
TILE = 2000
"""Places asked about at once: what a user does so that n x m doubles fit into memory."""


@dataclass(frozen=True)
class Posterior:
    """A solved peer."""

    mean: Callable[[Array], Array]
    variance: Callable[[Array], Array] | None = None
    slowness: int = 1
    """How many times less of the box it is asked about."""


Peer = Callable[[Array, Array, Array, Kernel], Posterior | None]


def _tiled(call: Callable[[Array], Any]) -> Callable[[Array], Array]:
    return lambda q: np.concatenate([np.asarray(call(part)) for part in np.array_split(q, max(1, len(q) // TILE))])


def _rbf(points: Array, values: Array, noise: Array, kernel: Kernel) -> Posterior:
    del noise, kernel
    return Posterior(_tiled(RBFInterpolator(points, values, kernel="cubic", smoothing=1.0)))


def _rbf_near(points: Array, values: Array, noise: Array, kernel: Kernel) -> Posterior:
    del noise, kernel
    return Posterior(_tiled(RBFInterpolator(points, values, kernel="cubic", smoothing=1.0, neighbors=64)), slowness=4)


def _sklearn(points: Array, values: Array, noise: Array, kernel: Kernel) -> Posterior | None:
    package, kernels = optional("sklearn.gaussian_process"), optional("sklearn.gaussian_process.kernels")
    if package is None or kernels is None:
        return None
    prior = kernels.ConstantKernel(kernel.amplitude**2) * kernels.Matern(kernel.length, nu=2.5)
    model = package.GaussianProcessRegressor(prior, alpha=noise**2, optimizer=None).fit(points, values)
    return Posterior(_tiled(model.predict), _tiled(lambda q: model.predict(q, return_std=True)[1] ** 2))


def _gpytorch(points: Array, values: Array, noise: Array, kernel: Kernel) -> Posterior | None:
    package, torch = optional("gpytorch"), optional("torch")
    if package is None or torch is None:
        return None
    x, y = torch.as_tensor(points), torch.as_tensor(values)
    likelihood = package.likelihoods.FixedNoiseGaussianLikelihood(torch.as_tensor(noise**2)).double()
    prior = package.kernels.ScaleKernel(package.kernels.MaternKernel(2.5)).double()
    prior.outputscale, prior.base_kernel.lengthscale = kernel.amplitude**2, kernel.length
    mean = package.means.ZeroMean()
    exact: Any = package.models.ExactGP

    def forward(_: Any, q: Any) -> Any:
        return package.distributions.MultivariateNormal(mean(q), prior(q))

    model = type("Exact", (exact,), {"forward": forward})(x, y, likelihood).eval()

    def ask(q: Array, *, variance: bool) -> Any:
        settings = package.settings
        with torch.no_grad(), settings.max_cholesky_size(10_000), settings.skip_posterior_variances(not variance):
            found = model(torch.as_tensor(q))
            return (found.variance if variance else found.mean).numpy()

    ask(points[:2], variance=False)
    return Posterior(_tiled(lambda q: ask(q, variance=False)), _tiled(lambda q: ask(q, variance=True)))


PEERS: dict[str, Peer] = {
    "SciPy RBFInterpolator": _rbf,
    "SciPy RBFInterpolator, 64 neighbours": _rbf_near,
    "scikit-learn GaussianProcessRegressor": _sklearn,
    "GPyTorch, exact": _gpytorch,
}
