"""The pages of a scheduler: Dask's own, and beside them how far its runs are. Every scheduler of ours preloads this.

=========================== ===========================================================================================
``/cryoscale``              tomograms x stages, failures in red, rate and estimate of the end
``/cryoscale/status.json``  the same: ``{"runs": [...]}``, each as ``cryoscale status --json`` has it
``/metrics``                Dask's metrics and ours (metrics.py)
``/status``                 Dask's page, whose bars are named after the stages
=========================== ===========================================================================================

``dask scheduler --preload cryoscale.cluster.dashboard`` gives them to a scheduler that somebody else starts. All are
behind guard.py. The page asks for the JSON again and again; whatever a name or a message holds is text to it, and its
policy lets no script run but its own.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

import dask
import prometheus_client
from distributed.http.utils import RequestHandler
from tornado.web import HTTPError

from cryoscale.cluster import guard
from cryoscale.cluster.board import NAME, TOPIC, Board
from cryoscale.cluster.limits import watch_workers
from cryoscale.cluster.metrics import metrics_of

__all__ = ["PAGE", "dask_setup", "dask_teardown", "routes"]

PAGE = "/cryoscale"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_KINDS = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
_FILES = resources.files("cryoscale.cluster").joinpath("page")


class _Ours(RequestHandler):  # type: ignore[misc]
    """What only a scheduler with a dashboard answers."""

    def set_default_headers(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("X-Content-Type-Options", "nosniff")

    def prepare(self) -> None:
        # Dask serves this application's other routes, health and metrics, without a dashboard too.
        if not self.application.applications or NAME not in self.server.plugins:
            raise HTTPError(404)


class _File(_Ours):
    def initialize(self, dask_server: Any = None, file: str = "") -> None:
        super().initialize(dask_server)
        self._kind = _KINDS[file.rpartition(".")[2]]
        self._text = _FILES.joinpath(file).read_text(encoding="utf-8")

    def get(self) -> None:
        self.set_header("Content-Type", self._kind)
        self.finish(self._text)


class _Json(_Ours):
    def get(self) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"runs": self.server.plugins[NAME].statuses()}))


routes: list[tuple[str, type[RequestHandler], dict[str, Any]]] = [
    (PAGE, _File, {"file": "page.html"}),
    (rf"{PAGE}/page.css", _File, {"file": "page.css"}),
    (rf"{PAGE}/page.js", _File, {"file": "page.js"}),
    (rf"{PAGE}/status.json", _Json, {}),
]
"""As Dask wants them of the modules that ``distributed.scheduler.http.routes`` names."""


class _Collector:
    """Tells the metrics of the schedulers of this process; there is one, but in tests."""

    def __init__(self) -> None:
        self.boards: list[Board] = []

    def describe(self) -> Iterator[Any]:
        """Promise nothing ahead, so that registering asks no scheduler."""
        return iter(())

    def collect(self) -> Iterator[Any]:
        for board in self.boards[-1:]:
            yield from metrics_of(board)


def _add_routes() -> None:
    """Have the routes in every scheduler from now on."""
    named = dask.config.get("distributed.scheduler.http.routes")
    if __name__ not in named:
        dask.config.set({"distributed.scheduler.http.routes": [*named, __name__]})


async def dask_setup(scheduler: Any) -> None:
    """Put the guard before a scheduler's pages, watch its workers, and begin to count."""
    guard.dask_setup(scheduler)
    watch_workers(scheduler)
    board = Board(scheduler)
    scheduler.add_plugin(board, name=NAME)
    _COLLECTOR.boards.append(board)
    if scheduler.http_application.applications:
        with contextlib.suppress(ImportError, KeyError, AttributeError, TypeError):
            _add_to_menu(scheduler)
    scheduler.log_event(TOPIC, PAGE)


async def dask_teardown(scheduler: Any) -> None:
    """Tell no metrics of a scheduler that ends."""
    board = scheduler.plugins.get(NAME)
    if board in _COLLECTOR.boards:
        _COLLECTOR.boards.remove(board)


def _add_to_menu(scheduler: Any) -> None:
    """Name the page in the menu of Dask's pages, which has no door for others: without it they work as well."""
    from distributed.dashboard.scheduler import template_variables

    pages = template_variables(scheduler)["pages"]
    if PAGE[1:] not in pages:
        pages.insert(0, PAGE[1:])


_COLLECTOR = _Collector()
prometheus_client.REGISTRY.register(_COLLECTOR)
_add_routes()
