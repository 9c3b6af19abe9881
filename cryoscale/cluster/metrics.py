"""What a monitoring system may ask of a scheduler, beside what Dask tells it: ``/metrics``, in the form of Prometheus.

============================================ ================================================================
``cryoscale_units_done_total{stage}``        units whose results came in, since the scheduler began
``cryoscale_units_failed_total{stage}``      units that failed, and their tomogram with them
``cryoscale_units_running{stage}``           units that workers are at
``cryoscale_units_waiting{stage}``           units known, not done and at no worker
``cryoscale_tomograms{state}``               tomograms: complete, under way, failed, stopped, waiting
``cryoscale_tomograms_per_hour``             of the runs under way
``cryoscale_seconds_left``                   until the last of them ends, at that rate
============================================ ================================================================

No name of a tomogram is told: a collection would make as many time series as it has tomograms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from cryoscale.cluster.board import Board

__all__ = ["metrics_of"]


def metrics_of(board: Board) -> Iterator[Metric]:
    """Yield the metrics of a scheduler's runs."""
    statuses = board.statuses()
    running: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    states: Counter[str] = Counter()
    for status in statuses:
        states.update(status["counts"])
        for stage, row in status["stages"].items():
            done, planned = row["units"]
            running[stage] += row["running"]
            waiting[stage] += max(planned - done - row["running"], 0)
    yield _family(CounterMetricFamily, "units_done", "Units whose results came in", "stage", board.units_done)
    yield _family(CounterMetricFamily, "units_failed", "Units that failed their tomogram", "stage", board.units_failed)
    yield _family(GaugeMetricFamily, "units_running", "Units that workers are at", "stage", running)
    yield _family(GaugeMetricFamily, "units_waiting", "Units known, not done, at no worker", "stage", waiting)
    yield _family(GaugeMetricFamily, "tomograms", "Tomograms by state", "state", states)
    live = [status for status in statuses if status["state"] == "running"]
    rates = [status["rate_per_hour"] for status in live if status["rate_per_hour"] is not None]
    left = [status["seconds_left"] for status in live if status["seconds_left"] is not None]
    if rates:
        yield GaugeMetricFamily("cryoscale_tomograms_per_hour", "Tomograms per hour", value=sum(rates))
    if left:
        yield GaugeMetricFamily("cryoscale_seconds_left", "Seconds until the last run ends", value=max(left))


def _family(kind: Any, name: str, what: str, label: str, values: Counter[str]) -> Any:
    family = kind(f"cryoscale_{name}", what, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
