"""What tests of the stages share: a plan run in the plain loop, and the memory that a call takes."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from cryoscale.records import Plan, Receipt

T = TypeVar("T")


def run_plan(plan: Plan, *, seed: int | None = None) -> tuple[dict[str, Any], list[Receipt]]:
    """Run every unit of a plan, shuffled within its phase where a seed is given.

    Returns what the plan returns and all receipts; their numbers pass through JSON, as they do in a record.
    """
    receipts: list[Receipt] = []
    try:
        units = next(plan)
        while True:
            assert len({unit.key for unit in units}) == len(units)
            order = range(len(units)) if seed is None else np.random.default_rng(seed).permutation(len(units))
            done = {units[k].key: units[k].call(*units[k].args) for k in order}
            answer = [done[unit.key] for unit in units]
            answer = [Receipt(r.files, json.loads(json.dumps(r.numbers, allow_nan=False))) for r in answer]
            receipts += answer
            units = plan.send(answer)
    except StopIteration as end:
        return end.value, receipts


def traced_peak(call: Callable[[], T]) -> tuple[T, int]:
    """Return what a call returns, and the most memory that Python and NumPy held for it, in bytes."""
    tracemalloc.start()
    try:
        result = call()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
