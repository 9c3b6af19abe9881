"""Simulated tomograms with known truth: phantoms, the microscope that sees them, and training data."""

from cryoscale.simulate.microscope import image_phantom
from cryoscale.simulate.phantom import MEMBRANE_THICKNESS_NM, Membrane, Phantom, make_phantom
from cryoscale.simulate.training import training_volume

__all__ = ["MEMBRANE_THICKNESS_NM", "Membrane", "Phantom", "image_phantom", "make_phantom", "training_volume"]
