"""The report served on loopback, and what napari is told."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import types
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryoscale.chunks import whole
from cryoscale.cli import main
from cryoscale.errors import UsageError
from cryoscale.exporting import products_of
from cryoscale.io.mrc import write_mrc
from cryoscale.io.omezarr import create_image, open_level, write_region
from cryoscale.scoring import score_against_labels
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


@pytest.fixture
def scored_run(run: Path, tmp_path: Path) -> Path:
    """A run from masks; its mask lacks a ball."""
    made = shutil.copytree(run, tmp_path / "scored")
    labels = open_level(made / "TS_01/membranes.ome.zarr")[:]
    create_image(made / "TS_01/instances.ome.zarr", GEOMETRY, labels.dtype, (16, 32, 32), levels=1)
    write_region(made / "TS_01/instances.ome.zarr", whole(GEOMETRY.shape), np.where(labels == 1, labels, 0))
    record = {"cryoscale": "0", "command": "run", "started_utc": "today", "machine": {}, "spec": {}}
    entry = {"id": "TS_01", "source": "TS_01.mrc", "mask": "mask.mrc"}
    (made / "run.json").write_text(json.dumps(record | {"tomograms": [entry]}))
    summary = {"id": "TS_01", "geometry": GEOMETRY.to_json(), "times": {}}
    (made / "TS_01/summary.json").write_text(json.dumps(summary))
    write_mrc(tmp_path / "TS_01_true.mrc", np.where(labels == 2, 7, labels).astype(np.int16), (10.0, 10.0, 10.0))
    return made


def test_a_run_is_scored_against_labels_that_are_true(scored_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(scored_run)]) == 0
    assert "known truth" not in (scored_run / "report.html").read_text()
    assert main(["report", str(scored_run), "--truth", str(scored_run.parent / "{id}_true.mrc")]) == 0
    scores = json.loads((scored_run / "scores.json").read_text())["TS_01"]
    assert scores["dice_final"] == 1 and 0.4 < scores["dice_raw"] < 0.9
    assert scores["raw_is"] == "mask" and scores["instance_f1"] == 1
    assert scores["dice_final_by_angle"] == [1, 1, 1] and len(scores["dice_raw_by_slice"]) == GEOMETRY.shape[0]
    page = (scored_run / "report.html").read_text()
    assert "Scores against the known truth" in page and ">mask</text>" in page
    assert page.count("by angle to the beam") >= 1 and "by slice, z in nm" in page
    # Known once, they stay.
    assert main(["report", str(scored_run)]) == 0
    assert "known truth" in (scored_run / "report.html").read_text()


def test_slabs_do_not_show_in_scores(scored_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: without the slices around a slab, angles at its borders differ."""
    once = score_against_labels(scored_run / "TS_01", scored_run.parent / "TS_01_true.mrc")
    monkeypatch.setattr("cryoscale.scoring._SLAB_SLICES", 8)
    assert score_against_labels(scored_run / "TS_01", scored_run.parent / "TS_01_true.mrc") == once
    monkeypatch.setattr("cryoscale.scoring.ANGLE_HALO", 0)
    assert score_against_labels(scored_run / "TS_01", scored_run.parent / "TS_01_true.mrc") != once


def test_truth_that_does_not_fit(scored_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(scored_run), "--truth", "nowhere/{id}.mrc"]) == 2
    assert "nowhere/TS_01.mrc" in capsys.readouterr().err
    write_mrc(scored_run / "small.mrc", np.ones((4, 4, 4), np.int16), (10.0, 10.0, 10.0))
    assert main(["report", str(scored_run), "--truth", str(scored_run / "small.mrc")]) == 2
    assert "another shape" in capsys.readouterr().err


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
