"""Segment: a network scores every voxel as background, protein or membrane (paper 4).

==================== ===============================================================================
`models`             the registry: `build_model(name, **options)`
`network`            what the networks have in common; batch norms folded away
`unet`, `twohead`    the networks and their exact receptive fields
`normalise`          intensities in units of the tomogram's noise
`windows`            what to read in order to score a region
`resample`           another voxel size and back, window by window
`forward`            a network on a device: precision, batch, symmetries
`predict`            scores of a region, part by part: chunked equals whole
`card`, `weights`    model files: safetensors and a JSON card, checked
`crops`, `losses`    what a network learns from, and towards what
`train`, `state`     training, and going on with it
`scores`             Dice and IoU
`plan`               units of work: tomogram in, ``scores.ome.zarr`` and ``classes.ome.zarr`` out
==================== ===============================================================================

Arrays in, arrays out::

    model, facts = weights.load_model(card.default_model_path())
    centre, scale = normalise.centre_and_scale(tomogram)
    region = chunks.whole(tomogram.shape)
    ready = forward.for_inference(model)
    scores = predict.predict_slab(ready, tomogram, region, tomogram.shape, centre=centre, scale=scale)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryoscale.segment.models import MODELS, build_model

__all__ = ["MODELS", "build_model"]


def __getattr__(name: str) -> object:
    """Import the networks, and torch with them, when they are first asked for."""
    if name in __all__:
        from cryoscale.segment import models

        return getattr(models, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
