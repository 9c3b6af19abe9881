r"""What the stages after the fit need of the field itself: curvatures along the surface, and how errors hang together.

Curvatures are computed at samples of the zero set, which lie closer than the control points, so that they can be
carried to any vertex of a mesh. Errors are computed at fewer *sites*, spread evenly:

    C_ij = sum_p w_p(i)^1/2 w_p(j)^1/2 cov_p(f_i, f_j) / (|g_i| |g_j|) + s_i s_j [both on one side along the beam]

is the covariance of how far the surface is off along its normals at sites i and j; p are the patches of the field, w
their shares, and s the sd of what a segmentation has wrong in common over a whole cap (`systematic`). Any number that
is an integral over the surface has its standard error from it: its change when the surface moves by d(x) along its
normals is the integral of h(x) d(x), with a variance of h^T C h; h is 1 for the volume and 2 M for the area.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cryoscale.fit.curvature import STENCIL, curvature, curvature_errors, difference_weights
from cryoscale.fit.model import Model
from cryoscale.fit.screened import spread_out
from cryoscale.fit.surface import Surface

__all__ = ["surface_sites"]

Array = NDArray[np.float64]
SITE_AREA = 100.0
"""Square voxels for a site; the errors of a membrane hang together over about as much."""
SITES = (48, 256)
"""Fewest and most sites of a membrane."""


def surface_sites(surface: Surface) -> dict[str, NDArray[np.float32]]:
    """Return curvatures and their errors along a surface.

    Returns
    -------
    dict
        ``bend_places`` (k, 3) and ``bend`` (k, 2), mean and Gaussian curvature there; ``site_places`` (m, 3),
        ``site_covariance`` (m, m) of the position along the normal, and ``site_errors`` (m, 5), standard errors of the
        normal in radian, of mean and Gaussian curvature and of both principal ones. In the unit of the points; places
        are z, y, x.
    """
    model, samples, kept = surface.model, surface.samples, surface.verdict.keep
    places = samples.points[kept]
    bend = curvature(model.value_gradient(places)[1], model.hessian(places))
    count = int(np.clip(samples.areas[kept].sum() / SITE_AREA, *SITES))
    sites = places[np.sort(spread_out(places, min(count, len(places))))]
    gradient, hessian = model.value_gradient(sites)[1], model.hessian(sites)
    joint, around = _covariances(model, sites)
    size = np.maximum(np.linalg.norm(gradient, axis=1), 1e-12)
    joint = joint / (size[:, None] * size) + _common(surface, gradient / size[:, None])
    errors = curvature_errors(gradient, hessian, around)
    unit = surface.unit
    found = {
        "bend_places": places * unit,
        "bend": np.stack([bend.mean / unit, bend.gaussian / unit**2], 1),
        "site_places": sites * unit,
        "site_covariance": joint * unit**2,
        "site_errors": np.column_stack(
            [errors.normal, errors.mean / unit, errors.gaussian / unit**2, errors.principal / unit]
        ),
    }
    return {name: values.astype(np.float32) for name, values in found.items()}


def _covariances(model: Model, sites: Array) -> tuple[Array, Array]:
    """Return the covariance of the field among sites (m, m), and of its derivatives at each (m, 9, 9)."""
    weights, total = difference_weights(), np.zeros(len(sites))
    joint, around = np.zeros((len(sites), len(sites))), np.zeros((len(sites), len(weights), len(weights)))
    for patch, rows, share, _ in model.shares(sites):
        ready = replace(patch, lower_inverse=patch.triangle())
        root = np.sqrt(share)
        joint[np.ix_(rows, rows)] += root[:, None] * root * ready.joint_covariance(sites[rows])
        around[rows] += share[:, None, None] * ready.covariance(sites[rows], STENCIL, weights)
        total[rows] += share
    root = np.sqrt(total)
    scale = model.scale**2
    return scale * joint / (root[:, None] * root), scale * around / total[:, None, None]


def _common(surface: Surface, normals: Array) -> Array:
    """Return the covariance (m, m) of what the points have wrong in common, whole above and whole below."""
    sd = np.sqrt(surface.systematic.variance(normals))
    upper = normals[:, 0] > 0
    return np.asarray(sd[:, None] * sd * (upper[:, None] == upper))
