"""Manifests: CSV and TOML say the same, strictly typed; a fault is named with its row and the nearest right name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cryoscale.cli import main
from cryoscale.errors import UsageError
from cryoscale.manifest import Entry, entries, manifest_lines
from cryoscale.spec import RunSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("raw/TS_01.mrc", "raw/TS_02.mrc", "masks/TS_02_seg.mrc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def read(folder: Path, text: str | bytes, name: str = "run.csv", **options: object) -> list[Entry]:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return entries([str(folder / name)], **options)


CSV = """path,id,apix,masks,merge.distance_nm,ingest.chunk_voxels,separate.enabled,merge.mask_labels
raw/TS_01.mrc,first,13.48,,,16 32 32,,
raw/TS_02.mrc,,,masks/{stem}_seg.mrc,3.0,,false,1 2
"""
TOML = """
[[tomogram]]
path = "raw/TS_01.mrc"
id = "first"
apix = 13.48
ingest.chunk_voxels = [16, 32, 32]

[[tomogram]]
path = "raw/TS_02.mrc"
masks = "masks/{stem}_seg.mrc"
[tomogram.merge]
distance_nm = 3
mask_labels = [1, 2]
[tomogram.separate]
enabled = false
"""


@pytest.mark.parametrize("text", [CSV, CSV.replace("\n", "\r\n"), "\ufeff" + CSV, CSV + "\n\n"])
def test_both_formats_say_the_same(folder: Path, text: str) -> None:
    first, second = read(folder, text)
    assert (first.id, first.source, first.mask) == ("first", str(folder / "raw" / "TS_01.mrc"), "")
    assert (second.id, second.mask) == ("TS_02", str(folder / "masks" / "TS_02_seg.mrc"))
    spec = first.spec_over(RunSpec())
    assert (spec.ingest.apix, spec.ingest.chunk_voxels, spec.merge.distance_nm) == (13.48, (16, 32, 32), 2.0)
    spec = second.spec_over(RunSpec())
    assert (spec.merge.distance_nm, spec.merge.mask_labels, spec.separate.enabled) == (3.0, (1, 2), False)
    assert read(folder, TOML, "run.toml") == [first, second]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a CSV manifest"),
        ("path\n", "no tomogram in the manifest"),
        ("path,id,id\nraw/TS_01.mrc,a,b\n", "a header of different names"),
        ("path,pixle_size\nraw/TS_01.mrc,3\n", "unknown name"),
        ("path,merge.distanc_nm\nraw/TS_01.mrc,3\n", "did you mean merge.distance_nm?"),
        ("path,mask\nraw/TS_01.mrc,3\n", "did you mean masks?"),
        ("path,id\nraw/TS_01.mrc\n", "line 2: not a CSV table"),
        ("path,apix\nraw/TS_01.mrc,\nraw/TS_02.mrc,13.5Å\n", r"line 3: apix: wrong type; found '13.5Å'"),
        *((f"path,apix\nraw/TS_01.mrc,{bad}\n", "apix") for bad in ("nan", "1_000", "010", "-3", "0", "1e9", "12:30")),
        ("path,merge.distance_nm\nraw/TS_01.mrc,-1\n", "line 2: merge.distance_nm: value not allowed"),
        ("path,separate.enabled\nraw/TS_01.mrc,NO\n", "true or false"),
        ("path,fit.batch_membranes\nraw/TS_01.mrc,2.5\n", "a whole number"),
        ("path,ingest.chunk_voxels\nraw/TS_01.mrc,16 32\n", "a list of 3"),
        ("path,apix,ingest.apix\nraw/TS_01.mrc,3,3\n", "said twice"),
        ("path,id\n,a\n", "a row without a path"),
        ("path,id\nraw/TS_01.mrc,a/b\n", "not an id"),
        ("path,id\nraw/TS_01.mrc,-rf\n", "not an id"),
        ("path,id\nraw/TS_01.mrc,report.html\n", "the run has a file of this name"),
        ("path,id\nraw/TS_01.mrc,a\nraw/TS_02.mrc,A\n", "two tomograms would have one id"),
        ("path,masks\nraw/TS_01.mrc,none.mrc\n", "one mask per tomogram"),
        (CSV.encode("utf-16"), "not a CSV manifest"),
        ("path,id\nraw/TS_01.mrc,é\n".encode("latin-1"), "not a CSV manifest"),
    ],
)  # fmt: skip
def test_faults_of_a_table_are_named(folder: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read(folder, text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no tomogram in the manifest"),
        ("[[tomograms]]\n", "did you mean tomogram?"),
        ("tomogram = 3\n", "not a list of tomograms"),
        ('[[tomogram]]\npath = "raw/TS_01.mrc"\npath = "b"\n', "not a TOML manifest"),
        ('[[tomogram]]\npath = "raw/TS_01.mrc"\nmerge.distance = 3\n', "did you mean merge.distance_nm?"),
        ('[[tomogram]]\npath = "raw/TS_01.mrc"\napix = "13"\n', "tomogram 1: apix: wrong type"),
        ('[[tomogram]]\npath = "raw/TS_01.mrc"\napix = nan\n', "apix: value not allowed"),
        ('[[tomogram]]\npath = "raw/TS_01.mrc"\nid = 2024-01-01\n', "wrong type"),
        ("x = " + "[" * 100_000 + "]" * 100_000, "not a TOML manifest"),
    ],
)
def test_faults_of_a_toml_manifest_are_named(folder: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read(folder, text, "run.toml")


@pytest.mark.parametrize("path", ["../outside.mrc", "{root}/outside.mrc", "raw/link.mrc", "up/outside.mrc"])
def test_inputs_lie_below_the_roots(tmp_path: Path, folder: Path, path: str) -> None:
    inside = folder / "inside"
    (inside / "raw").mkdir(parents=True)
    (folder / "outside.mrc").write_bytes(b"x")
    (inside / "raw" / "link.mrc").symlink_to(folder / "outside.mrc")
    (inside / "up").symlink_to(folder)
    text = f"path,id\n{path.format(root=folder)},a\n"
    with pytest.raises(UsageError, match="outside the folders"):
        read(inside, text)
    (entry,) = read(inside, text, roots=[folder])
    assert Path(entry.source).samefile(folder / "outside.mrc")


@pytest.mark.parametrize("mask", ["../outside.mrc", "raw/link.mrc", "{folder}/link.mrc", "{folder}/../../outside.mrc"])
def test_masks_lie_there_too(tmp_path: Path, folder: Path, mask: str) -> None:
    inside = folder / "inside"
    (inside / "raw").mkdir(parents=True)
    (inside / "raw" / "a.mrc").write_bytes(b"x")
    (folder / "outside.mrc").write_bytes(b"x")
    (inside / "raw" / "link.mrc").symlink_to(folder / "outside.mrc")
    text = f"path,masks\nraw/a.mrc,{mask}\n"
    with pytest.raises(UsageError, match="masks: outside the folders"):
        read(inside, text)
    (entry,) = read(inside, text, roots=[folder])
    assert Path(entry.mask).samefile(folder / "outside.mrc")


def test_a_row_s_mask_may_be_said_by_its_own_folder(folder: Path) -> None:
    (folder / "raw" / "TS_01_{1}.mrc").write_bytes(b"x")
    (one,) = read(folder, "path,masks\nraw/TS_01.mrc,{folder}/{stem}_{{1}}.mrc\n")
    assert one.mask == str(folder / "raw" / "TS_01_{1}.mrc")
    (same,) = read(folder, "".join(manifest_lines([one])))
    assert same.mask == one.mask
    (itself,) = read(folder, "path,masks\nraw/TS_01.mrc,{path}\n")
    assert itself.mask == itself.source


@pytest.mark.parametrize("path", ["~/a.mrc", "$HOME/a.mrc", "s3://bucket/a.mrc", "a\0b.mrc", "*.mrc", "none.mrc"])
def test_paths_are_taken_as_they_are(folder: Path, path: str) -> None:
    with pytest.raises(UsageError, match=r"no such file|not a CSV"):
        read(folder, f"path,id\n{path},a\n")


def test_a_pipe_is_no_input(folder: Path) -> None:
    os.mkfifo(folder / "pipe.mrc")
    with pytest.raises(UsageError, match="not a regular file"):
        read(folder, "path\npipe.mrc\n")


def test_one_file_with_two_sets_of_options_is_two_tomograms(folder: Path) -> None:
    found = read(folder, "path,id,merge.distance_nm\nraw/TS_01.mrc,near,2\nraw/TS_01.mrc,far,9\n")
    assert [entry.spec_over(RunSpec()).merge.distance_nm for entry in found] == [2.0, 9.0]


def test_what_is_printed_can_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    (folder / "raw" / "=a, b.mrc").write_bytes(b"x")
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "sub" / "deep" / "TS_01.mrc").write_bytes(b"x")
    assert main(["manifest", "**/*.mrc"]) == 2
    assert "--folder-ids" in capsys.readouterr().err
    assert main(["manifest", "raw", "sub", "--folder-ids"]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0] == "path,id,apix"
    assert [entry.id for entry in read(folder, text)] == ["raw_a_b", "raw_TS_01", "raw_TS_02", "sub_deep_TS_01"]


def test_a_name_that_is_not_text_fits_no_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.mrc")).write_bytes(b"x")
    assert main(["manifest", str(tmp_path)]) == 2
    assert "not UTF-8" in capsys.readouterr().err


def test_a_hundred_thousand_rows_are_read(folder: Path) -> None:
    rows = "".join(f"raw/TS_01.mrc,TS_{n},{10 + n / 1e5:.5f}\n" for n in range(100_000))
    found = read(folder, "path,id,apix\n" + rows)
    assert len(found) == 100_000
    assert found[-1].options == (("ingest.apix", 10.99999),)
    with pytest.raises(UsageError, match="two tomograms would have one id"):
        read(folder, "path,id,apix\n" + rows + "raw/TS_02.mrc,ts_77777,\n")
