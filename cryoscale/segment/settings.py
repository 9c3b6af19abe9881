"""What a training depends on besides its slices; the settings of each network's own publication."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["TrainSettings", "settings_for"]


@dataclass(frozen=True)
class TrainSettings:
    """What a training depends on besides its slices."""

    model: str = "unet25d"
    """Name in the registry."""
    options: Mapping[str, int] = field(default_factory=dict)
    """Options of the network."""
    crop_voxels: int = 160
    """Edge of a training crop, a multiple of what the network asks for."""
    crop_slices: int = 0
    """Slices of a box to train on, for networks of boxes; 0 where slices are scored one by one."""
    batch: int = 8
    """Crops per step."""
    learning_rate: float = 1e-3
    """Adam's, at its highest."""
    warmup_steps: int = 50
    """Steps over which the learning rate rises."""
    anneal: bool = True
    """Let the learning rate fall to 0 at the end."""
    turns_only: bool = False
    """Only flip and turn crops; else also warp and shade them."""
    dice_weight: float = 0.5
    """Weight of the soft Dice of protein and of membrane beside cross-entropy."""
    mixed: bool = True
    """Run the network in bfloat16 while training, where the device multiplies it (`losses.multiplies_bfloat16`)."""
    validate_every: int = 200
    """Steps between validations; a checkpoint follows each, and each minute."""
    validation_slices: int = 8
    """Slices of each validation volume that are scored, evenly spaced."""
    patience: int = 0
    """Validations without a lower loss after which the training ends; 0 goes on to the end."""
    seed: int = 0
    """Decides weights and crops."""
    data: str = ""
    """What the slices are, so that a checkpoint made with others is refused."""


def settings_for(model: str, **changed: Any) -> TrainSettings:
    """Return the settings of a network's own publication: paper 4, or for two heads Adam 1e-4 and crops of 256.

    A box for `unet3d` holds about as many voxels as the crops of a step on slices.
    """
    own: dict[str, Any] = {}
    if model == "unet3d":
        own = {"crop_voxels": 96, "crop_slices": 32, "batch": 1}
    if model == "twohead":
        own = {"crop_voxels": 256, "batch": 1, "learning_rate": 1e-4, "warmup_steps": 0, "anneal": False}
        own |= {"turns_only": True, "patience": 20}
    return TrainSettings(model=model, **{**own, **changed})
