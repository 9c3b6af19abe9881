"""Damaged and invented bytes for everything that is parsed: only a `CryoscaleError`, 256 MiB and a second at most.

MRC headers and weights are fuzzed deeper beside their readers (tests/io/test_mrc_corpus.py,
tests/segment/test_weights.py); here they are held to the same limits as the rest. ``-m slow`` tries 3,000 each.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import shutil
import socket
import tarfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryoscale.chunks import whole
from cryoscale.completion import kept_outcome, read_failure, read_seal
from cryoscale.engine import read_record, record_path
from cryoscale.errors import CryoscaleError
from cryoscale.exporting import Product
from cryoscale.io.meshes import PlyMesh, write_ply
from cryoscale.io.omezarr import create_image, write_region
from cryoscale.io.source import open_source
from cryoscale.journal import JOURNAL, read_journal
from cryoscale.manifest import entries
from cryoscale.packing import unpack
from cryoscale.records import DoneRecord, Geometry, sealed
from cryoscale.segment.unet import UNet
from cryoscale.segment.weights import load_model, save_model
from cryoscale.spec import RunSpec
from cryoscale.status import print_status
from cryoscale.verify import collection_of, find_damage
from tests.io.corpus import mrc

LIMIT_BYTES, LIMIT_SECONDS = 256 << 20, 1.0
ODD = [0, -1, 1, 2**31 - 1, -(2**31), 2**63, 10**30, 1e308, float("nan"), float("inf"), "", "../x", "/etc/passwd", "é"]
ODD += ["a\0b", "9" * 400, None, True, [], {}, [[]], [1, 2, 3], {"path": "0"}]
JSON = st.sampled_from(ODD) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


# --------------------------------------------------------------------------------------------------------- mutations


@st.composite
def bytes_like(draw: st.DrawFn, raw: bytes) -> bytes:
    """Flip, cut, repeat or replace some of `raw`."""
    found = bytearray(raw)
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, max(0, len(found) - 1)))
        kind = draw(st.sampled_from(["flip", "cut", "double", "text", "end"]))
        if kind == "flip" and found:
            found[first] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del found[first : first + draw(st.integers(1, 64))]
        elif kind == "double":
            found[first:first] = found[first : first + 40] * draw(st.sampled_from([1, 2, 5000]))
        elif kind == "text":
            found[first:first] = draw(
                st.binary(max_size=12) | st.sampled_from([b"[" * 30_000, b"{" * 30_000, b"\0", b'"'])
            )
        else:
            del found[first:]
    return bytes(found)


@st.composite
def json_like(draw: st.DrawFn, known: Any) -> Any:
    """Replace, remove or add a value somewhere in `known`."""
    data = json.loads(json.dumps(known))
    for _ in range(draw(st.integers(1, 3))):
        node = data
        while True:
            if not isinstance(node, (dict, list)) or not node:
                break
            keys = sorted(node) if isinstance(node, dict) else range(len(node))
            key = draw(st.sampled_from(list(keys)))
            if isinstance(node[key], (dict, list)) and node[key] and draw(st.integers(0, 3)):
                node = node[key]
                continue
            kind = draw(st.sampled_from(["set", "set", "drop", "add"]))
            if kind == "set" or not isinstance(node, dict):
                node[key] = copy.deepcopy(draw(JSON))
            elif kind == "drop":
                del node[key]
            else:
                node[draw(st.text(max_size=9))] = copy.deepcopy(draw(JSON))
            break
    return data


@contextlib.contextmanager
def within_limits() -> Iterator[None]:
    """Hold the block to the limits, and to our own errors."""
    tracemalloc.start()
    began = time.thread_time()
    try:
        with contextlib.suppress(CryoscaleError):
            yield
    finally:
        spent, peak = time.thread_time() - began, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < LIMIT_BYTES
    # Tracing slows Python four times.
    assert spent < 4 * LIMIT_SECONDS


# ----------------------------------------------------------------------------------------------------------- targets

Target = Callable[[Path, Any], None]


def mrc_file(folder: Path, data: st.DataObject) -> None:
    raw = data.draw(st.builds(lambda h, body: h + body, bytes_like(mrc()[:1024]), st.just(mrc()[1024:])))
    (folder / "a.mrc").write_bytes(raw)
    with within_limits():
        source = open_source(folder / "a.mrc")
        source.read((0, 0, 0), tuple(min(4, n) for n in source.shape))


CSV = b"path,id,apix,merge.distance_nm,ingest.chunk_voxels\na.mrc,one,13.48,2.5,16 32 32\na.mrc,two,,,\n"
TOML = b'[[tomogram]]\npath = "a.mrc"\nid = "one"\napix = 13.48\n[tomogram.merge]\nmask_labels = [1, 2]\n'


def manifest_file(folder: Path, data: st.DataObject) -> None:
    (folder / "a.mrc").write_bytes(b"x")
    name, text = data.draw(st.sampled_from([("m.csv", CSV), ("m.toml", TOML)]))
    (folder / name).write_bytes(data.draw(bytes_like(text)))
    with within_limits():
        for entry in entries([str(folder / name)]):
            entry.spec_over(RunSpec())


def weights_file(folder: Path, data: st.DataObject) -> None:
    path = folder / "net.safetensors"
    torch.manual_seed(0)
    save_model(path, UNet(slices_in=1, width=1, depth=1), {})
    card, raw = json.loads(path.with_suffix(".json").read_text()), path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    if data.draw(st.booleans()):
        text = json.dumps(data.draw(json_like(json.loads(raw[8 : 8 + length])))).encode()
        raw = len(text).to_bytes(8, "little") + text + raw[8 + length :]
    elif data.draw(st.booleans()):
        raw = data.draw(bytes_like(raw))
    else:
        card = data.draw(json_like(card))
    path.write_bytes(raw)
    if isinstance(card, dict) and isinstance(card.get("sha256"), str):
        card["sha256"] = sha256(raw).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(card))
    with within_limits():
        load_model(path)


def ome_metadata(folder: Path, data: st.DataObject) -> None:
    path = folder / "a.ome.zarr"
    values = np.arange(512, dtype="f4").reshape(8, 8, 8)
    create_image(path, Geometry(values.shape, (10.0,) * 3), "f4", (4, 8, 8))
    write_region(path, whole(values.shape), values)
    changed = path / data.draw(st.sampled_from(["zarr.json", "0/zarr.json"]))
    text = changed.read_bytes()
    if data.draw(st.integers(0, 3)):
        changed.write_text(json.dumps(data.draw(json_like(json.loads(text)))))
    else:
        changed.write_bytes(data.draw(bytes_like(text)))
    with within_limits():
        source = open_source(path)
        source.read((0, 0, 0), tuple(min(4, n) for n in source.shape))


_KEY = ("merge", "a", 0)
_RECORD = json.loads(DoneRecord(_KEY, "f", (("x.npz", 3, 5),), {"n": 1}, 1.0, 2).to_json())
_RUN = {
    "cryoscale": "1",
    "code": {},
    "model": "",
    "command": "",
    "until": "fit",
    "spec": {"merge": {"distance_nm": 2.0}},
}
_RUN |= {"tomograms": [{"id": "a", "source": "/a.mrc", "mask": "/a.mrc", "options": [["merge.distance_nm", 3.0]]}]}
_EVENTS = [
    {"at": 1.0, "event": "run", "tomograms": 2, "kept": 0},
    {"at": 2.0, "event": "phase", "id": "a", "stage": "fit", "units": 9},
    {"at": 3.0, "event": "done", "id": "a", "seconds": {"fit": 1.0}},
    {"at": 4.0, "event": "failed", "id": "a", "class": "TOMOGRAM"},
]
_FAILURE = {"id": "a", "class": "TOMOGRAM", "stage": "fit", "error": "E", "message": "m", "path": "p", "mark": "m"}
_FAILURE |= {"utc": "2026-01-01T00:00:00+00:00"}
_TIMES = {"wall_seconds": 0.0, "unit_seconds": 1.0, "units": 1, "skipped": 0, "peak_bytes": 1}
WORKINGS = "a/workings.tar"
PLAIN = ("run.json", "a/summary.json", "run.lock")
KNOWN = {
    "a/records/merge/000000.json": {k: v for k, v in _RECORD.items() if k != "crc32"},
    "a/records/units.jsonl": {k: v for k, v in _RECORD.items() if k != "crc32"} | {"key": ["fit", "a", 1]},
    "a/records/seal.json": {"mark": "m", "units": {"merge": [0]}, "files": [["summary.json", 1, 2]]},
    "a/failure.json": _FAILURE,
    "a/summary.json": {"id": "a", "times": {"merge": _TIMES}, "merge": {}},
    "run.lock": {"host": socket.gethostname(), "pid": 1, "started": 0.0},
    "run.json": _RUN,
    "seal.json": {"files": [["run.json", 1, 2]], "run": _RUN},
}


def archive(members: dict[str, bytes]) -> bytes:
    """Return a tar archive."""
    with io.BytesIO() as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as made:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                made.addfile(member, io.BytesIO(content))
        return stream.getvalue()


def records_of_a_run(folder: Path, data: st.DataObject) -> None:
    """Damage what a run left; a checksum that fits is put on invented content, as a hostile writer would."""
    for name, known in KNOWN.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(known) if name in PLAIN else sealed(known))
    lines = [sealed(event) for event in _EVENTS]
    (folder / WORKINGS).write_bytes(
        archive({"fits/1.npz": b"content" * 99, "../out.npz": b"x", "fits/../../out": b"x"})
    )
    changed = data.draw(st.sampled_from([*KNOWN, JOURNAL, WORKINGS]))
    if changed != WORKINGS and data.draw(st.booleans()):
        if changed == JOURNAL:
            lines.append(sealed(data.draw(json_like(data.draw(st.sampled_from(_EVENTS))))))
        else:
            found = data.draw(json_like(KNOWN[changed]))
            plain = changed in PLAIN or not isinstance(found, dict)
            (folder / changed).write_text(json.dumps(found) if plain else sealed(found))
    (folder / JOURNAL).write_text("\n".join(lines) + "\n")
    if data.draw(st.booleans()):
        (folder / changed).write_bytes(data.draw(bytes_like((folder / changed).read_bytes())))
    with within_limits():
        read_record(str(folder / "a"), _KEY, "f")
        read_seal(folder / "a")
        read_failure(folder / "a")
        kept_outcome(folder / "a", "a", "m")
        list(read_journal(folder))
    with within_limits():
        print_status(folder, as_json=True, everything=True, watch_seconds=0.0)
    with within_limits():
        for damage in find_damage(collection_of(folder)):
            # What is not as it was is removed: it must not lie elsewhere.
            assert (folder / damage.tomogram / damage.file).resolve().is_relative_to(folder.resolve())
    assert record_path(str(folder / "a"), _KEY).parent.is_dir()
    with within_limits(), contextlib.suppress(OSError):
        unpack(folder / "a")
    assert not [path for path in folder.rglob("out*") if path.is_file()]


def packed_meshes(folder: Path, data: st.DataObject) -> None:
    write_ply(folder / "a.ply", PlyMesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32)))
    whole = archive({f"meshes/membrane_000{n}.ply": (folder / "a.ply").read_bytes() for n in (1, 2)})
    (folder / "meshes.tar").write_bytes(data.draw(bytes_like(whole)))
    product = Product("a", folder, Geometry((8, 8, 8), (10.0,) * 3))
    with within_limits():
        for _ in product.meshes():
            pass
    with within_limits(), contextlib.suppress(OSError):
        unpack(folder)


TARGETS: list[Target] = [mrc_file, manifest_file, weights_file, ome_metadata, records_of_a_run, packed_meshes]


def _fuzz(target: Target, folder: Path, examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.data())
    def once(data: st.DataObject) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        target(folder, data)

    once()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_only_our_errors_within_limits(target: Target, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _fuzz(target, tmp_path / "in", 60)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_only_our_errors_however_long_one_tries(
    target: Target, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _fuzz(target, tmp_path / "in", 3000)
