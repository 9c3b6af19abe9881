"""Every option of a run: one frozen dataclass per stage, defaults in the code, TOML in and out.

The text under a field is its help, printed by ``cryoscale config`` above the field's default. Sizes are physical
(nm, nm3, ångström) so that one configuration holds for every voxel size; only chunk shapes count voxels.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import math
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryoscale.errors import UsageError

__all__ = [
    "ConnectSpec", "EnhanceSpec", "FitSpec", "IngestSpec", "MeasureSpec", "MergeSpec", "ReportSpec", "RunSpec",
    "SegmentSpec", "SeparateSpec", "SurfaceSpec", "from_toml", "spec_from", "to_toml", "typed", "unknown_name",
]  # fmt: skip


@dataclass(frozen=True)
class IngestSpec:
    """Tomogram to chunked OME-Zarr."""

    apix: float = 0.0
    """Voxel size in ångström; 0 takes the header's, and refuses a header that does not state one."""
    force_apix: bool = False
    """Take `apix` even where it differs from the header by a factor of ten."""
    mode0_bytes: str = ""
    """How the bytes of MRC mode 0 are meant, signed or unsigned; empty follows the header, and asks in doubt."""
    chunk_voxels: tuple[int, int, int] = (64, 128, 128)
    """Chunk of every volume, z, y, x; z divisible by 4."""
    pyramid_levels: int = 3
    """Resolution levels of the ingested tomogram."""
    wait_stable_seconds: float = 0.0
    """Take a file only after it stayed the same for so long: for folders that a microscope is still writing to."""
    ignore_extended_header: bool = False
    """Read the data right after the 1,024-byte header, for files that declare an extended header they do not have."""


@dataclass(frozen=True)
class EnhanceSpec:
    """Bilateral filter and CLAHE, slice by slice (preprint section 3)."""

    enabled: bool = False
    """Write an enhanced copy for people to look at; the network reads it only where its card asks for it."""
    bilateral_sigma_nm: float = 1.5
    """Spatial sd of the bilateral filter."""
    bilateral_sigma_intensity: float = 1.0
    """Intensity sd of the bilateral filter, in units of the tomogram's own sd."""
    clahe_clip_limit: float = 0.01
    """Contrast limit of the adaptive histogram equalisation, 0 to 1."""
    clahe_tile_nm: float = 60.0
    """Edge of the tiles whose histograms are equalised."""


@dataclass(frozen=True)
class SegmentSpec:
    """Inference of the network."""

    model: str = ""
    """Weights file (.safetensors with its .json card); empty takes the shipped one."""
    score_threshold: float = 0.0
    """Membrane score from which a voxel is membrane, 0 to 1; 0 takes that of the model's card (0.5; twohead 0.95)."""
    region_voxels: int = 512
    """Edge in y and x of what the network sees at once, without the halo; more memory, less overlap."""
    batch_slices: int = 4
    """Slices per forward pass on a GPU (one at a time is fastest on a CPU); never changes the result."""
    rescale: bool = True
    """Show the network a tomogram of a voxel size it does not know at the nearest one that it knows."""
    symmetries: bool = False
    """Average the scores over the eight flips and quarter turns of each slice, at eight times the cost."""
    precision: str = "auto"
    """float32, bfloat16 (`cryoscale doctor` says for which CPUs), or auto: bfloat16 on a GPU, float32 on a CPU."""
    score_type: str = "uint8"
    """How scores are stored: uint8 (in steps of 1/255) or float16."""


@dataclass(frozen=True)
class MergeSpec:
    """Union-find over membrane voxels (paper section 4.2)."""

    distance_nm: float = 2.0
    """Voxels closer than this belong to one membrane; at least the diagonal of a voxel is used."""
    minimum_volume_nm3: float = 2000.0
    """Smaller regions are dropped."""
    mask_labels: tuple[int, ...] = ()
    """Values of a given mask that are membrane; empty takes every value but 0."""
    mask_threshold: float = 0.5
    """Score from which a given floating-point mask is membrane."""
    separate_labels: bool = False
    """Keep different values of a given mask apart: another tool's instances or classes."""
    minimum_protein_nm3: float = 60.0
    """Smaller protein components are dropped."""
    connect: str = "regions"
    """regions (distance in 3-D) or qlearning (a walker that learns, slice by slice; its options are in [connect])."""


@dataclass(frozen=True)
class LocateSpec:
    """Proteins."""

    radius_nm: float = 0.0
    """Radius of the proteins: larger components are taken apart (mean shift). 0: a component is a protein."""


@dataclass(frozen=True)
class SeparateSpec:
    """Which voxels of a group are one membrane, by shape (paper section 4.2, the predicate)."""

    enabled: bool = True
    """Tell touching membranes apart and join pieces over gaps, by shape; without it a membrane is what lies within
    merge.distance_nm. Not used with merge.separate_labels or merge.connect = qlearning."""
    join_nm: float = 10.0
    """What lies within this is looked at together. Pieces farther apart join where their edges foretell each other."""


@dataclass(frozen=True)
class JoinSpec:
    """What a join of two segments costs, and how the walker learns which to take."""

    distance_cost: float = 1.0
    """Cost of a join across the widest gap; shorter gaps cost in proportion."""
    angle_cost: float = 2.0
    """Cost of a right angle between the joining line and a segment's end: times 1 - cos, at either end."""
    curvature_cost: float = 0.25
    """Cost of curvatures that differ by one over the tangent length."""
    dearest_join: float = 2.2
    """Joins that cost more are not tried."""
    closing_reward: float = 6.0
    """Reward for coming back to the segment the walk began with; a closed membrane's joins cost less in all."""
    dearest_open_join: float = 0.6
    """Segments in no closed membrane are joined up to this cost; 0 leaves each to itself."""
    episodes: int = 1000
    """Walks tried from each segment."""
    actions_per_episode: int = 30
    """A walk that has not come back after so many joins has failed."""
    exploration: float = 0.9
    """Share of random choices in the first walk; decays to a hundredth of it in the last."""
    learning_rate: float = 0.8
    """Weight of a new experience in the first walk; decays to a tenth of it in the last."""
    discount: float = 1.0
    """Weight of the rewards to come, 0 to 1; below 1, short membranes are preferred."""


@dataclass(frozen=True)
class ConnectSpec(JoinSpec):
    """Tracing and Q-learning, slice by slice (paper section 4.1); used where merge.connect is qlearning."""

    view_nm: float = 15.0
    """Edge of the walker's square field of view; at least twice the thickness of a segmented membrane."""
    minimum_length_nm: float = 10.0
    """Shorter traced segments are dropped."""
    gap_nm: float = 80.0
    """Widest gap between two segments that a join may bridge."""
    tangent_nm: float = 25.0
    """Length of a segment's end over which its direction and curvature are measured."""
    seed: int = 0
    """Seed of the random choices; the same seed gives the same membranes."""


@dataclass(frozen=True)
class FitSpec:
    """Gaussian-process implicit surfaces (paper section 5.2, corrected)."""

    kernel: str = "auto"
    """auto (chosen by cross-validation and marginal likelihood), cubic (the paper's) or matern52."""
    batch_membranes: int = 8
    """Membranes solved together in one unit."""
    minimum_area_nm2: float = 500.0
    """Smaller closed surfaces (a sphere of 12.6 nm diameter has 500 nm2) are not taken for membranes."""
    minimum_open_area_nm2: float = 1500.0
    """Smaller open surfaces are not taken for membranes: scraps that streaks of gold and noise leave."""
    minimum_open_thickness_nm: float = 1.7
    """Least segmented volume over area of an open surface of the network's: fringes beyond a cap leave thin scraps."""
    drop_microtubules: bool = True
    """Leave out straight tubes of radius 9.2 to 13.2 nm, or two walls of one, of the network; a mask's are kept."""
    reach_nm: float = 4.0
    """Half width of the band around the surface in which distance and sd are kept; at least half the thickness."""


@dataclass(frozen=True)
class SurfaceSpec:
    """Label volumes and meshes."""

    thickness_nm: float = 4.0
    """Thickness of the membranes in the final labels."""
    inferred_beyond_nm: float = 4.0
    """Surface farther than this from any segmented voxel is marked as inferred."""


@dataclass(frozen=True)
class MeasureSpec:
    """Tables."""

    neighbour_nm: float = 20.0
    """Membranes that come closer than this are listed as neighbours; surface within it is a contact site."""
    distance_nm: float = 60.0
    """Other membranes are looked for up to this distance from each vertex."""
    thickness_patch_nm: float = 20.0
    """Edge of the patches whose averaged density gives the thickness."""
    defocus_um: float = 0.0
    """Of the microscope, for the thickness; 0: found from the fringes beside each membrane, where there are any."""
    voltage_kv: float = 300.0
    """Of the microscope."""
    vertices_csv: bool = False
    """Write the tables of vertices as CSV too, not only as Parquet."""
    pattern_nm: float = 50.0
    """Distance along the surface up to which pairs of proteins on a membrane are counted."""
    pattern_simulations: int = 199
    """Random patterns on the same mesh that the pairs are compared with."""
    seed: int = 0
    """Decides the random patterns."""


@dataclass(frozen=True)
class ReportSpec:
    """The page."""

    tomograms_with_pictures: int = 50
    """Tomograms shown with pictures; the others are in the tables."""


@dataclass(frozen=True)
class RunSpec:
    """A whole run."""

    ingest: IngestSpec = field(default_factory=IngestSpec)
    enhance: EnhanceSpec = field(default_factory=EnhanceSpec)
    segment: SegmentSpec = field(default_factory=SegmentSpec)
    merge: MergeSpec = field(default_factory=MergeSpec)
    connect: ConnectSpec = field(default_factory=ConnectSpec)
    separate: SeparateSpec = field(default_factory=SeparateSpec)
    locate: LocateSpec = field(default_factory=LocateSpec)
    fit: FitSpec = field(default_factory=FitSpec)
    surface: SurfaceSpec = field(default_factory=SurfaceSpec)
    measure: MeasureSpec = field(default_factory=MeasureSpec)
    report: ReportSpec = field(default_factory=ReportSpec)

    def __post_init__(self) -> None:
        """Refuse values that no stage could work with."""
        for section in dataclasses.fields(self):
            stage = getattr(self, section.name)
            for entry in dataclasses.fields(stage):
                value = getattr(stage, entry.name)
                if isinstance(value, float):
                    _require(0 <= value < math.inf, f"{section.name}.{entry.name}", value, "a finite number, 0 or more")
        clip = self.enhance.clahe_clip_limit
        _require(clip <= 1, "enhance.clahe_clip_limit", clip, "0 to 1")
        signs = self.ingest.mode0_bytes
        _require(signs in ("", "signed", "unsigned"), "ingest.mode0_bytes", signs, "signed, unsigned or empty")
        chunk = self.ingest.chunk_voxels
        _require(min(chunk) >= 8, "ingest.chunk_voxels", chunk, "at least 8 voxels on each axis")
        levels = self.ingest.pyramid_levels
        _require(1 <= levels <= 6, "ingest.pyramid_levels", levels, "1 to 6")
        _require(chunk[0] % (1 << (levels - 1)) == 0, "ingest.chunk_voxels", chunk, "z divisible by 2^(levels - 1)")
        _require((t := self.segment.score_threshold) < 1, "segment.score_threshold", t, "0 to 1")
        _require(self.segment.region_voxels >= 64, "segment.region_voxels", self.segment.region_voxels, "at least 64")
        _require(self.segment.batch_slices >= 1, "segment.batch_slices", self.segment.batch_slices, "at least 1")
        for name, allowed in (("precision", ("auto", "float32", "bfloat16")), ("score_type", ("uint8", "float16"))):
            _require((v := getattr(self.segment, name)) in allowed, f"segment.{name}", v, ", ".join(allowed))
        way = self.merge.connect
        _require(way in ("regions", "qlearning"), "merge.connect", way, "regions, qlearning")
        _require_connect(self.connect)
        _require(self.separate.join_nm > 0, "separate.join_nm", self.separate.join_nm, "more than 0")
        kernel = self.fit.kernel
        _require(kernel in ("auto", "cubic", "matern52"), "fit.kernel", kernel, "auto, cubic, matern52")
        _require(self.fit.batch_membranes >= 1, "fit.batch_membranes", self.fit.batch_membranes, "at least 1")
        _require_measure(self.measure)
        thickness, reach = self.surface.thickness_nm, self.fit.reach_nm
        _require(0 < thickness <= 2 * reach, "surface.thickness_nm", thickness, f"0 to twice fit.reach_nm, {2 * reach}")


def _require(holds: bool, name: str, found: object, allowed: str) -> None:
    if not holds:
        raise UsageError("value not allowed", where=name, found=found, allowed=allowed)


def _require_measure(measure: MeasureSpec) -> None:
    _require((n := measure.pattern_simulations) >= 1, "measure.pattern_simulations", n, "at least 1")
    _require(measure.seed >= 0, "measure.seed", measure.seed, "0 or more")
    for name in ("pattern_nm", "distance_nm", "thickness_patch_nm", "voltage_kv"):
        _require(getattr(measure, name) > 0, f"measure.{name}", getattr(measure, name), "more than 0")
    distance, near = measure.distance_nm, measure.neighbour_nm
    _require(distance >= near, "measure.distance_nm", distance, f"measure.neighbour_nm, {near:g}, or more")


def _require_connect(connect: ConnectSpec) -> None:
    for name in ("view_nm", "gap_nm", "tangent_nm", "dearest_join", "closing_reward"):
        _require(getattr(connect, name) > 0, f"connect.{name}", getattr(connect, name), "more than 0")
    for name in ("exploration", "learning_rate", "discount"):
        _require(0 < getattr(connect, name) <= 1, f"connect.{name}", getattr(connect, name), "0 to 1, 0 excluded")
    for name in ("episodes", "actions_per_episode"):
        _require(getattr(connect, name) >= 1, f"connect.{name}", getattr(connect, name), "at least 1")
    _require(connect.seed >= 0, "connect.seed", connect.seed, "0 or more")


def to_toml(spec: RunSpec) -> str:
    """Return `spec` as TOML, each field under its help."""
    lines = ["# cryoscale run configuration; every line that is left out keeps its default", ""]
    for section in dataclasses.fields(spec):
        stage = getattr(spec, section.name)
        lines.append(f"[{section.name}]  # {inspect.getdoc(type(stage))}")
        helps = _field_helps(type(stage))
        for entry in dataclasses.fields(stage):
            lines.append(f"# {helps[entry.name]}")
            lines.append(f"{entry.name} = {_toml_value(getattr(stage, entry.name))}")
        lines.append("")
    return "\n".join(lines)


def _field_helps(cls: type) -> dict[str, str]:
    """Read the string under each field of a dataclass from its source."""
    body = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(body, ast.ClassDef)
    helps = _field_helps(cls.__base__) if cls.__base__ not in (None, object) else {}
    for node, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(after, ast.Expr):
            helps[node.target.id] = " ".join(str(ast.literal_eval(after.value)).split())
    return helps


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    return repr(value)


def from_toml(path: str | Path) -> RunSpec:
    """Read a configuration file.

    Raises
    ------
    UsageError
        It cannot be read, is not TOML, or names an unknown section or field, a wrong type or a value out of range.
    """
    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError("configuration cannot be read", where=str(path), found=error) from error
    return spec_from(data, str(path))


def spec_from(data: dict[str, Any], where: str = "run.json") -> RunSpec:
    """Build the options from plain sections of plain values, as TOML or JSON gives them.

    Raises
    ------
    UsageError
        An unknown section or field, a wrong type or a value out of range.
    """
    stages: dict[str, Any] = {}
    known = {entry.name: entry.default_factory for entry in dataclasses.fields(RunSpec)}
    for name, values in data.items():
        if name not in known:
            raise unknown_name(where, name, list(known))
        if not isinstance(values, dict):
            raise UsageError("a section is expected", where=f"{where}: {name}", found=values, allowed=f"[{name}]")
        stages[name] = _stage_from(where, name, typing.cast(type, known[name]), values)
    return RunSpec(**stages)


def _stage_from(where: str, section: str, cls: type, values: dict[str, Any]) -> Any:
    types = typing.get_type_hints(cls)
    for name in [name for name in values if name not in types]:
        raise unknown_name(where, f"{section}.{name}", [f"{section}.{known}" for known in types])
    return cls(**{name: typed(f"{where}: {section}.{name}", value, types[name]) for name, value in values.items()})


def typed(where: str, value: Any, wanted: Any) -> Any:
    """Return a plain value as a field of type `wanted` takes it; raise UsageError where it does not."""
    if typing.get_origin(wanted) is tuple:
        items = typing.get_args(wanted)
        length = None if items[-1] is Ellipsis else len(items)
        if not isinstance(value, list) or (length is not None and len(value) != length):
            raise UsageError("wrong type", where=where, found=value, allowed=f"a list of {length or 'any number of'}")
        return tuple(typed(where, item, items[0]) for item in value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise UsageError("wrong type", where=where, found=repr(value), allowed=wanted.__name__)
    return value


def unknown_name(where: str, name: str, known: list[str]) -> UsageError:
    """Return the error about a name that is not known, with the nearest that is."""
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"one of: {', '.join(known)}"
    return UsageError("unknown name", where=f"{where}: {name}", todo=hint)
