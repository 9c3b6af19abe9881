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
`weights`            model files: safetensors and a JSON card, checked
`crops`, `losses`    what a network learns from, and towards what
`train`, `state`     training, and going on with it
`scores`             Dice and IoU
`plan`               units of work: tomogram in, ``scores.ome.zarr`` and ``classes.ome.zarr`` out
==================== ===============================================================================

Arrays in, arrays out::

    model, card = weights.load_model(weights.default_model_path())
    centre, scale = normalise.centre_and_scale(tomogram)
    region = chunks.whole(tomogram.shape)
    ready = forward.for_inference(model)
    scores = predict.predict_slab(ready, tomogram, region, tomogram.shape, centre=centre, scale=scale)
"""

from cryoscale.segment.models import MODELS, build_model

__all__ = ["MODELS", "build_model"]
