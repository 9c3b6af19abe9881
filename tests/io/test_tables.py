"""CSV against the csv module and hypothesis."""

import csv
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscale.errors import TomogramError
from cryoscale.io.tables import read_csv, write_csv


def plain(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def test_cells(tmp_path):
    row = ['vesicle, "big"\nsecond line', 3, -2.5, True, None, math.nan, np.float32(0.1), np.int32(-7), np.False_]
    write_csv(tmp_path / "a.csv", list("abcdefghi"), [row])
    assert plain(tmp_path / "a.csv") == [
        list("abcdefghi"),
        ['vesicle, "big"\nsecond line', "3", "-2.5", "yes", "", "", "0.1", "-7", "no"],
    ]


@pytest.mark.parametrize("text", ["=1+1", "+a", "-1+1", "-", "@A1", "\tx", "\rx", "=cmd|' /C x'!A0", "'=x", "''-x"])
def test_formulas_are_disarmed_and_come_back(tmp_path, text):
    write_csv(tmp_path / "a.csv", ["name"], [[text]])
    assert plain(tmp_path / "a.csv")[1] == ["'" + text]
    assert read_csv(tmp_path / "a.csv") == [{"name": text}]


@pytest.mark.parametrize(
    "text",
    ["", "'", "it's", "'quoted'", "a=b", " =1", "00255", "-1.5", "+2e-3", "'-1", "断層", "$(touch x)", "%s%n"],
)
def test_harmless_text_is_left_alone(tmp_path, text):
    write_csv(tmp_path / "a.csv", ["name", "n"], [[text, 1]])
    assert plain(tmp_path / "a.csv")[1] == [text, "1"]
    assert read_csv(tmp_path / "a.csv") == [{"name": text, "n": "1"}]


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_any_text_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("t") / "a.csv"
    clean = [tuple(cell.encode("utf-8", "backslashreplace").decode() for cell in row) for row in rows]
    write_csv(path, ["a", "b"], clean)
    assert [tuple(row.values()) for row in read_csv(path)] == clean


def test_a_name_that_is_not_utf8_does_not_stop_the_table(tmp_path):
    write_csv(tmp_path / "a.csv", ["source"], [[b"tomo\xff.mrc".decode("utf-8", "surrogateescape")]])
    assert read_csv(tmp_path / "a.csv") == [{"source": "tomo\\udcff.mrc"}]


def test_bad_tables_are_refused(tmp_path):
    with pytest.raises(ValueError, match="differ"):
        write_csv(tmp_path / "a.csv", ["a", "a"], [])
    with pytest.raises(ValueError, match="row 1 has 1"):
        write_csv(tmp_path / "a.csv", ["a", "b"], [[1, 2], [1]])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"a,a\n1,2\n", b"a,b\n1\n", b"a\n\xff\n", b'a\n"open\n'])
def test_damaged_csv_is_refused(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(TomogramError, match=r"a\.csv"):
        read_csv(tmp_path / "a.csv")
