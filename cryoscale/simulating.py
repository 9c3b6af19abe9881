"""What `simulate` is asked for: refused by its option, before anything is drawn, where it cannot be simulated."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryoscale.errors import UsageError
from cryoscale.io.source import open_source
from cryoscale.io.voxelsize import LARGEST_ANGSTROM, SMALLEST_ANGSTROM
from cryoscale.manifest import entries
from cryoscale.memory import machine_bytes, size
from cryoscale.simulate import CONDITIONS, LEAST_SNR, Drawn, drawn_shapes, projected_bytes

__all__ = ["LabelVolumes", "check_fits", "check_labels", "imaging_of", "read_shapes"]

_ABOVE_0 = math.nextafter(0.0, 1.0)
_LIMITS: dict[str, tuple[str, str, float, float, str]] = {
    "snr": ("--snr", "a signal-to-noise ratio", LEAST_SNR, math.inf, f"{LEAST_SNR:g} or more; inf for no noise"),
    "tilt_range_degrees": (
        "--tilt-range", "a range of tilts", _ABOVE_0, math.nextafter(90.0, 0.0), "above 0 and below 90 degrees",
    ),
    "defocus_um": ("--defocus", "a defocus", -20.0, 20.0, "-20 to 20 um, underfocus above 0"),
    "voltage_kv": ("--voltage", "a voltage", 50.0, 1000.0, "50 to 1000 kV"),
    "cs_mm": ("--cs", "a spherical aberration", 0.0, 10.0, "0 to 10 mm"),
    "amplitude_contrast": ("--amplitude-contrast", "an amplitude contrast", 0.01, 1.0, "0.01 to 1"),
    "dose_per_angstrom2": ("--dose", "a dose", 1.0, 1000.0, "1 to 1000 electrons per square ångström, of all tilts"),
    "shift_sd_nm": ("--shifts", "an error of alignment", 0.0, 50.0, "0 to 50 nm"),
    "detector_at_nyquist": ("--detector", "a share that a detector keeps", 0.01, 1.0, "0.01 to 1"),
    "sirt_iterations": ("--sirt", "a number of iterations", 0, 10_000, "0 (weighted by the ramp) to 10000"),
}  # fmt: skip
"""By name in `image_phantom`: the option that asks for it, what it is, least and largest value, these in words."""
_VOXELS = f"{SMALLEST_ANGSTROM:g} to {LARGEST_ANGSTROM:g} Å, as tomograms have"


def imaging_of(preset: str, seed: int, asked: Mapping[str, float | bool | None]) -> dict[str, Any]:
    """Return how a preset is imaged: what is asked for, the rest drawn from its ranges.

    Parameters
    ----------
    preset
        A name in `simulate.CONDITIONS`.
    seed
        Decides what is drawn.
    asked
        Values by their names in `image_phantom`; None where nothing is asked.

    Raises
    ------
    UsageError
        There is no such preset, or a value is outside its range.
    """
    if preset not in CONDITIONS:
        raise UsageError("no preset has this name", where="--preset", found=preset, allowed=", ".join(CONDITIONS))
    imaging = CONDITIONS[preset].drawn(np.random.default_rng([seed, 1]))
    imaging |= {name: value for name, value in asked.items() if value is not None}
    _check_voxels("--apix", imaging["voxel_size_angstrom"])
    for name, (option, what, low, high, allowed) in _LIMITS.items():
        if not low <= imaging[name] <= high:
            raise UsageError(f"not {what}", where=option, found=imaging[name], allowed=allowed)
    reach, step = imaging["tilt_range_degrees"], imaging["tilt_step_degrees"]
    if not 0 < step <= reach:
        allowed = f"above 0 and at most the range, {reach:g} degrees"
        raise UsageError("not a step between tilts", where="--tilt-step", found=step, allowed=allowed)
    return imaging


def check_fits(shape: tuple[int, int, int], imaging: Mapping[str, Any]) -> None:
    """Refuse a simulation that this machine has too little memory for.

    Raises
    ------
    UsageError
        If so.
    """
    held = machine_bytes()
    needed = projected_bytes(shape, imaging["tilt_range_degrees"], imaging["tilt_step_degrees"])
    if needed > held:
        raise UsageError(
            "this machine has too little memory to simulate so many voxels and tilts",
            where="--shape",
            found=f"{', '.join(map(str, shape))}, which takes about {size(needed)}",
            allowed=f"what takes at most {size(held)}",
            todo="ask for a smaller --shape, or a larger --tilt-step",
        )


def check_labels(preset: str, labels: str, values: tuple[int, ...], own_apix: float | None) -> None:
    """Refuse options about a label volume that do not go together.

    Raises
    ------
    UsageError
        If so.
    """
    for option, given in (("--mask-labels", bool(values)), ("--labels-apix", own_apix is not None)):
        if given and not labels:
            todo = "name it with --labels, or leave this out"
            raise UsageError("this says how to read a label volume, and none is named", where=option, todo=todo)
    if labels and preset != "real":
        todo = "leave --preset or --labels out"
        raise UsageError("only real takes a label volume", where="--preset", found=preset, allowed="real", todo=todo)
    if preset == "real" and not labels:
        todo = "name one with --labels"
        raise UsageError("this preset takes its membranes from a label volume", where="--preset real", todo=todo)


@dataclass(frozen=True)
class LabelVolumes:
    """Label volumes whose membranes are simulated."""

    sources: Sequence[str]
    """Files, folders, globs or .txt lists."""
    values: tuple[int, ...] = ()
    """That are membranes; all but 0 where there are none."""
    apix: float | None = None
    """Their voxel size in ångström, where the headers do not state it."""

    def read(self) -> list[list[Drawn]]:
        """Return the membranes of each, in nm.

        Raises
        ------
        UsageError
            As of `read_shapes`, or if no file is found.
        """
        paths = [entry.source for entry in entries(self.sources, folder_ids=True)]
        return [read_shapes(path, self.values, self.apix, 10.0, option="--shapes-apix") for path in paths]


def read_shapes(
    path: str, values: tuple[int, ...], own_apix: float | None, apix: float, *, option: str = "--labels-apix"
) -> list[Drawn]:
    """Read the membranes of a label volume, in voxels of `apix`.

    Parameters
    ----------
    path
        Label volume.
    values
        Its values that are membranes; all but 0 where there are none.
    own_apix
        Its voxel size in ångström, where the header does not state it.
    apix
        Voxel size of the simulation.
    option
        What `own_apix` is asked by.

    Raises
    ------
    UsageError
        If its voxel size is not known or not one of tomograms, a value is not a whole number, or nothing is labelled.
    """
    with tempfile.TemporaryDirectory() as scratch:
        source = open_source(path, scratch=Path(scratch) / "labels")
        if own_apix is not None:
            _check_voxels(option, own_apix)
        elif source.voxel_size_angstrom:
            own_apix = source.voxel_size_angstrom[0]
        if not own_apix or own_apix <= 0:
            raise UsageError("the labels do not state their voxel size", where=path, todo=f"give {option}")
        labels = source.read((0, 0, 0), source.shape)
    if labels.dtype.kind not in "iu":
        if not np.isfinite(labels).all() or (labels != np.rint(labels)).any():
            raise UsageError("a label is not a whole number", where=path, todo="give labels, not scores or a tomogram")
        labels = labels.astype(np.int64)
    try:
        return drawn_shapes(labels, scale=own_apix / apix, values=values)
    except ValueError as error:
        raise UsageError("no membrane can be taken from these labels", where=path, found=error) from error


def _check_voxels(option: str, value: float) -> None:
    if not SMALLEST_ANGSTROM <= value <= LARGEST_ANGSTROM:
        raise UsageError("voxel size outside the range of tomograms", where=option, found=value, allowed=_VOXELS)
