"""What a simulated tomogram costs, and how exact its projections are.

    python -m benchmarks simulate [--size small|full] [--json FILE]

The chain: a phantom of each preset, 41 tilts over +-60 degrees, contrast transfer, noise and back-projection; full size
is 200 x 400 x 400 voxels, which must take at most 60 s on two cores.

Projection: what `simulate.tilt.project` does (spectra of rows, sheared) against the same central slices of the
spectrum by finufft (to 1e-4, then one inverse FFT a tilt) and, of one slice, scikit-image's `radon`, which interpolates
linearly.
Errors are of Gaussian spots whose projections are known in closed form, root mean square over that of the exact; a
linear interpolation blurs spots smaller than a leaflet. Seconds are of one thread, for a slab with its mirrored
surroundings as the chain projects it. The limit is the least that a sum over voxels takes, two multiplications and
additions a voxel and tilt, at the rate of a single-precision matrix product.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from skimage.transform import radon

from benchmarks._machine import peak_bytes, write_json
from cryoscale.simulate import CONDITIONS, image_phantom, make_phantom
from cryoscale.simulate.tilt import project

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
SIZES = {"small": (64, 128, 128), "full": (200, 400, 400)}
PRESETS = ("demo", "training", "cell", "heldout")
TILTS = np.arange(-60.0, 60.1, 3.0)
SECONDS_ASKED = 60.0
SPOT_SD_VOXELS = (1.0, 1.5, 3.0)
SPOTS = 300
SLICE = (97, 257)
"""Odd, so that all agree where the middle is."""
ACCURACY = 1e-4


def chain(shape: tuple[int, int, int], preset: str) -> dict[str, Any]:
    """Simulate one tomogram."""
    clock, start = time.perf_counter(), time.process_time()
    phantom = make_phantom(shape, seed=1, preset=preset)
    drawn = time.process_time()
    image_phantom(phantom.density, seed=1, snr=0.3, tilt_step_degrees=3.0)
    return {
        "preset": preset,
        "membranes": len(phantom.membranes),
        "phantom_s": drawn - start,
        "image_s": time.process_time() - drawn,
        "wall_s": time.perf_counter() - clock,
        "peak_bytes": peak_bytes(),
    }


def central_slices(volume: Floats, tilts_degrees: Doubles, width: int) -> Floats | None:
    """Project a volume (z, y, x) by its spectrum; None where finufft is not installed."""
    try:
        from finufft import nufft2d2
    except ImportError:
        return None
    depth, height, breadth = volume.shape
    tilts, s = np.radians(tilts_degrees), np.fft.fftfreq(width)
    z, x = (2 * np.pi * np.outer(along, s) for along in (np.sin(tilts), np.cos(tilts)))
    rows = np.ascontiguousarray(volume.swapaxes(0, 1), np.complex64)
    places = (z.ravel().astype(np.float32), x.ravel().astype(np.float32))
    spectrum = nufft2d2(*places, rows, isign=-1, eps=ACCURACY, nthreads=1).reshape(height, len(tilts), width)
    # It counts from voxel n // 2, and the detector's columns from the first.
    off = z * (depth // 2 - 0.5 * (depth - 1)) + x * (breadth // 2 - 0.5 * (breadth - 1))
    turned = spectrum * np.exp(-1j * (off + np.pi * s * (width - 1))).astype(np.complex64)
    images = scipy.fft.ifft(turned, axis=-1).real
    return np.ascontiguousarray(images.swapaxes(0, 1), np.float32)


def rotated(image: Doubles, tilts_degrees: Doubles) -> Doubles:
    """Project one slice (z, x) with scikit-image, onto as many columns as its diagonal has."""
    side = (int(np.ceil(np.hypot(*image.shape))) | 1) + 2
    pad = [((side - n) // 2, side - n - (side - n) // 2) for n in image.shape]
    # Its angles turn the other way, from z to x.
    return np.asarray(radon(np.pad(image, pad), theta=-tilts_degrees, circle=True), np.float64).T


def spots(sd: float) -> tuple[Doubles, Callable[[int], Doubles]]:
    """Return a slice of Gaussian spots, and what gives its projections onto so many columns."""
    rng = np.random.default_rng(0)
    depth, breadth = SLICE
    z, x = rng.uniform(-0.4 * depth, 0.4 * depth, SPOTS), rng.uniform(-0.35 * breadth, 0.35 * breadth, SPOTS)
    height = rng.uniform(0.5, 1.5, SPOTS) * rng.choice([-1.0, 1.0], SPOTS)

    def bump(away: Doubles) -> Doubles:
        return np.asarray(np.exp(-0.5 * (away / sd) ** 2))

    rows, columns = (np.arange(n) - 0.5 * (n - 1) for n in SLICE)
    image = np.einsum("i,iz,ix->zx", height, bump(rows - z[:, None]), bump(columns - x[:, None]))

    def exact(width: int) -> Doubles:
        tilts = np.radians(TILTS)[:, None]
        s = np.arange(width) - 0.5 * (width - 1)
        middle = x * np.cos(tilts) + z * np.sin(tilts)
        there = bump(s - middle[..., None]) * height[:, None]
        return np.asarray(np.sqrt(2 * np.pi) * sd * there.sum(axis=1))

    return image, exact


def errors(sd: float) -> dict[str, float]:
    """Return the relative error of each way to project spots."""
    image, exact = spots(sd)
    width = int(np.ceil(np.hypot(*SLICE))) | 1
    volume = image[:, None].astype(np.float32)
    by_spectrum = central_slices(volume, TILTS, width)
    ways = {
        "ours": project(volume, TILTS, width)[:, 0],
        "finufft": None if by_spectrum is None else by_spectrum[:, 0],
        "scikit-image": rotated(image, TILTS),
    }
    found = {}
    for name, images in ways.items():
        if images is not None:
            true = exact(images.shape[-1])
            found[name] = float(np.sqrt(np.mean((images - true) ** 2) / np.mean(true**2)))
    return found


def seconds_of(call: Callable[[], object]) -> float:
    """Return processor seconds, the median of three."""
    taken = []
    for _ in range(3):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return median(taken)


def projecting(shape: tuple[int, int, int]) -> dict[str, Any]:
    """Time each way to project a slab and its mirrored surroundings."""
    depth, height, breadth = shape
    pad = min(breadth - 1, int(0.5 * depth * np.tan(np.radians(TILTS.max()))) + 24)
    density: Floats = np.random.default_rng(0).standard_normal(shape, np.float32)
    slab: Floats = np.pad(density, ((0, 0), (0, 0), (pad, pad)), mode="reflect")
    width, wide = int(np.hypot(depth, breadth)) + 48, int(np.hypot(depth, breadth + 2 * pad)) + 1
    project(slab[:, :1], TILTS, width)
    parts = np.array_split(np.arange(height), max(1, height // 40))
    times = {"ours": seconds_of(partial(project, slab, TILTS, width))}
    if central_slices(slab[:, :1], TILTS, wide) is not None:
        # What is wider than the spectrum's period would come in at the other end; and not all rows at once.
        times["finufft"] = seconds_of(lambda: [central_slices(slab[:, p], TILTS, wide) for p in parts])
    times["scikit-image"] = height * seconds_of(partial(rotated, slab[:, 0].astype(np.float64), TILTS))
    square = np.ones((1024, 1024), np.float32)
    rate = 2 * 1024**3 / seconds_of(lambda: square @ square)
    return {"seconds": times, "limit_s": 4 * slab.size * len(TILTS) / rate}


def table(rows: Sequence[dict[str, Any]], found: dict[str, Any], wrong: dict[str, dict[str, float]]) -> str:
    """Return everything as text."""
    lines = [f"{'preset':<10} {'membranes':>9} {'phantom s':>10} {'imaging s':>10} {'wall s':>7} {'peak MiB':>9}"]
    for row in rows:
        kept = "reached" if row["wall_s"] <= SECONDS_ASKED else "not reached"
        lines.append(
            f"{row['preset']:<10} {row['membranes']:>9} {row['phantom_s']:>10.1f} {row['image_s']:>10.1f} "
            f"{row['wall_s']:>7.1f} {row['peak_bytes'] / 2**20:>9.0f}  {kept}: asked {SECONDS_ASKED:g}"
        )
    names = list(wrong)
    lines += ["", f"{'projection':<16} {'cpu s':>8} {'limit/ours':>10}  error at spots of sd " + ", ".join(names)]
    for name, seconds in found["seconds"].items():
        off = "  ".join(f"{wrong[sd].get(name, np.nan):.2%}" for sd in names)
        lines.append(f"{name:<16} {seconds:>8.2f} {found['limit_s'] / seconds:>10.2f}  {off}")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks simulate", description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--json", default="")
    options = parser.parse_args(argv)
    shape = SIZES[options.size]
    chain((32, 32, 32), "demo")
    rows = [chain(shape, preset) for preset in PRESETS if preset in CONDITIONS]
    found, wrong = projecting(shape), {f"{sd:g}": errors(sd) for sd in SPOT_SD_VOXELS}
    print(table(rows, found, wrong))
    result = {"benchmark": "simulate", "size": options.size, "shape": list(shape), "tilts": len(TILTS)}
    write_json(options.json, result | {"chain": rows, "projection": found, "relative_error": wrong})
    return 0
