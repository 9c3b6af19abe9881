"""What this machine offers a run: versions, cores, memory, GPU, and what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

import psutil

from cryoscale import __version__

__all__ = ["examine"]

_NEEDED = (
    "arro3-core", "arro3-io", "bokeh", "dask", "distributed", "google-crc32c", "llvmlite", "matplotlib", "mrcfile",
    "numba", "numcodecs", "numpy", "pillow", "prometheus-client", "psutil", "safetensors", "scikit-image", "scipy",
    "threadpoolctl", "tifffile", "torch", "tqdm", "trimesh", "zarr",
)  # fmt: skip
_OPTIONAL = {
    "cupy": "GP solves on a GPU",
    "cryptography": "runs over several machines",
    "dask-jobqueue": "--cluster slurm and the like",
    "dask-cuda": "--cluster local-cuda",
}
_LEAST_MEMORY_GIB, _LEAST_DISK_GIB = 6, 5


def examine(folder: str | Path = ".") -> tuple[list[str], bool]:
    """Return the lines to print, and whether a run can work here.

    Parameters
    ----------
    folder
        Where output would go: its free space is checked.
    """
    lines = [f"cryoscale {__version__}, Python {platform.python_version()}, {platform.platform()}"]
    missing = [name for name in _NEEDED if _version(name) is None]
    lines += [f"  {name:<17} {_version(name) or 'MISSING: pip install ' + name}" for name in _NEEDED]
    lines += [
        f"  {name:<17} {_version(name) or 'not installed (optional: ' + use + ')'}" for name, use in _OPTIONAL.items()
    ]
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(folder)
    lines.append(f"cores    {os.cpu_count()}")
    lines.append(f"memory   {memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB available")
    lines.append(f"disk     {disk.free / 2**30:.1f} GiB free in {Path(folder).resolve()}")
    lines.append(f"GPU      {_gpu()}")
    lines.append(f"bfloat16 {_bfloat16()}")
    lines.append(f"weights  {_weights()}")
    complaints = [f"missing packages: {', '.join(missing)}"] if missing else []
    if memory.available < _LEAST_MEMORY_GIB << 30:
        complaints.append(f"less than {_LEAST_MEMORY_GIB} GiB of memory available: use --workers 1 or smaller chunks")
    if disk.free < _LEAST_DISK_GIB << 30:
        complaints.append(f"less than {_LEAST_DISK_GIB} GiB of disk free")
    lines += [f"PROBLEM  {text}" for text in complaints] or ["all well"]
    return lines, not missing


def _version(name: str) -> str | None:
    for candidate in (name, f"{name}-cuda12x", f"{name}-cuda13x"):
        try:
            return importlib.metadata.version(candidate)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none seen by torch; networks run on the CPU"
    return ", ".join(torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count()))


def _bfloat16() -> str:
    from cryoscale.segment.losses import multiplies_bfloat16

    if multiplies_bfloat16("cpu"):
        return "multiplied by this processor: segment.precision = 'bfloat16' takes 0.6 of the network's time"
    return "emulated by this processor: leave segment.precision as it is"


def _weights() -> str:
    from cryoscale.errors import CryoscaleError
    from cryoscale.segment.card import default_model_path
    from cryoscale.segment.weights import load_model

    try:
        _, card = load_model(default_model_path())
    except (CryoscaleError, OSError) as error:
        return f"PROBLEM {error}"
    return f"{default_model_path().name}, sha256 {card['sha256'][:12]}"
