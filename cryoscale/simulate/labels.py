r"""Membranes of a label volume as shapes: where somebody drew a real one, a simulated one goes.

Around each labelled voxel p the labelled voxels, weighted by a Gaussian G, have a centroid c and a covariance C,

.. math:: m_0 = G * 1, \quad c = G * x / m_0, \quad C = G * x x^T / m_0 - c c^T,

and the eigenvector n of C's smallest eigenvalue is the membrane's normal (Hoppe et al., SIGGRAPH 1992). Steps
:math:`p \leftarrow p + n n \cdot (c - p)` lead to the mid-surface; a point's distance is that to the plane through its
nearest foot. It comes to lie inwards by the Gaussian's variance times the mean curvature, 0.1 voxel at a radius of 22.
Where the labels enclose a volume, normals point out of it. Holes and open edges stay as they were drawn.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.ndimage import (
    binary_fill_holes,
    distance_transform_edt,
    find_objects,
    gaussian_filter,
    label,
    map_coordinates,
)
from scipy.spatial import cKDTree

from cryoscale.simulate.shapes import SAMPLES

Doubles = npt.NDArray[np.float64]

#: Standard deviation of the Gaussian at least, in voxels of the labels.
SMOOTHING_VOXELS = 1.5
#: And in thicknesses of the label: seen from its edge, a sheet must still be wider than thick.
SMOOTHING_THICKNESSES = 0.5
#: Labelled pieces smaller than this are left out.
LEAST_VOXELS = 100
_PAD = 6
_STEPS = 3
"""Each leaves about a quarter of the way."""


@dataclass(frozen=True)
class Drawn:
    """A mid-surface known by its points and normals."""

    points: Doubles
    """(n, 3), no more than `spacing` apart."""
    normals: Doubles
    spacing: float
    closed: bool
    kind: str = "real"

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.points)

    def distance(self, points: Doubles) -> tuple[Doubles, Doubles]:
        """See :class:`Shape`."""
        away, nearest = self._tree.query(points)
        normal = self.normals[nearest]
        along = ((points - self.points[nearest]) * normal).sum(axis=1)
        # Beyond the last point there is an edge, and the distance is that to it.
        sideways = np.maximum(np.sqrt(np.maximum(away**2 - along**2, 0.0)) - self.spacing, 0.0)
        distance: Doubles = np.copysign(np.hypot(along, sideways), along)
        return distance, normal

    @cached_property
    def samples(self) -> Doubles:
        """See :class:`Shape`."""
        every = np.linspace(0, len(self.points) - 1, min(SAMPLES, len(self.points))).astype(np.intp)
        chosen: Doubles = self.points[every]
        return chosen

    def inset(self, gap: float) -> "Drawn":
        """See :class:`Shape`."""
        return replace(self, points=self.points - gap * self.normals)

    def posed(self, pivot: Doubles, rotation: Doubles, scale: float, place: Doubles) -> "Drawn":
        """Turn it about a point (3,) by a matrix (3, 3), enlarge it, and bring that point to a place (3,)."""
        points = (self.points - pivot) @ rotation.T * scale + place
        return replace(self, points=points, normals=self.normals @ rotation.T, spacing=self.spacing * scale)

    def within(self, shape: tuple[int, int, int], margin: float) -> "Drawn":
        """Leave out the points that are farther than a margin outside a volume (z, y, x)."""
        near = ((self.points >= -margin) & (self.points <= np.array(shape) - 1 + margin)).all(axis=1)
        return replace(self, points=self.points[near], normals=self.normals[near])


def drawn_shapes(
    labels: npt.NDArray[np.integer], *, scale: float, values: tuple[int, ...] = (), apart: bool = True
) -> list[Drawn]:
    """Shapes of the membranes in a label volume, largest first.

    Parameters
    ----------
    labels : ndarray (z, y, x)
        Membranes, 0 elsewhere.
    scale : float
        Voxels of the scene per voxel of the labels.
    values
        Labels that are membranes; all but 0 where there are none.
    apart
        Each 26-connected piece of a value is a membrane; else each value is one.

    Returns
    -------
    list of Drawn
        With coordinates in voxels of a scene whose first voxel's centre is that of the labels.

    Raises
    ------
    ValueError
        If nothing is labelled, or not in three dimensions.
    """
    if labels.ndim != 3 or not scale > 0:
        msg = f"labels must be a volume and the scale above 0, got {labels.ndim} axes and {scale}"
        raise ValueError(msg)
    found: list[tuple[int, Drawn]] = []
    for value in values or tuple(int(v) for v in np.unique(labels) if v):
        own = labels == value
        numbered, _ = label(own, np.ones((3, 3, 3))) if apart else (own.astype(np.int32), 1)
        for number, box in enumerate(find_objects(numbered), 1):
            piece = numbered[box] == number if box else np.zeros((1, 1, 1), bool)
            if box and piece.sum() >= LEAST_VOXELS:
                corner = np.array([part.start for part in box], float)
                found.append((int(piece.sum()), _drawn(piece, corner, scale)))
    if not found:
        msg = f"no membrane of {LEAST_VOXELS} voxels or more among the labels {values or '(any but 0)'}"
        raise ValueError(msg)
    return [shape for _, shape in sorted(found, key=lambda pair: -pair[0])]


def _drawn(mask: npt.NDArray[np.bool_], corner: Doubles, scale: float) -> Drawn:
    padded = np.pad(mask, _PAD)
    voxels = np.argwhere(padded)
    thickness = 2.0 * float(np.quantile(distance_transform_edt(padded)[padded], 0.95)) - 1.0
    sd = max(SMOOTHING_VOXELS, SMOOTHING_THICKNESSES * thickness)
    feet: Doubles = voxels.astype(np.float64)
    for _ in range(_STEPS):
        centroid, normal = _planes(padded, feet, sd)
        feet = feet + ((centroid - feet) * normal).sum(axis=1, keepdims=True) * normal
    filled = binary_fill_holes(padded)
    hollow = filled & ~padded
    closed = int(hollow.sum()) > LEAST_VOXELS
    if closed:
        smooth = gaussian_filter(filled.astype(np.float32), 2.0 * sd)
        outward = -np.stack(np.gradient(smooth), axis=-1)[tuple(voxels.T)]
        normal *= np.where((outward * normal).sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    return Drawn((feet - _PAD + corner) * scale, normal, scale, closed)


def _planes(mask: npt.NDArray[np.bool_], places: Doubles, sd: float) -> tuple[Doubles, Doubles]:
    """Centroid and normal of the labelled voxels around each place."""
    weight = mask.astype(np.float32)
    # About the middle of the box, so that squares of coordinates lose nothing in single precision.
    axes = [np.arange(n, dtype=np.float32) - np.float32(0.5 * n) for n in mask.shape]
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)

    def moment(values: npt.NDArray[np.float32]) -> Doubles:
        smooth = gaussian_filter(values, sd, mode="constant")
        found: Doubles = map_coordinates(smooth, places.T, np.float64, order=1)
        return found

    total = moment(weight)
    mean = np.stack([moment(weight * axis) for axis in grid], axis=1) / total[:, None]
    spread = np.empty((len(places), 3, 3))
    for i in range(3):
        for j in range(i, 3):
            second = moment(weight * grid[i] * grid[j]) / total - mean[:, i] * mean[:, j]
            spread[:, i, j] = spread[:, j, i] = second
    normal = np.linalg.eigh(spread)[1][:, :, 0]
    return mean + 0.5 * np.array(mask.shape), normal
