"""Options: physical lengths to voxels, and the mistakes that are named."""

from __future__ import annotations

import dataclasses

import pytest

from cryoscale.connect import ConnectOptions, options_in_voxels
from cryoscale.errors import UsageError
from cryoscale.spec import ConnectSpec, MergeSpec, RunSpec


def test_lengths_follow_the_voxel_size_and_the_rest_does_not() -> None:
    spec = ConnectSpec()
    coarse, fine = options_in_voxels(spec, 20.0), options_in_voxels(spec, 10.0)
    assert fine.gap_voxels == pytest.approx(spec.gap_nm)
    assert coarse.gap_voxels == pytest.approx(spec.gap_nm / 2)
    assert (fine.minimum_length_voxels, coarse.minimum_length_voxels) == (10, 5)
    assert fine.tangent_voxels == 25
    lengths = {"half_view_voxels", "minimum_length_voxels", "gap_voxels", "tangent_voxels"}
    for entry in dataclasses.fields(ConnectOptions):
        if entry.name not in lengths:
            assert getattr(fine, entry.name) == getattr(coarse, entry.name) == getattr(spec, entry.name)


def test_the_defaults_are_those_of_a_usual_tomogram() -> None:
    usual, default = options_in_voxels(ConnectSpec(), 13.68), ConnectOptions()
    for entry in dataclasses.fields(ConnectOptions):
        assert getattr(usual, entry.name) == pytest.approx(getattr(default, entry.name), rel=0.02)


def test_a_view_and_a_direction_never_vanish() -> None:
    options = options_in_voxels(ConnectSpec(view_nm=0.1, tangent_nm=0.1, minimum_length_nm=0.0), 30.0)
    assert (options.half_view_voxels, options.tangent_voxels, options.minimum_length_voxels) == (2, 5, 2)


@pytest.mark.parametrize("voxel_size", [0.0, -1.0, float("nan")])
def test_a_voxel_size_that_is_none(voxel_size: float) -> None:
    with pytest.raises(ValueError, match="voxel_size_angstrom"):
        options_in_voxels(ConnectSpec(), voxel_size)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("view_nm", 0.0), ("gap_nm", 0.0), ("tangent_nm", -1.0), ("distance_cost", float("nan")), ("episodes", 0),
        ("actions_per_episode", 0), ("exploration", 1.5), ("learning_rate", 0.0), ("discount", 1.1), ("seed", -1),
        ("closing_reward", 0.0), ("dearest_join", 0.0),
    ],
)  # fmt: skip
def test_values_no_walk_could_use(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"connect.{name}"):
        RunSpec(connect=ConnectSpec(**{name: value}))


def test_the_switch_names_both_ways() -> None:
    assert RunSpec().merge.connect == "regions"
    assert RunSpec(merge=MergeSpec(connect="qlearning")).merge.connect == "qlearning"
    with pytest.raises(UsageError, match="regions, qlearning"):
        RunSpec(merge=MergeSpec(connect="walker"))
