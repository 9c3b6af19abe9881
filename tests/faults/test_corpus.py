"""Every row of the corpus of bad inputs ends in its outcome and exit code, in the words of a `CryoscaleError`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cryoscale.cli import main
from cryoscale.errors import CryoscaleError
from tests.faults.corpus import EXITS, Row, rows

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


def test_no_row_is_there_twice() -> None:
    ids = [row.id for row in ROWS]
    assert len(set(ids)) == len(ids) > 200
