"""Rows of the corpus about what lists and names inputs: manifests, weights, names, things that are no files."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import save

from cryoscale.segment.unet import UNet
from cryoscale.segment.weights import save_model
from tests.faults.corpus import Make, Row, content, damaged
from tests.io.corpus import mrc

# --------------------------------------------------------------------------------------------------------- manifests


def listed(text: str | bytes, name: str = "run.csv") -> Make:
    """Make a manifest beside a good tomogram ``a.mrc`` and one outside its folder."""

    def make(folder: Path) -> Sequence[str]:
        (folder / "in").mkdir()
        (folder / "in" / "a.mrc").write_bytes(mrc())
        (folder / "outside.mrc").write_bytes(mrc())
        path = folder / "in" / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return [str(path)]

    return make


_ONE = '[[tomogram]]\npath = "a.mrc"\n'
_ODD_PATHS = ("../outside.mrc", "/etc/passwd", "~/a.mrc", "$HOME/a.mrc", "file://a.mrc", "s3://b/a.mrc", "a\0.mrc")

MANIFESTS = [
    Row("Y00", listed("path\na.mrc\n"), "OK"),
    Row("Y01", content(b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "run.yaml"), "REJECT", "short-header"),
    Row("Y02", content(b"!!python/object/apply:os.system ['touch owned']\n", "run.yaml"), "REJECT", "short-header"),
    Row("Y03-twice", listed("path,id,id\na.mrc,a,b\n"), "USAGE", "different names"),
    Row("Y03-twice-toml", listed(_ONE + 'path = "b.mrc"\n', "run.toml"), "USAGE", "not a TOML manifest"),
    *(
        Row(f"Y03-{text}", listed(f"path,apix\na.mrc,{text}\n"), "USAGE", "apix")
        for text in ("NO", "010", "12:30:45", "1_000", "nan", "inf", "0x10", "١٣")
    ),
    Row("Y03-1e1", listed("path,apix\na.mrc,1.348e1\n"), "OK"),
    Row("Y04-toml", listed("x = " + "[" * 100_000, "run.toml"), "USAGE", "not a TOML manifest"),
    Row("Y04-keys", listed("[[tomogram]]\n" + ".".join("a" * 50_000) + " = 1\n", "run.toml"), "USAGE"),
    *(Row(f"Y06-{n}", listed(f"path\n{path}\n"), "USAGE") for n, path in enumerate(_ODD_PATHS)),
    Row("Y06-newline", listed('path\n"a\nb.mrc"\n'), "USAGE"),
    Row("Y07-empty", listed(""), "USAGE", "not a CSV manifest"),
    Row("Y07-header", listed("path\n"), "USAGE", "no tomogram"),
    Row("Y07-unknown", listed("path,colour\na.mrc,red\n"), "USAGE", "unknown name"),
    Row("Y07-typo", listed("path,pixle_size\na.mrc,3\n"), "USAGE", "unknown name"),
    Row("Y07-near", listed("path,merge.distanc_nm\na.mrc,3\n"), "USAGE", "did you mean merge.distance_nm"),
    Row("Y08-bom", listed("\ufeffpath\r\na.mrc\r\n"), "OK"),
    Row("Y08-utf16", listed("path\na.mrc\n".encode("utf-16")), "USAGE", "not a CSV manifest"),
    Row("Y08-latin1", listed("path,id\na.mrc,é\n".encode("latin-1")), "USAGE", "not a CSV manifest"),
    Row("Y08-latin1-toml", listed((_ONE + 'id = "é"\n').encode("latin-1"), "run.toml"), "USAGE", "not a TOML"),
    Row("Y08-zeros", listed(bytes(512)), "USAGE"),
    Row("Y09-long-cell", listed("path\n" + "a" * 200_000 + "\n"), "USAGE"),
]

# ----------------------------------------------------------------------------------------------------------- weights


def weights(change: Callable[[Path], object], *, again: bool = True) -> Make:
    """Make a tomogram and a tiny network, whose file is changed; the card then agrees, so that only content is wrong.

    `again` False leaves the card as it was.
    """

    def make(folder: Path) -> Sequence[str]:
        (folder / "a.mrc").write_bytes(damaged(lambda values: None))
        path = folder / "net.safetensors"
        torch.manual_seed(0)
        save_model(path, UNet(slices_in=1, width=4, depth=1), {"voxel_size_angstrom": [8.0, 16.0]})
        change(path)
        card = path.with_suffix(".json")
        if again and card.is_file():
            known = json.loads(card.read_text())
            card.write_text(json.dumps(known | {"sha256": sha256(path.read_bytes()).hexdigest()}))
        (folder / "options.toml").write_text(f'[segment]\nmodel = "{path}"\n')
        return [str(folder / "a.mrc"), "--config", str(folder / "options.toml")]

    return make


def _header(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        raw = path.read_bytes()
        length = int.from_bytes(raw[:8], "little")
        known = json.loads(raw[8 : 8 + length])
        change(known)
        text = json.dumps(known).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])

    return edit


def _length(count: int) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(count.to_bytes(8, "little") + path.read_bytes()[8:])


def _twice(path: Path) -> None:
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    text = raw[8 : 8 + length].rstrip()
    text = text[:-1] + b',"head.bias":' + json.dumps(json.loads(text)["head.bias"]).encode() + b"}"
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


class _Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch owned",)


def _not_finite(path: Path) -> None:
    state = UNet(slices_in=1, width=4, depth=1).state_dict()
    state["head.bias"][0] = float("nan")
    path.write_bytes(save(state))


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-9] ^= 1
    path.write_bytes(raw)


def _other(path: Path) -> None:
    path.write_bytes(save(UNet(slices_in=1, width=5, depth=1).state_dict()))


def _less(path: Path) -> None:
    state = UNet(slices_in=1, width=4, depth=1).state_dict()
    del state["head.bias"]
    path.write_bytes(save(state))


_BIAS = "head.bias"
WEIGHTS = [
    Row("W00", weights(lambda path: None), "OK", until="segment"),
    *(
        Row(f"W0{name}", weights(change, again=name != "3-flip"), "USAGE", "net.", until="segment")
        for name, change in {
            "1": lambda path: path.write_bytes(pickle.dumps(_Trap())),
            "2": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(400)),
            "3-2^63": _length(2**63),
            "3-200MB": _length(200 << 20),
            "3-cut": lambda path: path.write_bytes(path.read_bytes()[:-40]),
            "3-hole": _header(lambda known: known[_BIAS].update(data_offsets=[8, 20])),
            "3-past": _header(lambda known: known[_BIAS].update(data_offsets=[2**40, 2**40 + 12])),
            "3-overflow": _header(lambda known: known[_BIAS].update(shape=[2**62, 2**62])),
            "3-type": _header(lambda known: known[_BIAS].update(dtype="X9")),
            "3-trailing": lambda path: path.write_bytes(path.read_bytes() + b"more"),
            "3-twice": _twice,
            "3-nan": _not_finite,
            "3-flip": _flip,
            "4-other": _other,
            "4-missing": _less,
            "5-no-card": lambda path: path.with_suffix(".json").unlink(),
        }.items()
    ),
]

# ------------------------------------------------------------------------------------------------- names, no files

NAMES = [
    "café", "cafe\u0301", "断層", "a\nb", "-rf", "a\tb", "\"a'", "x" * 247, os.fsdecode(b"caf\xe9"), "$(touch owned)",
    "%s%n", "=cmd|x", "CON", "dot.", "a#b", "00255", " a", "a;b", "[x]", "{id}", "~", "a\x1b]0;b\x07",
]  # fmt: skip


def _special(kind: str) -> Make:
    def make(folder: Path) -> Sequence[str]:
        path = folder / "case.mrc"
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "loop":
            path.symlink_to(path)
        elif kind == "dangling":
            path.symlink_to(folder / "none")
        elif kind == "folder":
            path.mkdir()
        elif kind == "device":
            return ["/dev/zero"]
        return [str(path)]

    return make


def _loop_above(folder: Path) -> Sequence[str]:
    (folder / "a.mrc").write_bytes(mrc())
    (folder / "up").symlink_to(folder)
    return [str(folder)]


def _same_id(folder: Path) -> Sequence[str]:
    for name in ("one/TS_01.mrc", "two/ts_01.mrc"):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(mrc())
    return [str(folder)]


ROWS = [
    *MANIFESTS,
    *WEIGHTS,
    *(Row(f"P{n:02d}", content(mrc(), f"{name}.mrc"), "OK") for n, name in enumerate(NAMES)),
    *(Row(f"F07-{kind}", _special(kind), "USAGE") for kind in ("fifo", "loop", "dangling", "folder", "device", "none")),
    Row("F07-above", _loop_above, "OK"),
    Row("F08", _same_id, "USAGE", "one id"),
]
