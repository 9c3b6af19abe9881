"""Parquet read back by the reader of the same library; types, empty cells, groups of rows."""

import arro3.io
import numpy as np
import pytest

from cryoscale.io import parquet
from cryoscale.io.parquet import write_parquet


def read(path):
    table = arro3.io.read_parquet(path).read_all()
    return {name: table.column(name).to_pylist() for name in table.column_names}, table


def test_types_and_empty_cells(tmp_path):
    columns = {
        "number": [1, 2, None],
        "area_nm2": [1.5, None, 3],
        "closed": [True, None, False],
        "reason": ["", "öffen", None],
        "nothing": [None, None, None],
        "x": np.array([1.0, np.nan, 3.0], np.float32),
        "seen": np.array([True, False, True]),
    }
    write_parquet(tmp_path / "a.parquet", columns)
    found, table = read(tmp_path / "a.parquet")
    assert found["number"] == [1, 2, None] and found["area_nm2"] == [1.5, None, 3.0]
    assert found["closed"] == [True, None, False] and found["reason"] == ["", "öffen", None]
    assert found["nothing"] == [None] * 3 and found["seen"] == [True, False, True]
    assert found["x"][0] == 1 and np.isnan(found["x"][1])
    assert str(table.schema.field("x").type).count("Float32") == 1
    assert list(found) == list(columns)


def test_groups_of_rows_change_nothing(tmp_path, monkeypatch):
    values = np.random.default_rng(0).normal(size=100)
    texts = [None] * 60 + ["a"] * 40
    write_parquet(tmp_path / "one.parquet", {"v": values, "t": texts})
    monkeypatch.setattr(parquet, "_ROWS", 7)
    write_parquet(tmp_path / "many.parquet", {"v": values, "t": texts})
    one, many = read(tmp_path / "one.parquet")[0], read(tmp_path / "many.parquet")[0]
    assert one == many and one["v"] == values.tolist() and one["t"] == texts


def test_no_rows(tmp_path):
    write_parquet(tmp_path / "a.parquet", {"v": np.zeros(0), "t": []})
    assert read(tmp_path / "a.parquet")[0] == {"v": [], "t": []}


def test_lengths_must_agree(tmp_path):
    with pytest.raises(ValueError, match="one length"):
        write_parquet(tmp_path / "a.parquet", {"v": [1], "t": []})
    assert list(tmp_path.iterdir()) == []


def test_the_same_columns_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_parquet(tmp_path / name, {"v": np.arange(1000.0), "t": ["x"] * 1000})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
