"""Analytic bands, and a plain loop over a stage's plan, for the tests of surface and measure."""

import numpy as np

from cryoscale.band import Band
from cryoscale.io.files import save_npz


def distance_to_sphere(shape, centre, radius):
    points = np.moveaxis(np.indices(shape, dtype=float), 0, -1)
    return np.linalg.norm(points - centre, axis=-1) - radius


def band_of(distance, width=3.5, sd=0.5, support=None, closed=True):
    """The band of a dense distance field."""
    near = np.abs(distance) <= width
    index = np.argwhere(near).astype(np.int32)
    support = np.zeros(distance.shape) if support is None else support
    values = distance[near].astype(np.float32)
    return Band(index, values, np.full(len(index), sd, np.float32), support[near].astype(np.float32), closed)


def save_band(path, band, **sites):
    """Write a band as the fit stage does, with no curvature unless `sites` says."""
    flat = {"bend_places": band.index[:1].astype(np.float32), "bend": np.zeros((len(band.index[:1]), 2), np.float32)}
    save_npz(
        path,
        index=band.index,
        distance=band.distance,
        sd=band.sd,
        support=band.support,
        closed=np.array(band.closed),
        **{**flat, **sites},
    )
