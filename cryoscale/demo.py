"""The simulated tomogram: written for people to use, or run through everything and scored."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from pathlib import Path

import numpy as np

from cryoscale.collection import Collection, Result, run_collection
from cryoscale.compiling import compiling_beside
from cryoscale.engine import Executor, Observer
from cryoscale.errors import UsageError
from cryoscale.io.files import write_text
from cryoscale.io.meshes import PlyMesh, write_ply
from cryoscale.io.mrc import write_mrc
from cryoscale.io.tables import write_csv
from cryoscale.manifest import entries
from cryoscale.reporting import write_run_report
from cryoscale.runrecord import reseal
from cryoscale.scoring import Scores, score_run, scores_text
from cryoscale.simulate import MEMBRANE_THICKNESS_NM, Phantom, image_phantom, make_phantom
from cryoscale.simulating import check_fits, check_labels, imaging_of, read_shapes
from cryoscale.spec import RunSpec
from cryoscale.summary import print_summary

__all__ = ["run_demo", "write_simulation"]


def write_simulation(
    output: Path,
    *,
    seed: int,
    snr: float | None = None,
    shape: tuple[int, int, int] = (200, 400, 400),
    apix: float | None = None,
    preset: str = "demo",
    labels: str = "",
    values: tuple[int, ...] = (),
    labels_apix: float | None = None,
    **asked: float | bool | None,
) -> Path:
    """Simulate a tomogram and write it with its truth beside it.

    Parameters
    ----------
    output
        Folder: ``simulated_<seed>.mrc``, and in ``truth/`` the classes, instances and beam angles as MRC, the
        mid-surfaces with normals as PLY (ångström), the proteins' centres as CSV, and as JSON what each membrane is and
        how it was imaged.
    seed
        Decides content and noise.
    snr
        Variance of signal over variance of noise in the reconstruction; the preset's where it is None, as `apix`.
    shape, apix
        Voxels z, y, x, and ångström per voxel.
    preset
        Scene and conditions (`simulate.family`).
    labels, values, labels_apix
        Label volume to take real shapes from, its values that are membranes (all but 0), and its voxel size where the
        header does not state it, for the preset "real".
    **asked
        Conditions to fix, by their names in `image_phantom`.

    Returns
    -------
    Path of the tomogram.

    Raises
    ------
    UsageError
        A value that cannot be simulated, options that do not go together, or more voxels than there is memory for.
    """
    check_labels(preset, labels, values, labels_apix)
    try:
        imaging = imaging_of(preset, seed, {"snr": snr, "voxel_size_angstrom": apix, **asked})
        check_fits(shape, imaging)
        apix = float(imaging["voxel_size_angstrom"])
        shapes = read_shapes(labels, values, labels_apix, apix) if labels else ()
        phantom = make_phantom(shape, seed=seed, voxel_size_angstrom=apix, preset=preset, shapes=shapes)
        tomogram = image_phantom(phantom.density, seed=seed, **imaging)
    except ValueError as error:
        raise UsageError("cannot simulate this", where="simulate", found=error) from error
    path = output / f"simulated_{seed}.mrc"
    write_mrc(path, tomogram, (apix, apix, apix))
    _write_truth(output / "truth" / path.stem, phantom)
    facts = {
        "seed": seed,
        "preset": preset,
        "imaging": imaging | {"snr": repr(imaging["snr"])} if np.isinf(imaging["snr"]) else imaging,
        "snr": imaging["snr"] if np.isfinite(imaging["snr"]) else None,
        "shape": list(shape),
        "voxel_size_angstrom": apix,
        "membrane_thickness_nm": MEMBRANE_THICKNESS_NM,
        "membranes": [dataclasses.asdict(membrane) for membrane in phantom.membranes],
    }
    write_text(output / "truth" / f"{path.stem}.json", json.dumps(facts, indent=1))
    return path


def _write_truth(stem: Path, phantom: Phantom) -> None:
    """Write what is known of a simulated tomogram to files whose names begin with `stem`."""
    apix = phantom.voxel_size_angstrom
    angles = np.nan_to_num(phantom.beam_angle, nan=-1.0).astype(np.float16)
    for name, volume in (
        ("classes", phantom.classes.view(np.int8)),
        ("instances", phantom.instances),
        ("beam_angle", angles),
    ):
        write_mrc(stem.with_name(f"{stem.name}__{name}.mrc"), volume, (apix, apix, apix))
    write_csv(
        stem.with_name(f"{stem.name}__proteins.csv"),
        ("z_voxels", "y_voxels", "x_voxels"),
        [tuple(float(v) for v in centre) for centre in phantom.proteins],
    )
    middle = phantom.midsurface
    write_ply(
        stem.with_name(f"{stem.name}__midsurface.ply"),
        PlyMesh(middle.points * apix, np.empty((0, 3), np.int32), middle.normals, {"membrane": middle.membrane}),
    )


def run_demo(
    output: Path,
    executor: Executor,
    observer: Observer | None = None,
    *,
    seed: int,
    snr: float,
    shape: tuple[int, int, int],
) -> int:
    """Simulate one tomogram, run every stage, score the result against the truth; return the exit code."""
    started = time.monotonic()
    inputs = output / "input"
    tomogram = inputs / f"simulated_{seed}.mrc"
    with contextlib.ExitStack() as beside:
        if not _is_there(inputs, seed, snr, shape):
            print(f"simulating {tomogram} ...", file=sys.stderr)  # noqa: T201
            # The simulation uses one core, and what is compiled meanwhile the workers need not compile each.
            beside.enter_context(compiling_beside())
            write_simulation(inputs, seed=seed, snr=snr, shape=shape)
        spec = RunSpec()
        collection = Collection(
            entries([str(tomogram)]), output, spec, command=f"cryoscale demo --seed {seed} --snr {snr:g}"
        )
        result = run_collection(collection, executor, observer)
    if result.failures:
        print_summary(result)
        return result.exit_code
    scores = {entry.id: score_run(output / entry.id, inputs / "truth" / entry.id) for entry in collection.entries}
    _show(collection, result, scores)
    print(f"simulated, run and scored in {time.monotonic() - started:.0f} s")  # noqa: T201
    return 0


def _is_there(inputs: Path, seed: int, snr: float, shape: tuple[int, int, int]) -> bool:
    """Whether the same simulation was written before: the demo then goes on where it was."""
    try:
        facts = json.loads((inputs / "truth" / f"simulated_{seed}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    path = inputs / f"simulated_{seed}.mrc"
    same = facts.get("snr") == snr and facts.get("shape") == list(shape)
    return same and path.is_file() and path.stat().st_size == 1024 + 4 * int(np.prod(shape))


def _show(collection: Collection, result: Result, scores: dict[str, Scores]) -> None:
    write_text(collection.output / "scores.json", json.dumps(scores, indent=1))
    result.report = write_run_report(collection.output)
    reseal(collection.output)
    for name, values in scores.items():
        print(f"{name} against the truth:\n{scores_text(values)}")  # noqa: T201
    print_summary(result)
