"""What every result says about where and when it was measured."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

_PACKAGES = ("dask", "distributed", "numba", "numpy", "scikit-image", "scipy", "torch", "zarr")


def machine() -> dict[str, Any]:
    """Return processor, cores, date and versions."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "date_utc": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def write_json(path: str, result: dict[str, Any]) -> None:
    """Write a result with the machine it was measured on, where `path` is not empty."""
    if path:
        Path(path).write_text(json.dumps({"machine": machine(), **result}, indent=1) + "\n", encoding="utf-8")


def write_part(path: str, benchmark: str, part: str, result: dict[str, Any]) -> None:
    """Write the result of one part of a benchmark beside those of its other parts, where `path` is not empty."""
    if path:
        file = Path(path)
        parts = json.loads(file.read_text(encoding="utf-8"))["parts"] if file.is_file() else {}
        parts[part] = {"machine": machine(), **result}
        file.write_text(json.dumps({"benchmark": benchmark, "parts": parts}, indent=1) + "\n", encoding="utf-8")


def in_a_process(module: str, *arguments: str, threads: int = 1) -> dict[str, Any]:
    """Return the JSON that a module prints in a process of its own, or what it failed with as `error`."""
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads))
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, env=environment)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["failed"])[-1]}
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def peak_bytes(process: int | str = "self") -> int:
    """Return the peak resident memory of a process (VmHWM), this one or that of an id."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0
