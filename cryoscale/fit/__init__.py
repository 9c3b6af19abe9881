"""Fit: a Gaussian-process implicit surface per membrane, with its uncertainty."""

from cryoscale.fit.curve import Curve, fit_curve
from cryoscale.fit.ellipse import Ellipse, fit_ellipse
from cryoscale.fit.ellipses import fit_ellipses_by_slice
from cryoscale.fit.fitting import fit_surface, fit_surfaces, projected_bytes
from cryoscale.fit.ridge import ridge_points
from cryoscale.fit.surface import Surface

__all__ = [
    "Curve",
    "Ellipse",
    "Surface",
    "fit_curve",
    "fit_ellipse",
    "fit_ellipses_by_slice",
    "fit_surface",
    "fit_surfaces",
    "projected_bytes",
    "ridge_points",
]
