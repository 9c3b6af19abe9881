"""Schedulers with pages and without workers, and what a run would tell them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from distributed import LocalCluster, Scheduler

from cryoscale.cluster import dashboard
from cryoscale.cluster.board import TOPIC
from cryoscale.records import STAGES

ORDER = ["ingest", "segment", "merge", "separate", "locate", "fit", "surface", "measure", "report"]
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


@contextlib.contextmanager
def scheduler_with_pages(address: str = "127.0.0.1:0") -> Iterator[Scheduler]:
    """Start a scheduler as runs start theirs."""
    options = {"dashboard": True, "preload": [dashboard.__name__]}
    with LocalCluster(
        n_workers=0, host="127.0.0.1", dashboard_address=address, scheduler_kwargs=options, silence_logs=40
    ) as cluster:
        yield cluster.scheduler


def told(board: Any, client: str, *events: dict[str, Any]) -> None:
    """Tell a board, or all of a scheduler, events of a run."""
    for event in events:
        board.log_event(TOPIC, json.dumps([client, {"at": 1.0, **event}]))


def begun(*names: str) -> dict[str, Any]:
    """Return the event of a run that begins."""
    return {
        "event": "run", "folder": "/data/results", "cryoscale": "0.1.0", "started_utc": "2026-11-22T00:36:25+00:00",
        "until": "report", "order": STAGES, "expected": ORDER, "states": [(name, "waiting", {}) for name in names],
    }  # fmt: skip


def phase(name: str, stage: str, units: int) -> dict[str, Any]:
    """Return the event of units that begin."""
    return {"event": "phase", "id": name, "stage": stage, "units": units}


def done(name: str) -> dict[str, Any]:
    """Return the event of a tomogram that is complete."""
    return {"event": "done", "id": name, "seconds": dict.fromkeys(ORDER, 2.0)}


def failed(name: str, stage: str) -> dict[str, Any]:
    """Return the event of a tomogram that failed."""
    return {"event": "failed", "id": name, "class": "TOMOGRAM", "stage": stage, "message": f"no good: {HOSTILE}"}
