"""The verbs that show what a run made: ``cryoscale report``, ``view`` and ``export``."""

from __future__ import annotations

import argparse
import importlib.util
import secrets
import signal
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from cryoscale.errors import UsageError
from cryoscale.exporting import FORMATS, VOLUMES, Product, export, products_of
from cryoscale.interrupt import Stopped
from cryoscale.io.omezarr import open_level
from cryoscale.report.colours import colour_of
from cryoscale.reporting import PAGES, score_tomograms, write_run_report
from cryoscale.runrecord import place_in, read_run, reseal

__all__ = ["add_view_verbs", "report_server", "show_in_napari"]


def add_view_verbs(verbs: Any) -> None:
    """Add the verbs to the command line's."""
    report = verbs.add_parser("report", help="write the pages of a run again, from what is in its folder")
    report.add_argument("folder", type=Path, metavar="DIR")
    report.add_argument("--truth", default="", metavar="PATTERN", help="true labels, for scores: 'truth/{id}.mrc'")
    report.set_defaults(run=_report)
    view = verbs.add_parser("view", help="open a tomogram in napari, or the report in a browser where it is missing")
    view.add_argument("folder", type=Path, metavar="DIR")
    view.add_argument("id", nargs="?", default="", metavar="ID", help="the tomogram, where there are several")
    view.add_argument("--browser", action="store_true", help="the report, though napari is there")
    view.add_argument(
        "--port", type=int, default=0, help="of the report's server on this machine (default: a free one)"
    )
    view.set_defaults(run=_view)
    _export_parser(verbs.add_parser("export", help="volumes, meshes, tables and particles in other programs' formats"))


def _export_parser(exported: argparse.ArgumentParser) -> None:
    exported.add_argument("folder", type=Path, metavar="DIR", help="folder of a run, or of one of its tomograms")
    exported.add_argument("--format", required=True, choices=FORMATS)
    exported.add_argument("--output", type=Path, metavar="DIR", help="default: `export` in the run's folder")
    exported.add_argument("--id", action="append", default=[], metavar="ID", help="only this tomogram; again for more")
    exported.add_argument(
        "--volume",
        action="append",
        default=[],
        choices=VOLUMES,
        help="for mrc and tiff (default: membranes); again for more",
    )
    exported.add_argument("--url", default="http://127.0.0.1:8000", help="for neuroglancer: where --output is served")
    exported.set_defaults(run=_export)


def _report(options: argparse.Namespace) -> int:
    if not (options.folder / "run.json").is_file():
        raise UsageError("no run here", where=str(options.folder), allowed="a folder that `cryoscale run` made")
    if options.truth:
        score_tomograms(options.folder, options.truth)
    _say(str(write_run_report(options.folder)))
    reseal(options.folder)
    return 0


def _export(options: argparse.Namespace) -> int:
    files = export(
        options.folder,
        options.format,
        options.output,
        names=options.id,
        volumes=options.volume or ("membranes",),
        url=options.url.rstrip("/"),
    )
    _say("\n".join(str(path) for path in files))
    return 0


def _view(options: argparse.Namespace) -> int:
    if options.browser or not importlib.util.find_spec("napari"):
        return _serve(options.folder, options.id, options.port)
    product = products_of(options.folder, [options.id] if options.id else [])[0]
    show_in_napari(product)
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# ------------------------------------------------------------------------------------------------------------ napari


def show_in_napari(product: Product) -> None:
    """Show tomogram, labels and surfaces in napari, all in nm where the header says they are; returns when it closes.

    Parameters
    ----------
    product
        A complete tomogram.
    """
    import napari

    viewer = napari.Viewer(title=f"cryoscale {product.id}", ndisplay=3)
    geometry = product.geometry
    place = {
        "scale": [size / 10 for size in geometry.voxel_size_angstrom],
        "translate": [start / 10 for start in geometry.origin_angstrom],
        "units": ("nm",) * 3,
    }
    tomogram = product.volume("tomogram")
    if tomogram.is_dir():
        levels = sorted(int(path.name) for path in tomogram.iterdir() if path.name.isdigit())
        viewer.add_image([open_level(tomogram, n) for n in levels], name="tomogram", multiscale=True, **place)
    viewer.add_labels(open_level(product.volume("membranes")), name="membranes", **place)
    for number, mesh in product.meshes():
        colour = [part / 255 for part in colour_of(number)]
        seen = mesh.properties.get("seen", np.ones(len(mesh.vertices), np.uint8))
        viewer.add_surface(
            (mesh.vertices / 10, mesh.faces),
            vertex_colors=np.where(seen[:, None] > 0, colour, np.add(0.38 * np.array(colour), 0.55)),
            name=f"membrane {number}",
            units=("nm",) * 3,
        )
    # Where there are no overlays, napari is older than 0.9, and its bar does not know the layers' unit.
    bar = viewer.canvas.overlays.scale_bar if hasattr(viewer, "canvas") else viewer.scale_bar
    bar.visible = True
    if not hasattr(viewer, "canvas"):
        bar.unit = "nm"
    napari.run()


# ------------------------------------------------------------------------------------------------------------ browser


class _Pages(SimpleHTTPRequestHandler):
    """Serves a run's folder to who knows the secret first part of the address: others may share this machine."""

    def __init__(self, *arguments: Any, secret: str, **options: Any) -> None:
        self.secret = secret
        super().__init__(*arguments, **options)

    def send_head(self) -> Any:
        first, _, rest = self.path.lstrip("/").partition("/")
        if not secrets.compare_digest(first.encode(), self.secret.encode()) or not rest or rest.endswith("/"):
            self.send_error(404)
            return None
        self.path = "/" + rest
        return super().send_head()

    def log_message(self, *arguments: Any) -> None:
        """Say nothing of each request."""


def report_server(folder: Path, name: str, port: int) -> tuple[ThreadingHTTPServer, str]:
    """Return a server of a run's report on this machine alone, not yet serving, and its address.

    Raises
    ------
    UsageError
        There is no such page, or the port is taken.
    """
    page = f"{PAGES}/{place_in(read_run(folder) or {}, name)}.html" if name else "report.html"
    if not (folder / page).is_file():
        raise UsageError("no report here", where=str(folder / page), todo="run until report, or `cryoscale report DIR`")
    secret = secrets.token_urlsafe(16)
    try:
        handler = partial(_Pages, directory=str(folder), secret=secret)
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    except (OSError, OverflowError) as error:
        raise UsageError("cannot serve on this port", where="--port", found=f"{port}: {error}") from error
    return server, f"http://127.0.0.1:{server.server_address[1]}/{secret}/{page}"


def _serve(folder: Path, name: str, port: int) -> int:
    server, address = report_server(folder, name, port)
    with server:
        _say(f"{address}\nonly from this machine; stop with control C")
        try:
            server.serve_forever()
        except (KeyboardInterrupt, Stopped) as stop:
            # Control C is how this verb ends; other signals keep their exit codes.
            if isinstance(stop, Stopped) and stop.number != signal.SIGINT:
                raise
    return 0
