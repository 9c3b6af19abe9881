"""How fast tomograms are segmented: the whole engine beside plain torch, MONAI's sliding windows and sgemm.

    python -m benchmarks segment [--size small|full] [--threads N] [--json FILE]

Networks: a 32-channel U-Net of one slice, and the one that is shipped. Ways, each in turn, several rounds of all of
them, the least time of each:

- plain     : torch as it comes, whole slices, batch norms as they are
- folded    : batch norms folded, channels last, whole slices: what the engine has to come near
- jit       : the folded network frozen and optimised by TorchScript
- batch 4   : the folded network, four slices at once
- MONAI     : `sliding_window_inference` over the folded network, windows of 256 (with --size small the whole slice),
              overlap 0.25 and 0.5
- bfloat16  : the folded network in bfloat16
- engine    : a unit of the segment stage as the engine runs it: read from OME-Zarr, scored, scores and classes
              compressed, written, flushed and summed; what it frees is kept for what follows, as in a worker
- engine 16 : the same in bfloat16

sgemm is the largest rate of a product of two square matrices of 512 to 2,048 in float32. Rates are per processor second
(all threads together), so that another program on the machine spoils them less than wall time would; with one thread
and an idle machine the two are the same. The network's operations are counted from its convolutions' shapes. Peak
memory is that of a process of its own, beyond what it had once torch and the network were loaded.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks._machine import peak_bytes, write_json
from cryoscale.chunks import whole
from cryoscale.engine import run_unit
from cryoscale.io.omezarr import create_image, write_region
from cryoscale.records import Geometry, Tomogram, Unit
from cryoscale.segment.card import default_model_path
from cryoscale.segment.forward import Runner, for_inference
from cryoscale.segment.models import build_model
from cryoscale.segment.network import Network
from cryoscale.segment.plan import plan
from cryoscale.segment.weights import load_model, save_model
from cryoscale.spec import SegmentSpec

SIZES = {"small": (2, 256, 1), "full": (8, 512, 3)}
"""Slices, their edge, and rounds."""
CHUNK = (64, 128, 128)


def operations(model: Network, edge: int) -> float:
    """Return the floating-point operations of the convolutions for one slice of edge x edge."""
    total = 0.0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += 2.0 * output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.ConvTranspose2d):
            total += 2.0 * inputs[0].numel() * module.weight[0].numel()

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    with torch.inference_mode():
        model.scores(torch.zeros(1, model.slices_in, edge, edge))
    for hook in hooks:
        hook.remove()
    return total


def sgemm_rate() -> float:
    """Return the largest rate of float32 matrix products, operations per processor second."""
    best = 0.0
    for n in (512, 1024, 2048):
        a, b = torch.randn(n, n), torch.randn(n, n)
        a @ b
        for _ in range(3):
            started = time.process_time()
            for _ in range(max(1, 1024 // n)):
                a @ b
            best = max(best, max(1, 1024 // n) * 2.0 * n**3 / (time.process_time() - started))
    return best


def stacks(model: Network, slices: int, edge: int) -> Tensor:
    """Return noise as the network sees it, (slices, channels, edge, edge)."""
    return torch.randn(slices, model.slices_in, edge, edge, generator=torch.Generator().manual_seed(0))


def monai_ways(ready: Network, x: Tensor) -> dict[str, Callable[[], object]]:
    """Return MONAI's sliding windows; none where it is not installed, which is said."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from monai.inferers import sliding_window_inference
    except ImportError as error:
        print(f"MONAI is left out: {error}")
        return {}
    return {
        f"MONAI {overlap:g}": partial(sliding_window_inference, x, (256, 256), 4, ready.scores, overlap=overlap)
        for overlap in (0.25, 0.5)
    }


def whole_slices(model: Network, x: Tensor) -> dict[str, Callable[[], object]]:
    """Return the ways to run a network over whole slices in memory."""
    ready, short = for_inference(model), for_inference(model, bfloat16=True)
    last = x.contiguous(memory_format=torch.channels_last)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frozen = torch.jit.optimize_for_inference(
            torch.jit.freeze(
                torch.jit.trace(ready, last[:1])  # type: ignore[no-untyped-call]
            )
        )

    def one_by_one(scores: Callable[[Tensor], Tensor], inputs: Tensor) -> Callable[[], object]:
        return lambda: [scores(inputs[i : i + 1]) for i in range(len(inputs))]

    return {
        "plain": one_by_one(model.scores, x),
        "folded": one_by_one(ready.scores, last),
        "jit": one_by_one(lambda part: torch.softmax(frozen(part), 1), last),
        "batch 4": lambda: [ready.scores(last[i : i + 4]) for i in range(0, len(last), 4)],
        **monai_ways(ready, last),
        "bfloat16": one_by_one(Runner(short)._scored, last),
    }


def unit_of(folder: Path, weights: Path, slices: int, edge: int, precision: str) -> Unit:
    """Write a tomogram of noise and return the unit that segments it."""
    geometry = Geometry((slices, edge, edge), (10.0,) * 3)
    chunk = (min(CHUNK[0], slices), *CHUNK[1:])
    volume = np.random.default_rng(0).normal(0.0, 1.0, geometry.shape).astype(np.float32)
    create_image(folder / "t.ome.zarr", geometry, np.float32, chunk)
    write_region(folder / "t.ome.zarr", whole(geometry.shape), volume)
    spec = SegmentSpec(model=str(weights), region_voxels=max(edge, 512), precision=precision)
    steps = plan(Tomogram("t", "", str(folder), geometry), spec, chunk, source="t.ome.zarr", intensity=(0.0, 1.0))
    (unit,) = next(steps)
    return unit


def _alone(task: Callable[[], object], results: Any) -> None:
    torch.set_num_threads(1)
    before = peak_bytes()
    task()
    results.put(peak_bytes() - before)


class _Peak:
    """A way to run in a process of its own: picklable."""

    def __init__(self, kind: str, weights: Path, slices: int, edge: int, folder: Path) -> None:
        self.kind, self.weights, self.slices, self.edge, self.folder = kind, weights, slices, edge, folder

    def __call__(self) -> None:
        with torch.inference_mode():
            if self.kind == "engine":
                unit = unit_of(self.folder, self.weights, self.slices, self.edge, "float32")
                run_unit(unit, str(self.folder), "")
                return
            model, _ = load_model(self.weights)
            scores = model.scores if self.kind == "plain" else for_inference(model).scores
            for part in torch.split(stacks(model, self.slices, self.edge), 1):
                scores(part.contiguous(memory_format=torch.channels_last) if self.kind == "folded" else part)


def peak_of(kind: str, weights: Path, slices: int, edge: int, folder: Path) -> int:
    """Return the memory a way takes, in bytes, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_alone, args=(_Peak(kind, weights, slices, edge, folder), results))
    process.start()
    measured = int(results.get(timeout=600))
    process.join()
    return measured


def measure(name: str, weights: Path, size: tuple[int, int, int], folder: Path) -> dict[str, Any]:
    """Time every way of running one network."""
    slices, edge, rounds = size
    model, _ = load_model(weights)
    x = stacks(model, slices, edge)
    ways = whole_slices(model, x)
    for label, precision in (("engine", "float32"), ("engine 16", "bfloat16")):
        unit = unit_of(folder / precision, weights, slices, edge, precision)
        ways[label] = partial(run_unit, unit, str(folder / precision), "")
    seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for way, task in ways.items():
                wall, processor = time.perf_counter(), time.process_time()
                task()
                if number:
                    seconds[way].append((time.process_time() - processor, time.perf_counter() - wall))
    flops, rate = operations(model, edge), sgemm_rate()
    rows = [
        {
            "way": way,
            "processor_s_per_slice": min(taken)[0] / slices,
            "wall_s_per_slice": min(wall for _, wall in taken) / slices,
            "gflop_per_s": flops * slices / min(taken)[0] / 1e9,
            "share_of_sgemm": flops * slices / min(taken)[0] / rate,
        }
        for way, taken in seconds.items()
    ]
    return {"network": name, "gflop_per_slice": flops / 1e9, "sgemm_gflop_per_s": rate / 1e9, "ways": rows}


def table(found: dict[str, Any], slices: int, edge: int) -> str:
    """Return one network's rows as text."""
    base = next(row["processor_s_per_slice"] for row in found["ways"] if row["way"] == "folded")
    lines = [
        f"{found['network']}: {found['gflop_per_slice']:.1f} GFLOP a slice of {edge} x {edge}, {slices} slices; "
        f"sgemm {found['sgemm_gflop_per_s']:.0f} GFLOP/s",
        f"{'way':<11} {'cpu s/slice':>11} {'slices/s':>9} {'GFLOP/s':>8} {'of sgemm':>9} {'x folded':>9} {'wall s':>7}",
    ]
    for row in found["ways"]:
        taken = row["processor_s_per_slice"]
        lines.append(
            f"{row['way']:<11} {taken:>11.3f} {1 / taken:>9.2f} {row['gflop_per_s']:>8.1f} "
            f"{row['share_of_sgemm']:>9.0%} {taken / base:>9.2f} {row['wall_s_per_slice']:>7.2f}"
        )
    peaks = ", ".join(f"{kind} {size / 2**20:.0f} MiB" for kind, size in found["peak_bytes"].items())
    return "\n".join([*lines, f"peak memory: {peaks}"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks segment")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", default="")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    slices, edge, rounds = SIZES[options.size]
    found: dict[str, Any] = {
        "benchmark": "segment", "size": options.size, "slices": slices, "edge": edge, "threads": options.threads,
        "networks": [],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        save_model(base / "wide.safetensors", build_model("unet2d", width=32), {})
        for name, weights in (("unet2d, 32 channels", base / "wide.safetensors"), ("shipped", default_model_path())):
            network = measure(name, weights, (slices, edge, rounds), base / name)
            kinds = ("plain", "folded", "engine")
            network["peak_bytes"] = {
                kind: peak_of(kind, weights, slices, edge, base / f"{name} {kind}") for kind in kinds
            }
            print(table(network, slices, edge), flush=True)
            found["networks"].append(network)
            write_json(options.json, found)
    return 0
