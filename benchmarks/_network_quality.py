"""Tables of what the network alone finds: held-out shapes, the paper's images, a microtubule.

Scores are of the sums of counts over tomograms, not means of ratios. Surplus voxels count at the angle of the nearest
true voxel. "Within 60 degrees of the slice plane" are normals at 30 degrees or more to the beam.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.collection import Collection, run_collection
from cryoscale.engine import LoopExecutor
from cryoscale.evaluate.beam import scores_by_angle
from cryoscale.evaluate.overlap import Counts
from cryoscale.io.mrc import write_mrc
from cryoscale.io.omezarr import read_region
from cryoscale.io.source import open_source
from cryoscale.manifest import entries
from cryoscale.segment.card import CLASSES, default_model_path
from cryoscale.segment.crops import sample_of
from cryoscale.segment.scores import confusion, dice
from cryoscale.segment.train import validate
from cryoscale.segment.weights import load_model
from cryoscale.simulate import CONDITIONS, Phantom, image_phantom, make_phantom
from cryoscale.simulate.slices import Intensities, paper_slices
from cryoscale.spec import RunSpec, SegmentSpec

HELD_OUT_SEED = 95_000
VOXEL_SIZES_ANGSTROM = (8.0, 10.0, 13.0, 16.0, 20.0)
ANGLES_DEGREES = (0.0, 30.0, 60.0, 90.0)
SEEN_FROM_BIN = 1
"""First bin of angles within 60 degrees of the slice plane."""
PAPER_SEED = 7_000_000
PAPER_INTENSITIES = Intensities(0.003, 0.142, -0.428, 0.089)
"""Fitted to the demo's tomogram of seed 20,100 at SNR 0.3, as `train --preset zhou2023 --match` does."""
MICROTUBULE_ANGSTROM = 10.52


def held_out(
    folder: Path, count: int, snrs: Sequence[float], shape: tuple[int, int, int], model: str
) -> Iterator[dict[str, Any]]:
    """Simulate, segment and score tomograms of the held-out preset."""
    for number in range(count):
        seed = HELD_OUT_SEED + number
        voxel = VOXEL_SIZES_ANGSTROM[number % len(VOXEL_SIZES_ANGSTROM)]
        phantom = make_phantom(shape, seed=seed, voxel_size_angstrom=voxel, preset="heldout")
        imaging = CONDITIONS["heldout"].drawn(np.random.default_rng([seed, 1])) | {"voxel_size_angstrom": voxel}
        for snr in snrs:
            tomogram = image_phantom(phantom.density, seed=seed, **imaging | {"snr": snr})
            path = folder / f"heldout-{seed}-snr{snr:g}.mrc"
            write_mrc(path, tomogram, voxel)
            found = segmented(path, RunSpec(segment=SegmentSpec(model=model)), "segment", "classes")
            yield {"seed": seed, "snr": snr, "voxel_size_angstrom": voxel, **_scores(found, phantom)}


def segmented(path: Path, spec: RunSpec, until: str, product: str) -> NDArray[np.generic]:
    """Run a tomogram up to a stage and return one of its volumes."""
    output = path.with_suffix(".out")
    result = run_collection(Collection(entries([str(path)]), output, spec, until=until), LoopExecutor())
    for failed in result.failures:
        raise failed.error or RuntimeError
    found: NDArray[np.generic] = read_region(output / path.stem / f"{product}.ome.zarr")
    return found


def _scores(found: NDArray[np.generic], phantom: Phantom) -> dict[str, Any]:
    membrane = found == 2
    bins = scores_by_angle(membrane, phantom.instances, phantom.beam_angle, ANGLES_DEGREES)
    kinds: dict[str, list[int]] = {}
    seen = np.nan_to_num(phantom.beam_angle) >= ANGLES_DEGREES[SEEN_FROM_BIN]
    for body in phantom.membranes:
        own = (phantom.instances == body.id) & seen
        counts = kinds.setdefault(body.kind, [0, 0])
        counts[0] += int(membrane[own].sum())
        counts[1] += int(own.sum())
    return {
        "confusion": confusion(found.astype(np.uint8), phantom.classes).tolist(),
        "by_angle": [dataclasses.asdict(part.counts) for part in bins],
        "found_of_kind": kinds,
    }


def held_out_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the sums of rows by SNR, and by SNR and voxel size, as text."""
    lines = ["held out        seen   | by angle 0-30 30-60 60-90 | " + " ".join(f"{name:>10}" for name in CLASSES)]
    for snr in sorted({row["snr"] for row in rows}, reverse=True):
        at = [row for row in rows if row["snr"] == snr]
        lines.append(_line(f"SNR {snr:g}", at))
        for voxel in sorted({row["voxel_size_angstrom"] for row in at}):
            lines.append(_line(f"  {voxel:g} Å", [row for row in at if row["voxel_size_angstrom"] == voxel]))
        kinds = sorted({kind for row in at for kind in row["found_of_kind"]})
        sums = {kind: np.sum([row["found_of_kind"].get(kind, [0, 0]) for row in at], axis=0) for kind in kinds}
        shares = ", ".join(f"{kind} {found / max(all_, 1):.3f}" for kind, (found, all_) in sums.items())
        lines.append(f"  recall where seen: {shares}")
    return "\n".join(lines)


def seen_dice(rows: Sequence[dict[str, Any]]) -> float:
    """Dice of the membrane where its normal is within 60 degrees of the slice plane."""
    return sum((Counts(**part) for row in rows for part in row["by_angle"][SEEN_FROM_BIN:]), Counts()).dice


def _line(label: str, rows: Sequence[dict[str, Any]]) -> str:
    angles = [
        sum((Counts(**row["by_angle"][k]) for row in rows), Counts()).dice for k in range(len(ANGLES_DEGREES) - 1)
    ]
    classes = dice(np.sum([row["confusion"] for row in rows], axis=0))
    shown = " ".join(f"{value:6.3f}" for value in angles)
    return f"{label:<14} {seen_dice(rows):6.3f} | {shown:>25} | " + " ".join(f"{value:10.3f}" for value in classes)


def paper_rows(count: int, models: Sequence[str]) -> list[dict[str, Any]]:
    """Score networks on images of the paper's preset; one that wants neighbours is shown the same image as often."""
    rows = []
    for name in models:
        model, card = load_model(name or default_model_path())
        given = card.get("intensities")
        fitted = Intensities(**given) if given else PAPER_INTENSITIES
        images, classes = paper_slices(PAPER_SEED, 0, count, fitted)
        near = model.slices_in
        stack = sample_of(np.repeat(images, near, axis=0), np.repeat(classes, near, axis=0))
        scores = validate(model, [stack.only(range(near // 2, near * count, near))])
        wanted = ("pixel_accuracy", *(f"iou_{name}" for name in CLASSES))
        rows.append(
            {
                "model": card["name"],
                # Names alone: where files lay on some machine is nobody's business.
                "command": " ".join(Path(word).name for word in str(card["command"]).split()),
                "steps": card["scores"]["step"],
                "images": count,
                "intensities": dataclasses.asdict(fitted),
            }
            | {key: round(scores[key], 4) for key in wanted}
        )
    return rows


def microtubule(path: Path, folder: Path, model: str) -> dict[str, float]:
    """Share of voxels called membrane in a real crop that has none: by the network, and after all stages.

    In the file dense matter is bright, so the grey values are turned round.
    """
    source = open_source(path)
    copy = folder / f"{path.stem}.mrc"
    write_mrc(copy, 255.0 - source.read((0, 0, 0), source.shape).astype(np.float32), MICROTUBULE_ANGSTROM)
    raw = segmented(copy, RunSpec(segment=SegmentSpec(model=model)), "measure", "classes")
    final = read_region(copy.with_suffix(".out") / path.stem / "membranes.ome.zarr")
    return {"raw": float((raw == 2).mean()), "final": float((final > 0).mean())}
