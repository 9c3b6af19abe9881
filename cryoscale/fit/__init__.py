"""Fit: a Gaussian-process implicit surface per membrane, with its uncertainty."""

from cryoscale.fit.fitting import fit_surface, fit_surfaces, projected_bytes
from cryoscale.fit.ridge import ridge_points
from cryoscale.fit.surface import Surface

__all__ = ["Surface", "fit_surface", "fit_surfaces", "projected_bytes", "ridge_points"]
