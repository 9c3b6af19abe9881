"""Sources to entries: every kind of source, unique safe ids, masks matched, traps avoided."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cryoscale.errors import UsageError
from cryoscale.manifest import entries


def ids(*sources: object, masks: str = "") -> list[str]:
    return [entry.id for entry in entries([str(source) for source in sources], masks)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.mrc", "a.rec", "sub/c.mrc.gz", "d.TIF", "notes.pdf", "e.ome.zarr/zarr.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_a_folder_is_searched(folder: Path) -> None:
    assert ids(folder) == ["a", "b", "d", "e", "c"]


def test_globs_lists_and_files(folder: Path) -> None:
    (folder / "list.txt").write_text("# mine\nb.mrc\n\nsub/c.mrc.gz\r\n")
    assert ids(folder / "list.txt") == ["b", "c"]
    assert ids(f"{folder}/*.mrc") == ["b"]
    assert ids(f"{folder}/**/*.mrc*") == ["b", "c"]
    assert ids(folder / "a.rec") == ["a"]


def test_one_file_with_two_names_is_taken_once(folder: Path) -> None:
    os.link(folder / "b.mrc", folder / "z.mrc")
    assert ids(folder / "b.mrc", folder / "z.mrc", folder / "b.mrc") == ["b"]


def test_a_link_to_a_folder_above_is_no_endless_way(folder: Path) -> None:
    (folder / "sub" / "up").symlink_to(folder)
    assert ids(folder) == ["a", "b", "d", "e", "c"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("TS 01 (b).mrc", "TS_01_b"), ("café.mrc", "cafe"), ("断層.mrc", "tomogram"), ("-rf.mrc", "rf"),
        ("a\nb.mrc", "a_b"), ("x" * 240 + ".mrc", "x" * 100), ("=cmd|x.mrc", "cmd_x"), ("$(touch x).mrc", "touch_x"),
    ],
)  # fmt: skip
def test_ids_are_safe(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert ids(tmp_path) == [expected]


@pytest.mark.parametrize("other", ["two/TS_01.mrc", "two/ts_01.rec", "two/TS 01.mrc"])
def test_equal_ids_are_refused_with_both_paths(tmp_path: Path, other: str) -> None:
    for name in ("one/TS_01.mrc", other):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UsageError, match=r"one/TS_01.mrc and .*two/"):
        ids(tmp_path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mrc")
    with pytest.raises(UsageError, match="not a regular file"):
        ids(tmp_path / "pipe.mrc")
    with pytest.raises(UsageError, match="no such file"):
        ids(tmp_path / "none.mrc")
    with pytest.raises(UsageError, match="no tomogram found"):
        ids(tmp_path)


def test_what_cannot_be_looked_into_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "gone.mrc").symlink_to(folder / "nothing.mrc")
    with pytest.raises(UsageError, match=r"gone\.mrc: cannot be looked into"):
        ids(f"{folder}/*.mrc")
    (folder / "mine.txt").write_text("mine.txt\n")
    with pytest.raises(UsageError, match="lists itself"):
        ids(folder / "mine.txt")
    (folder / "mine.txt").write_bytes("é.mrc\n".encode("latin-1"))
    with pytest.raises(UsageError, match="not UTF-8"):
        ids(folder / "mine.txt")
    with pytest.raises(UsageError, match="cannot be looked into"):
        ids("x" * 300 + ".mrc")
    scan = os.scandir

    def closed(path: str) -> object:
        if str(path).rstrip("/").endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    # Its tomograms would be missing without a word.
    monkeypatch.setattr("os.scandir", closed)
    with pytest.raises(UsageError, match="sub: cannot be looked into; found Permission denied"):
        ids(folder)
    for pattern in ("*/*.mrc", "**/*.mrc", "s*/*.mrc"):
        with pytest.raises(UsageError, match="sub/: cannot be looked into; found Permission denied"):
            ids(f"{folder}/{pattern}")
    look = os.stat

    def shut(path: str, **more: object) -> object:
        if str(path).endswith("sub/."):
            raise PermissionError(13, "Permission denied", path)
        return look(path, **more)

    monkeypatch.setattr("os.stat", shut)
    with pytest.raises(UsageError, match=r"sub/\.: cannot be looked into"):
        ids(f"{folder}/*/none.mrc")


@pytest.mark.parametrize("pattern", ["{stem:>30}", "{stem!r}", "{stem.__class__}", "{path[0]}", "{}"])
def test_a_pattern_names_nothing_but_what_it_may(folder: Path, pattern: str) -> None:
    with pytest.raises(UsageError, match="cannot be filled"):
        entries([str(folder / "b.mrc")], pattern)


def test_masks_are_matched(folder: Path) -> None:
    (folder / "masks").mkdir()
    (folder / "masks" / "b_seg.mrc").write_bytes(b"x")
    (entry,) = entries([str(folder / "b.mrc")], f"{folder}/masks/{{stem}}_seg.mrc")
    assert entry.mask == str(folder / "masks" / "b_seg.mrc")
    (entry,) = entries([str(folder / "b.mrc")], "{path}")
    assert entry.mask == entry.source
    with pytest.raises(UsageError, match="one mask per tomogram"):
        entries([str(folder / "a.rec")], f"{folder}/masks/{{stem}}_seg.mrc")
    with pytest.raises(UsageError, match="cannot be filled"):
        entries([str(folder / "a.rec")], "{nonsense}")
