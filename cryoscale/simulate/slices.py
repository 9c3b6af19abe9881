r"""The paper's own training images: ellipses, circles and discs in noise (paper 4).

A membrane is the ring :math:`|f| / |\nabla f| \le t / 2` of an ellipse :math:`f = |S^{-1} R^T (p - c)| - 1`; a protein
is a solid disc that touches one from outside or inside. Each pixel is drawn from its class's Gaussian; those of
background and membrane are fitted to the histogram of the tomogram at hand, by the marks where there are any, else as a
mixture of two Gaussians whose darker one is the membrane (expectation maximisation, Dempster et al. 1977). A protein is
as dense as a membrane: only its form tells them apart. The paper has no numbers for sizes; those here are this file's.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

PROTEIN, MEMBRANE = 1, 2
#: Edge of an image in pixels.
SIZE = 256
_BINS = 1000
_GOLD = 1e-3
_ROUNDS = 500


@dataclass(frozen=True)
class Intensities:
    """Means and standard deviations of the two Gaussians."""

    background_mean: float
    background_sd: float
    membrane_mean: float
    membrane_sd: float


def fit_intensities(values: npt.ArrayLike, marked: npt.ArrayLike | None = None) -> Intensities:
    """Fit the Gaussians of background and membrane to grey values.

    Parameters
    ----------
    values : array_like
        Voxels of the tomogram, dense matter dark. Without marks the outermost thousandths (gold) are left out.
    marked : array_like of bool
        Which of them are membrane, if that is known.

    Raises
    ------
    ValueError
        If the values, or those without marks, do not differ, or nothing, or everything, is marked.
    """
    grey = np.asarray(values, np.float64).ravel()
    if marked is not None:
        own = np.asarray(marked, bool).ravel()
        if own.shape != grey.shape or own.all() or not own.any():
            msg = f"marks must be as many as the {len(grey)} values, some true and some false; {own.sum()} are true"
            raise ValueError(msg)
        if not grey[~own].std() > 0:
            msg = "the values of the background do not differ"
            raise ValueError(msg)
        return Intensities(*(float(part) for side in (grey[~own], grey[own]) for part in (side.mean(), side.std())))
    low, high = np.quantile(grey, [_GOLD, 1.0 - _GOLD])
    if not high > low:
        msg = "the values do not differ"
        raise ValueError(msg)
    counts, edges = np.histogram(grey, _BINS, (low, high))
    grey = 0.5 * (edges[:-1] + edges[1:])
    middle = np.average(grey, weights=counts)
    spread = np.sqrt(np.average((grey - middle) ** 2, weights=counts))
    weight, mean, sd = np.array([0.9, 0.1]), np.array([middle, middle - 2.0 * spread]), np.array([spread, 0.5 * spread])
    for _ in range(_ROUNDS):
        density = weight / sd * np.exp(-0.5 * ((grey[:, None] - mean) / sd) ** 2)
        share = density / np.maximum(density.sum(axis=1, keepdims=True), 1e-300) * counts[:, None]
        total = share.sum(axis=0) + 1e-9
        weight, mean = total / total.sum(), (share * grey[:, None]).sum(axis=0) / total
        # Neither Gaussian may shrink onto a single value.
        sd = np.maximum(np.sqrt((share * (grey[:, None] - mean) ** 2).sum(axis=0) / total), 0.02 * spread)
    dark = int(mean.argmin())
    return Intensities(float(mean[1 - dark]), float(sd[1 - dark]), float(mean[dark]), float(sd[dark]))


def paper_slice(
    seed: int, index: int, intensities: Intensities, size: int = SIZE
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Draw image number ``index`` of a seed, with its classes; both (size, size)."""
    rng = np.random.default_rng([seed, index])
    classes = np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(2, 8))):
        _draw_ring(rng, classes)
    image = rng.standard_normal((size, size))
    mean = np.array([intensities.background_mean, intensities.membrane_mean, intensities.membrane_mean])
    sd = np.array([intensities.background_sd, intensities.membrane_sd, intensities.membrane_sd])
    return (mean[classes] + sd[classes] * image).astype(np.float32), classes


def paper_slices(
    seed: int, first: int, count: int, intensities: Intensities, size: int = SIZE
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.uint8]]:
    """Draw images ``first`` up to ``first + count`` of a seed in units of the background's noise, and their classes."""
    images, classes = np.empty((count, size, size), np.float16), np.empty((count, size, size), np.uint8)
    for n in range(count):
        image, classes[n] = paper_slice(seed, first + n, intensities, size)
        images[n] = (image - intensities.background_mean) / intensities.background_sd
    return images, classes


def _draw_ring(rng: np.random.Generator, classes: npt.NDArray[np.uint8]) -> None:
    """Draw an ellipse, every second time a circle, with up to four discs on it; earlier ones stay as they are."""
    size = len(classes)
    semi = size * rng.uniform(0.07, 0.3) * np.array([1.0, rng.uniform(0.5, 1.0) if rng.random() < 0.5 else 1.0])
    centre, turn = rng.uniform(0.0, size, 2), rng.uniform(0.0, np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    half = 0.5 * rng.uniform(3.0, 7.0)
    ring = np.abs(ring_distance(size, centre, semi, rotation)) <= half
    y, x = np.ogrid[:size, :size]
    for _ in range(int(rng.integers(0, 5))):
        angle, radius, side = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(3.0, 7.0), rng.choice([-1.0, 1.0])
        foot = np.array([np.cos(angle), np.sin(angle)])
        normal = foot / semi
        place = centre + rotation @ (foot * semi + side * (half + radius) * normal / np.linalg.norm(normal))
        disc = np.hypot(y - place[0], x - place[1]) <= radius
        classes[disc & (classes == 0) & ~ring] = PROTEIN
    classes[ring & (classes == 0)] = MEMBRANE


def ring_distance(size: int, centre: Doubles, semi_axes: Doubles, rotation: Doubles) -> Doubles:
    """First-order distance (size, size) of each pixel to an ellipse, negative inside."""
    local = (np.moveaxis(np.indices((size, size)), 0, -1) - centre) @ rotation
    q = np.maximum(np.linalg.norm(local / semi_axes, axis=-1), 1e-6)
    slope = np.linalg.norm(local / semi_axes**2, axis=-1) / q
    distance: Doubles = (q - 1.0) / np.maximum(slope, 1.0 / semi_axes.max())
    return distance
