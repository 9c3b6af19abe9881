"""A page of simulated slices: what the microscope saw, the truth, what the network found."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from cryoscale.chunks import Region
from cryoscale.io.source import open_source
from cryoscale.segment.card import default_model_path
from cryoscale.segment.forward import for_inference
from cryoscale.segment.normalise import centre_and_scale, sampled_slices
from cryoscale.segment.predict import predict_slab, source_region
from cryoscale.segment.scores import classes_of
from cryoscale.segment.weights import load_model
from cryoscale.segment.windows import window_of
from cryoscale.simulate import CONDITIONS, drawn_shapes, image_phantom, make_phantom
from cryoscale.simulate.labels import Drawn

mpl.use("Agg")
from matplotlib import pyplot as plt

LABELS = Path(__file__).resolve().parents[2] / "shared/data/labels/vesicles.mrc.gz"
SHAPE = (64, 200, 200)
VOXEL_ANGSTROM = 12.0
PANELS = (("shrec2021", 90_001, 0.3), ("cell", 90_001, 0.3), ("cell", 90_005, 0.1), ("heldout", 95_000, 0.3))
LAST = ("heldout", 95_000, 0.1)


def draw_page(path: Path, model: str = "") -> None:
    """Draw the page; with the real label volume among the panels where it is there."""
    panels = [*PANELS, LAST, *([("real", 90_007, 0.3)] if LABELS.exists() else [])]
    figure, axes = plt.subplots(3, len(panels), figsize=(2.6 * len(panels), 8.2))
    network = for_inference(load_model(model or default_model_path())[0])
    for column, (preset, seed, snr) in zip(axes.T, panels, strict=True):
        shapes = _vesicles() if preset == "real" else ()
        phantom = make_phantom(SHAPE, seed=seed, voxel_size_angstrom=VOXEL_ANGSTROM, preset=preset, shapes=shapes)
        imaging = CONDITIONS[preset].drawn(np.random.default_rng([seed, 1]))
        imaging |= {"snr": snr, "voxel_size_angstrom": VOXEL_ANGSTROM}
        tomogram = image_phantom(phantom.density, seed=seed, **imaging)
        # The slice with most membrane that is seen.
        z = int((np.nan_to_num(phantom.beam_angle) >= 30).sum(axis=(1, 2))[8:-8].argmax()) + 8
        centre, scale = centre_and_scale(tomogram[sampled_slices(len(tomogram))])
        region = Region((z, 0, 0), (z + 1, *SHAPE[1:]))
        block = tomogram[source_region(region, SHAPE, window_of(network)).slices]
        found = classes_of(predict_slab(network, block, region, SHAPE, centre=centre, scale=scale), network.threshold)
        low, high = np.quantile(tomogram[z], [0.005, 0.995])
        column[0].imshow(tomogram[z], cmap="gray", vmin=low, vmax=high)
        column[0].set_title(f"{preset}, SNR {snr:g}", fontsize=11)
        for axis, classes in ((column[1], phantom.classes[z]), (column[2], found[0])):
            axis.imshow(_coloured(classes))
    for axis, name in zip(axes[:, 0], ("tomogram", "truth", "network"), strict=True):
        axis.set_ylabel(name, fontsize=11)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.tight_layout()
    figure.savefig(path, dpi=75)
    plt.close(figure)


def _coloured(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """White background, orange proteins, blue membranes."""
    return np.array([[255, 255, 255], [230, 120, 20], [30, 80, 160]], np.uint8)[classes]


def _vesicles() -> list[Drawn]:
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "vesicles.mrc"
        plain.write_bytes(gzip.decompress(LABELS.read_bytes()))
        source = open_source(plain)
        assert source.voxel_size_angstrom
        labels = source.read((0, 0, 0), source.shape)
    return drawn_shapes(labels, scale=source.voxel_size_angstrom[0] / VOXEL_ANGSTROM, values=(1,))
