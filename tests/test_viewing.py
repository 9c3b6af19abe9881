"""The report served on loopback, and what napari is told."""

from __future__ import annotations

import json
import sys
import threading
import types
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryoscale.cli import main
from cryoscale.errors import UsageError
from cryoscale.exporting import products_of
from cryoscale.viewing import report_server, show_in_napari
from tests.report.scene import BALLS, GEOMETRY, write_products


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_products(tmp_path_factory.mktemp("run") / "TS_01")
    made.path("summary.json").write_text(json.dumps({"id": "TS_01", "geometry": GEOMETRY.to_json()}))
    root = Path(made.folder).parent
    (root / "report.html").write_text("the page")
    (root.parent / "secret.txt").write_text("not for you")
    return root


def asked(address: str) -> tuple[int, bytes]:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=10) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


def test_only_who_knows_the_address_sees_the_report(run: Path) -> None:
    server, address = report_server(run, "", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert server.server_address[0] == "127.0.0.1"
        assert asked(address) == (200, b"the page")
        base, secret, page = address.rsplit("/", 2)
        assert asked(f"{base}/{page}")[0] == 404
        assert asked(f"{base}/wrong/{page}")[0] == 404
        assert asked(f"{base}/{secret}/")[0] == 404
        assert asked(f"{base}/{secret}/../secret.txt")[0] == 404
        assert asked(f"{base}/{secret}/%2e%2e/secret.txt")[0] == 404
        assert asked(f"{base}/{secret}/TS_01/")[0] == 404
    finally:
        server.shutdown()
        server.server_close()


def test_what_cannot_be_served(run: Path) -> None:
    with pytest.raises(UsageError, match="no report"):
        report_server(run, "TS_09", 0)
    with pytest.raises(UsageError, match="port"):
        report_server(run, "", 99_999)
    assert main(["report", str(run)]) == 2


@pytest.mark.parametrize("release", ["0.8", "0.9"])
def test_napari_gets_everything_in_place(run: Path, monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    layers: dict[str, tuple[Any, dict[str, Any]]] = {}

    bar = types.SimpleNamespace()

    class Viewer:
        def __init__(self, **options: Any) -> None:
            if release == "0.8":
                self.scale_bar = bar
            else:
                self.canvas = types.SimpleNamespace(overlays=types.SimpleNamespace(scale_bar=bar))

        def _add(self, data: Any, **options: Any) -> None:
            layers[options["name"]] = data, options

        add_image = add_labels = add_surface = _add

    shown: list[bool] = []
    fake = types.ModuleType("napari")
    fake.Viewer, fake.run = Viewer, lambda: shown.append(True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "napari", fake)
    show_in_napari(products_of(run)[0])
    assert shown == [True]
    assert vars(bar) == ({"visible": True, "unit": "nm"} if release == "0.8" else {"visible": True})
    assert {options["units"] for _, options in layers.values()} == {("nm",) * 3}
    assert list(layers) == ["tomogram", "membranes", "membrane 1", "membrane 2"]
    labels, options = layers["membranes"]
    (vertices, _), _ = layers["membrane 1"]
    # The vertices of a surface lie on voxels of its label.
    voxels = np.rint((vertices - options["translate"]) / options["scale"]).astype(int)
    assert (np.asarray(labels[:])[tuple(voxels.T)] == 1).all()
    assert np.allclose(vertices.mean(axis=0), np.array(BALLS[0][0]) + options["translate"], atol=0.5)
