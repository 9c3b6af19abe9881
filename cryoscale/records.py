"""The plain records that stages, engine and disk hand to each other.

A stage's ``plan`` is a generator. It yields phases, each a list of `Unit`; the engine runs a phase (in a loop or on
a Dask cluster, in any order), skips units whose done-record is valid, and sends back their `Receipt` in the order of
the units. What the generator returns is the stage's summary, a JSON-able dict that later stages read::

    def plan(tomogram: Tomogram, spec: MergeSpec, ...) -> Plan:
        receipts = yield [Unit(("merge-label", tomogram.id, i), label_block, (tomogram.folder, ...), bytes) ...]
        ...
        return {"count": 12}

``Unit.call`` is a module-level function of plain, picklable arguments that reads its region with a halo, writes its
own whole output chunks or files, and returns a `Receipt` naming every file it wrote. Arrays never travel in it.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "STAGES",
    "DoneRecord",
    "Geometry",
    "Plan",
    "Receipt",
    "Tomogram",
    "Unit",
    "fingerprint",
    "inside",
    "numbered",
    "place_of",
    "require",
    "sealed",
    "unsealed",
]


_IN_A_FOLDER = 5000
"""Files that one folder holds: file systems shared by many are slow with more than ten thousand."""
STAGES = (
    "ingest",
    "enhance",
    "segment",
    "merge",
    "connect",
    "separate",
    "locate",
    "fit",
    "surface",
    "measure",
    "report",
)
"""Every stage, in order; ``--from`` and ``--until`` take these names."""


@dataclass(frozen=True)
class Geometry:
    """Where a volume's voxels are in space."""

    shape: tuple[int, int, int]
    """Voxels along z, y, x."""
    voxel_size_angstrom: tuple[float, float, float]
    """Edge of a voxel along z, y, x."""
    origin_angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Position of the centre of voxel (0, 0, 0), z, y, x."""

    @property
    def voxel_size_nm(self) -> float:
        """Mean edge of a voxel; ingest admits only voxels that are cubes within a part in a thousand."""
        return sum(self.voxel_size_angstrom) / 30.0

    def least_voxels(self, volume_nm3: float) -> int:
        """Return the fewest voxels, at least one, that fill a volume."""
        # The slack keeps a volume of exactly n voxels from asking for n + 1 after rounding.
        return max(1, math.ceil(volume_nm3 * 1000.0 / math.prod(self.voxel_size_angstrom) * (1 - 1e-9)))

    def to_json(self) -> dict[str, list[float]]:
        """Return a JSON-able form, read back by `from_json`."""
        return {
            "shape": list(self.shape),
            "voxel_size_angstrom": list(self.voxel_size_angstrom),
            "origin_angstrom": list(self.origin_angstrom),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Geometry:
        """Rebuild what `to_json` wrote."""
        shape = tuple(int(n) for n in data["shape"])
        voxel = tuple(float(v) for v in data["voxel_size_angstrom"])
        origin = tuple(float(v) for v in data["origin_angstrom"])
        return Geometry(shape, voxel, origin)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Tomogram:
    """One tomogram of the collection and where its products go."""

    id: str
    """Unique safe name, ``[A-Za-z0-9._-]{1,100}``."""
    source: str
    """Path of the tomogram, or of the mask where the run starts at merge."""
    folder: str
    """Folder of this tomogram's products; every path in a receipt is relative to it."""
    geometry: Geometry | None = None
    """Known once ingest is done; a plan after ingest may count on it."""

    def path(self, name: str) -> Path:
        """Return the path of a product."""
        return Path(self.folder) / name

    @property
    def known_geometry(self) -> Geometry:
        """The geometry, for plans that run after ingest."""
        if self.geometry is None:
            msg = f"tomogram {self.id}: its geometry is not known before ingest"
            raise RuntimeError(msg)
        return self.geometry


@dataclass(frozen=True)
class Receipt:
    """What a unit leaves behind: the files it wrote and a few numbers."""

    files: tuple[str, ...] = ()
    """Paths relative to the tomogram's folder, each an existing file that this unit alone writes."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """JSON-able, small (a few kilobytes): counts, sums, names of files with more."""


@dataclass(frozen=True)
class Unit:
    """One piece of work: owns whole output chunks or files, and can be repeated at any time."""

    key: tuple[str, str, int]
    """Stage, tomogram id, index: what the dashboard shows and the done-record is named after."""
    call: Callable[..., Receipt]
    """Module-level function, called with `args`."""
    args: tuple[Any, ...]
    """Plain values: paths as str, numbers, frozen dataclasses."""
    bytes: int
    """Projected peak memory beyond the interpreter and its libraries."""
    gpu: bool = False
    """Whether it needs the GPU resource."""


Plan = Generator[list[Unit], list[Receipt], dict[str, Any]]


@dataclass(frozen=True)
class DoneRecord:
    """Proof that a unit is complete: written last, after its files are on disk."""

    key: tuple[str, str, int]
    fingerprint: str
    """Hash of all that determines the result: spec, model, input identity, code version."""
    files: tuple[tuple[str, int, int], ...]
    """Each file with its length in bytes and crc32c."""
    numbers: dict[str, Any]
    seconds: float
    """Wall time of the unit, for estimates."""
    peak_bytes: int = 0
    """Peak resident memory of the process right after the unit."""
    processor_seconds: float = 0.0
    """Processor time of the process meanwhile: what `seconds` would be with nobody else on the machine."""

    def to_json(self) -> str:
        """Return the text of the record's file."""
        return sealed(
            {
                "key": list(self.key),
                "fingerprint": self.fingerprint,
                "files": [list(entry) for entry in self.files],
                "numbers": self.numbers,
                "seconds": self.seconds,
                "peak_bytes": self.peak_bytes,
                "processor_seconds": self.processor_seconds,
            }
        )

    @staticmethod
    def from_json(text: str) -> DoneRecord:
        """Parse a record; any damage raises ValueError."""
        data = unsealed(text)
        require(data, _RECORD)
        stage, tomogram, index = data["key"]
        files = tuple((str(name), int(length), int(crc)) for name, length, crc in data["files"])
        return DoneRecord(
            (str(stage), str(tomogram), int(index)),
            str(data["fingerprint"]),
            files,
            dict(data["numbers"]),
            float(data["seconds"]),
            int(data["peak_bytes"]),
            float(data.get("processor_seconds", 0.0)),
        )


def fingerprint(*parts: object) -> str:
    """Return a sha256 over the canonical JSON of `parts`: equal parts, equal text, on any machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(data: dict[str, Any]) -> str:
    """Return one line of JSON that ends with the checksum of what is before it.

    Examples
    --------
    >>> unsealed(sealed({"a": 1}))
    {'a': 1}
    """
    text = json.dumps(data, separators=(",", ":"))
    return text[:-1] + ("," if data else "") + f'"crc32":{zlib.crc32(text.encode())}}}'


def unsealed(text: str) -> dict[str, Any]:
    """Read what `sealed` wrote; any damage raises ValueError."""
    body, comma, tail = text.rpartition(',"crc32":')
    if not comma or tail.strip() != f"{zlib.crc32((body + '}').encode())}}}":
        msg = "the checksum does not fit"
        raise ValueError(msg)
    try:
        data = json.loads(body + "}")
    except RecursionError as error:
        raise ValueError(error) from error
    if not isinstance(data, dict):
        msg = "not a record"
        raise ValueError(msg)
    return data


def inside(name: object) -> bool:
    """Whether `name` is a path that stays in the folder it is relative to."""
    return isinstance(name, str) and bool(name) and "\0" not in name and name[0] != "/" and ".." not in name.split("/")


def numbered(folder: str, number: int, name: str) -> str:
    """Return the path of one of many files: beyond five thousand in a folder of its own for each five thousand.

    Examples
    --------
    >>> numbered("meshes", 12, "membrane_0012.ply"), numbered("meshes", 12345, "membrane_12345.ply")
    ('meshes/membrane_0012.ply', 'meshes/10000/membrane_12345.ply')
    """
    first = number // _IN_A_FOLDER * _IN_A_FOLDER
    return f"{folder}/{first}/{name}" if first else f"{folder}/{name}"


def place_of(name: str, *, spread: bool) -> str:
    """Return where a tomogram is in its run's folder: under its id, or, `spread`, in one of 256 folders.

    Examples
    --------
    >>> place_of("TS_001", spread=False), place_of("TS_001", spread=True)
    ('TS_001', 'f4/TS_001')
    """
    return f"{zlib.crc32(name.encode()) & 0xFF:02x}/{name}" if spread else name


def require(data: object, form: Any) -> None:
    """Raise ValueError unless plain values have a form.

    A form is a type (``float`` also takes whole numbers, and nothing that is not finite), a test of one value, a list
    of one form for lists of any length, a tuple of forms for lists of its length, or a dict: of forms by name, a name
    that ends in ``?`` may be missing, others may be there; or of one form under ``*``, for all.

    Examples
    --------
    >>> require({"a": [1, 2], "b": 3}, {"a": [int], "c?": str})
    """
    if isinstance(form, dict) and isinstance(data, dict):
        if "*" in form:
            form = dict.fromkeys(data, form["*"])
        for name, inner in form.items():
            key = name.removesuffix("?")
            if key in data or key == name:
                require(data.get(key), inner)
        return
    if isinstance(form, list) and isinstance(data, list):
        for item in data:
            require(item, form[0])
        return
    if isinstance(form, tuple) and isinstance(data, list) and len(data) == len(form):
        for item, inner in zip(data, form, strict=True):
            require(item, inner)
        return
    if isinstance(form, type):
        number = isinstance(data, int | float) and not isinstance(data, bool) and math.isfinite(data)
        right = number if form is float else isinstance(data, form) and not (form is int and isinstance(data, bool))
    else:
        right = callable(form) and bool(form(data))
    if not right:
        msg = f"not of the form {form}: {str(data)[:40]}"
        raise ValueError(msg)


_RECORD = {
    "key": (inside, inside, int),
    "fingerprint": str,
    "files": [(inside, int, int)],
    "numbers": dict,
    "seconds": float,
    "peak_bytes": int,
    "processor_seconds?": float,
}
