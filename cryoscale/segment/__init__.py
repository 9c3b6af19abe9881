"""Segment: a 2-D U-Net scores every voxel as background, protein or membrane (paper 4).

==================== ===============================================================================
`unet`               the network, its exact receptive field, batch norms folded away
`normalise`          intensities in units of the tomogram's noise
`windows`            the network over a region: chunked equals whole
`weights`            model files: safetensors and a JSON card, checked
`crops`, `train`     training on simulated tomograms
`scores`             Dice and IoU
`plan`               units of work: tomogram in, ``scores.ome.zarr`` and ``classes.ome.zarr`` out
==================== ===============================================================================

Arrays in, arrays out::

    model, card = weights.load_model(weights.default_model_path())
    centre, scale = normalise.centre_and_scale(tomogram)
    region = chunks.whole(tomogram.shape)
    scores = windows.predict_slab(unet.fold(model), tomogram, region, tomogram.shape, centre=centre, scale=scale)
"""
