"""``python -m benchmarks`` lists the questions, ``python -m benchmarks NAME`` answers one."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks


def names() -> list[str]:
    """Return the names of the benchmarks."""
    return sorted(
        module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("_")
    )


def main(argv: list[str]) -> int:
    """Run the benchmark that the first argument names."""
    if not argv or argv[0] not in names():
        for name in names():
            text = importlib.import_module(f"benchmarks.{name}").__doc__ or ""
            print(f"{name:<10} {text.splitlines()[0]}")
        return 0 if not argv else 2
    return int(importlib.import_module(f"benchmarks.{argv[0]}").main(argv[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
