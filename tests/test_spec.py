"""Options: TOML there and back, and a clear word about every mistake."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cryoscale.errors import UsageError
from cryoscale.spec import FitSpec, IngestSpec, MergeSpec, RunSpec, from_toml, to_toml


def test_defaults_survive_the_round_trip(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(to_toml(RunSpec()), encoding="utf-8")
    assert from_toml(tmp_path / "run.toml") == RunSpec()


def test_every_changed_value_survives_the_round_trip(tmp_path: Path) -> None:
    spec = RunSpec(
        ingest=IngestSpec(apix=13.68, chunk_voxels=(32, 64, 64)),
        merge=MergeSpec(mask_labels=(1, 3), separate_labels=True),
        fit=FitSpec(kernel="cubic"),
    )
    (tmp_path / "run.toml").write_text(to_toml(spec), encoding="utf-8")
    assert from_toml(tmp_path / "run.toml") == spec


def test_every_field_has_its_help() -> None:
    text = to_toml(RunSpec())
    for section in dataclasses.fields(RunSpec):
        for entry in dataclasses.fields(section.default_factory):
            position = text.index(f"\n{entry.name} = ", text.index(f"[{section.name}]"))
            assert text[:position].splitlines()[-1].startswith("# ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[fit]\nkernal = 'x'", "did you mean fit.kernel"),
        ("[fitt]\nkernel = 'cubic'", "did you mean fit"),
        ("[fit]\nkernel = 'gauss'", "auto, cubic, matern52"),
        ("[fit]\nbatch_membranes = 2.5", "allowed: int"),
        ("[fit]\nbatch_membranes = true", "allowed: int"),
        ("[ingest]\nchunk_voxels = [64, 64]", "a list of 3"),
        ("[ingest]\nchunk_voxels = [62, 64, 64]", "divisible"),
        ("[segment]\nscore_threshold = 1.5", "0 to 1"),
        ("[merge]\nminimum_volume_nm3 = nan", "a finite number"),
        ("[enhance]\nbilateral_sigma_nm = -1.0", "a finite number, 0 or more"),
        ("[enhance]\nclahe_clip_limit = 7", "0 to 1"),
        ("fit = 3", "a section is expected"),
        ("[fit\n", "cannot be read"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(UsageError, match=r"run.toml|ingest|segment|fit|merge|enhance") as error:
        from_toml(tmp_path / "run.toml")
    assert says in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml"):
        from_toml(tmp_path / "none.toml")
