"""Simulated tomograms with known truth: phantoms, the microscope that sees them, and training data."""

from cryoscale.simulate.conditions import TRAINING, Conditions
from cryoscale.simulate.family import CONDITIONS, SCENES
from cryoscale.simulate.labels import Drawn, drawn_shapes
from cryoscale.simulate.microscope import LEAST_SNR, image_phantom, projected_bytes
from cryoscale.simulate.phantom import MEMBRANE_THICKNESS_NM, Membrane, Phantom, make_phantom
from cryoscale.simulate.training import training_conditions, training_volume, training_voxel_size

__all__ = [
    "CONDITIONS",
    "LEAST_SNR",
    "MEMBRANE_THICKNESS_NM",
    "SCENES",
    "TRAINING",
    "Conditions",
    "Drawn",
    "Membrane",
    "Phantom",
    "drawn_shapes",
    "image_phantom",
    "make_phantom",
    "projected_bytes",
    "training_conditions",
    "training_volume",
    "training_voxel_size",
]
