"""Each row of the MRC tables ends in its outcome, by its code, without allocating more than the file."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscale.errors import CryoscaleError
from cryoscale.io.inputs import AskError, InputError
from cryoscale.io.mrc import read_box, read_header
from cryoscale.io.source import open_source
from cryoscale.io.voxelsize import resolve_voxel_size
from tests.io.corpus import APIX, BODY, CASES, SHAPE, header, mrc

LIMIT_BYTES = 64 << 20


def verdict(path, *, stated=None, force=False, **options):
    """Return (outcome, codes)."""
    try:
        source = open_source(path, **options)
        _, notes = resolve_voxel_size(source.voxel_size_found_angstrom, stated, force=force, where=str(path))
    except AskError as error:
        return "ASK", [error.code], str(error)
    except InputError as error:
        return "REJECT", [error.code], str(error)
    codes = [code for code, _ in (*source.warnings, *notes)]
    return ("WARN" if codes else "OK"), codes, ""


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_row(case, tmp_path):
    path = case.write(tmp_path / "case.mrc")
    tracemalloc.start()
    try:
        outcome, codes, text = verdict(path, **case.options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (outcome, case.code in codes or not case.code) == (case.outcome, True), (codes, text)
    assert peak < LIMIT_BYTES
    if outcome in ("ASK", "REJECT"):
        assert str(path) in text
    if outcome == "ASK":
        assert "--apix" in text or "mode0_bytes" in text


def test_ids_are_unique_and_cover_the_tables():
    ids = [case.id for case in CASES]
    assert len(set(ids)) == len(ids)
    rows = {i.split("-")[0] for i in ids}
    # T06 needs the voxels and is tested with the plan of ingest.
    for letter, last in (("M", 9), ("D", 10), ("V", 11), ("A", 7), ("X", 6), ("L", 2), ("S", 1)):
        assert {f"{letter}{n:02d}" for n in range(1, last + 1)} <= rows
    assert {f"T{n:02d}" for n in range(1, 19) if n != 6} | {"T19a", "T19b"} <= rows


def test_hint_names_html(tmp_path):
    case = next(case for case in CASES if case.id == "T08")
    assert "HTML" in verdict(case.write(tmp_path / "a.mrc"))[2]


def test_missing_extended_header_names_cause_and_cure(tmp_path):
    case = next(case for case in CASES if case.id == "X05")
    text = verdict(case.write(tmp_path / "a.mrc"))[2]
    assert "1440" in text
    assert "--ignore-extended-header" in text
    fixed = read_header(tmp_path / "a.mrc", ignore_extended_header=True)
    np.testing.assert_array_equal(read_box(fixed, (0, 0, 0), SHAPE), BODY)


def test_five_gibibytes_are_read_by_windows(tmp_path):
    case = next(case for case in CASES if case.id == "T19b")
    read = read_header(case.write(tmp_path / "big.mrc"))
    tracemalloc.start()
    box = read_box(read, (1279, 1020, 1020), (1280, 1024, 1024))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert box[0, 3, 3] != 0
    assert not box.ravel()[:-1].any()
    assert peak < LIMIT_BYTES


def test_error_survives_pickling():
    error = pickle.loads(pickle.dumps(AskError("voxel-size-zero", "what", where="a", found=0, allowed="b", todo="c")))
    assert (type(error), error.code, str(error)) == (
        AskError,
        "voxel-size-zero",
        "a: what; found 0; allowed: b; to do: c",
    )


PATCHES = st.lists(
    st.tuples(
        st.one_of(st.sampled_from([4 * i for i in range(24)] + [92, 128, 152, 156, 208, 212]), st.integers(0, 1020)),
        st.one_of(
            st.sampled_from([0, 1, -1, 2, 3, 16, 101, 401, 2**31 - 1, -(2**31), 65536, 20141, 0x7FC00000]).map(
                lambda n: n.to_bytes(4, "little", signed=True)
            ),
            st.binary(min_size=1, max_size=4),
        ),
    ),
    max_size=4,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(patches=PATCHES, cut=st.one_of(st.none(), st.integers(0, 1024 + BODY.nbytes)), big=st.booleans())
def test_fuzzed_headers_raise_only_our_errors(tmp_path_factory, patches, cut, big):
    raw = bytearray(mrc(order=">" if big else "<"))
    for offset, value in patches:
        raw[offset : offset + len(value)] = value
    path = tmp_path_factory.getbasetemp() / "fuzz.mrc"
    path.write_bytes(bytes(raw[:cut]))
    tracemalloc.start()
    try:
        source = open_source(path)
        box = source.read((0, 0, 0), tuple(min(4, n) for n in source.shape))
        assert box.dtype == source.dtype
        resolve_voxel_size(source.voxel_size_found_angstrom, None)
    except CryoscaleError as error:
        assert str(path) in str(error) or error.code.startswith("voxel-size")
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < LIMIT_BYTES


@pytest.mark.parametrize(
    ("found", "stated", "expected"),
    [
        ((APIX, APIX, APIX), None, APIX),
        ((APIX, APIX, APIX), 0.0, APIX),
        ((1.0, 1.0, 1.0), 10.0, 10.0),
        (None, 12.0, 12.0),
        ((3881.28, 12.44, 12.44), 12.44, 12.44),
    ],
)
def test_voxel_size_resolved(found, stated, expected):
    assert resolve_voxel_size(found, stated)[0] == (expected,) * 3


@pytest.mark.parametrize("stated", [np.nan, np.inf, -1.0, 0.1, 1000.0])
def test_stated_voxel_size_out_of_range(stated):
    with pytest.raises(CryoscaleError, match="--apix"):
        resolve_voxel_size((APIX,) * 3, stated)


def test_both_values_are_printed():
    value, notes = resolve_voxel_size((13.0, 13.0, 13.0), 13.48)
    assert value == (13.48,) * 3
    assert "13.48" in notes[0][1]
    assert "13, 13, 13" in notes[0][1]
    assert resolve_voxel_size((13.48,) * 3, 13.48)[1] == ()


def test_control_characters_never_reach_the_message(tmp_path):
    path = tmp_path / "a\x1b]0;owned\x07.mrc"
    path.write_bytes(header())
    with pytest.raises(InputError) as caught:
        read_header(path)
    assert "\x1b" not in str(caught.value)
