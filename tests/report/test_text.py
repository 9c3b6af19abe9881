"""Text that is safe on a page."""

from __future__ import annotations

import doctest

import pytest

import cryoscale.report.text as text
from cryoscale.report.text import amount, cell, clean, column_head, duration, error_column, size_of


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("\" onload='x' &", "&quot; onload=&#x27;x&#x27; &amp;"),
        ("\x1b[31mred\x1b[0m\x00\r\n", "[31mred[0m"),
        ("right\u202eleft\u200b", "rightleft"),
        ("torn \udcff name", "torn  name"),
        ("tab\tin", "tabin"),
    ],
)
def test_clean_leaves_nothing_that_acts(given: str, expected: str) -> None:
    assert clean(given) == expected


def test_clean_cuts_before_it_escapes() -> None:
    assert clean("<" * 500, longest=10) == "&lt;" * 9 + "…"
    assert clean("a\nb\x07", lines=True) == "a\nb"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("area_nm2", "12345.678", ("12\u202f346", True)),
        ("mean_sd_nm", "0.51234", ("0.512", True)),
        ("fraction_inferred", "0.1234", ("12", True)),
        ("fraction_inferred", "0", ("0", True)),
        ("voxels", "1234567", ("1\u202f234\u202f567", True)),
        ("id", "7", ("7", True)),
        ("shift_nm", "-2.5", ("−2.50", True)),
        ("volume", "nan", ("–", True)),
        ("reason", "<b>", ("&lt;b&gt;", False)),
        ("reason", "", ("", False)),
    ],
)
def test_cells(name: str, value: str, expected: tuple[str, bool]) -> None:
    assert cell(name, value) == expected


def test_units_come_from_names() -> None:
    assert column_head("area_nm2") == ("area", "nm²")
    assert column_head("thickness_defocus_um") == ("thickness defocus", "µm")
    assert column_head("fraction_inferred") == ("inferred", "%")
    assert column_head("closed") == ("closed", "")


def test_amounts() -> None:
    assert [amount(v) for v in (0, 1234.5, float("inf"), 1e-9)] == ["0", "1234", "–", "0.000000"[:1] + ".000000"]
    assert duration(3600) == "1 h 0 min"
    assert duration(60) == "1 min"
    assert size_of(2.5 * 1024**3) == "2.50 GiB"


def test_examples() -> None:
    assert doctest.testmod(text).failed == 0


def test_standard_errors_follow_their_values() -> None:
    assert error_column("mean_curvature_per_nm") == "mean_curvature_se_per_nm"
    assert error_column("gaussian_curvature_per_nm2") == "gaussian_curvature_se_per_nm2"
    assert column_head("proteins_per_um2") == ("proteins", "µm⁻²")
