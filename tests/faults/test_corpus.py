"""Every row of the corpus of bad inputs ends in its outcome and exit code, in the words of a `CryoscaleError`."""

from __future__ import annotations

import csv
import glob
import json
import re
from pathlib import Path

import pytest

from cryoscale.cli import main
from cryoscale.errors import CryoscaleError
from cryoscale.io.mrc import write_mrc
from tests.faults.corpus import EXITS, Row, rows, tomogram

ROWS = rows()
OPTIONS = ("--workers", "1")


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_row(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    results = []
    monkeypatch.setattr("cryoscale.summary.print_summary", results.append)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    words, output = row.make(tmp_path / "in"), tmp_path / "out"
    asked = ["--until", row.until] if row.until else ["--dry-run", "--typical-rates"]
    code = main(["run", *words, "--output", str(output), *OPTIONS, *asked])
    shown = "".join(capfd.readouterr())
    assert code == EXITS[row.outcome], shown
    assert "Traceback" not in shown
    assert not (tmp_path / "owned").exists()
    if row.outcome == "USAGE":
        assert row.code in shown
        assert shown.startswith("cryoscale: ")
        assert not re.search(r"[\x00-\x08\x0b-\x1f]", shown)
    elif row.until:
        _check_outcome(row, results[0].outcomes[0], words[0], output)


def _check_outcome(row: Row, outcome, path: str, output: Path) -> None:
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", outcome.id)
    if EXITS[row.outcome]:
        error = outcome.error
        assert isinstance(error, CryoscaleError)
        assert (type(error).__name__ == "AskError") == (row.outcome == "ASK")
        assert row.code in (getattr(error, "code", ""), error.what) or row.code in str(error)
        assert Path(path).name in str(error)
        return
    assert outcome.error is None, outcome.error
    summary = json.loads((output / outcome.id / "summary.json").read_text())["ingest"]
    assert summary["geometry"]["voxel_size_angstrom"] == pytest.approx([row.apix] * 3, rel=1e-3)
    json.dumps(summary, allow_nan=False)
    warnings = [text.split(":")[0] for text in summary["warnings"]]
    assert bool(warnings) == (row.outcome == "WARN")
    assert row.code in warnings or not row.code


def test_the_whole_corpus_leaves_five_good_ones_as_they_are_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """R2: none stops the collection or changes another's products; each that fails has its row."""
    listed, wanted = list[tuple[str, str]](), set[str]()
    for number, row in enumerate(ROWS):
        (folder := tmp_path / "in" / f"row{number}").mkdir(parents=True)
        words = row.make(folder) if row.until and row.outcome != "USAGE" else []
        several = any(Path(word).suffix in ("", ".csv", ".toml", ".txt") or glob.has_magic(word) for word in words)
        if len(words) == 1 and words[0].isprintable() and not several:
            listed.append((words[0], f"bad{number}"))
            wanted |= {f"bad{number}"} if EXITS[row.outcome] else set()
    bad = len(listed)
    good = [(str(tmp_path / "in" / f"good{number}.mrc"), f"good{number}") for number in range(5)]
    for number, (path, name) in enumerate(good):
        write_mrc(Path(path), tomogram(number), 10.0)
        # Among the others, and not after them all.
        listed.insert(number * bad // 5, (path, name))
    for name, lines in (("all", listed), ("good", good)):
        with (tmp_path / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([("path", "id"), *lines])
    outputs = []
    for name, code in (("all", 3), ("good", 0)):
        output = tmp_path / f"{name}-out"
        found = main(["run", str(tmp_path / f"{name}.csv"), "--output", str(output), *OPTIONS, "--until", "ingest"])
        shown = "".join(capfd.readouterr())
        assert found == code and "Traceback" not in shown, shown
        outputs.append(output)
    failures = (outputs[0] / "failures.csv").read_text(encoding="utf-8").splitlines()
    assert {row["id"] for row in csv.DictReader(failures)} == wanted and len(wanted) > 60 and bad > len(wanted)
    made = [{path.relative_to(output): path.read_bytes() for _, name in good
             for path in (output / name).rglob("c/*/*/*") if path.is_file()} for output in outputs]  # fmt: skip
    assert made[0] == made[1] and len(made[0]) >= 5


def test_no_row_is_there_twice() -> None:
    ids = [row.id for row in ROWS]
    assert len(set(ids)) == len(ids) > 200
