"""OME-Zarr 0.5 (Zarr v3) volumes: created once, written by whole chunks, read by regions.

Every chunk is compressed by Blosc (LZ4, bit-shuffled) and closed by a crc32c, so that a flipped bit is an error and
never data (reliability.md, section 0). A file holds a whole shard of chunks, all that one unit of work owns, so that a
volume is a few files; each is written, zeros and all, and one that is missing is an error and never zeros. Axes are
z, y, x in ångström; level ``n`` of the pyramid has half the samples of level ``n - 1`` along each axis, and its
translation keeps the voxels' centres where they belong.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.abc.store import ByteRequest
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, MemoryStore

from cryoscale.chunks import Region, blocks, whole
from cryoscale.errors import TomogramError, TransientError
from cryoscale.io.files import write_text
from cryoscale.records import Geometry

__all__ = [
    "create_image",
    "describe_labels",
    "image_dtype",
    "image_geometry",
    "level_region",
    "open_level",
    "read_region",
    "read_values",
    "require_no_links",
    "write_region",
]

_SAFE_CODECS = {"bytes", "transpose", "zstd", "blosc", "gzip", "crc32c", "sharding_indexed", "zlib", "lz4", "bz2"}
_CHUNK_BYTES_LIMIT = 256 << 20
_LARGEST_VOXELS = 1 << 37
_METADATA_BYTES_LIMIT = 4 << 20
_UNIT_IN_ANGSTROM = {"angstrom": 1.0, "nanometer": 10.0, "picometer": 0.01, "micrometer": 1e4}


def create_image(
    path: str | Path,
    geometry: Geometry,
    dtype: DTypeLike,
    chunks: Sequence[int],
    *,
    shards: Sequence[int] | None = None,
    levels: int = 1,
    labels: bool = False,
    value_scale: float | None = None,
) -> None:
    """Create an empty multiscale volume; one that is there already with the same metadata is left alone.

    Parameters
    ----------
    path
        Folder, by habit ``<name>.ome.zarr``.
    geometry
        Shape, voxel size and origin of level 0.
    dtype
        Of every level.
    chunks
        Chunk of level 0 in voxels, z, y, x; level n has ``chunks[0] >> n`` along z, so that the owner of a slab of
        level 0 owns whole chunks of every level.
    shards
        Region that one unit writes: what one file holds is that, made up to whole chunks. None: a file a chunk.
    levels
        Number of levels, at least 1.
    labels
        Whether the voxels are numbers of objects; recorded as OME ``image-label`` metadata.
    value_scale
        What stored numbers are to be multiplied by; recorded for `read_values`.

    Raises
    ------
    ValueError
        The chunk's z length is not divisible by ``2 ** (levels - 1)``.
    """
    if chunks[0] % (1 << (levels - 1)):
        msg = f"chunk z length {chunks[0]} must be divisible by {1 << (levels - 1)} for {levels} pyramid levels"
        raise ValueError(msg)
    path = Path(path)
    attributes = _attributes(path.name.removesuffix(".ome.zarr"), geometry, levels, labels=labels)
    if value_scale is not None:
        attributes["cryoscale"] = {"value_scale": value_scale}
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    for level in range(levels):
        _create_level(path / str(level), geometry, np.dtype(dtype), (chunks, shards or chunks), level)
    # The group's metadata comes last: a store that has it has all its levels.
    if _json(path / "zarr.json") != group:
        write_text(path / "zarr.json", json.dumps(group, indent=1))


def _create_level(
    path: Path, geometry: Geometry, dtype: np.dtype[Any], grid: tuple[Sequence[int], Sequence[int]], level: int
) -> None:
    shape = tuple(-(-n >> level) if level == 0 else -(-n // (1 << level)) for n in geometry.shape)
    chunk, owned = ((max(1, edges[0] >> level), int(edges[1]), int(edges[2])) for edges in grid)
    shard = tuple(-(-min(o, n) // c) * c for o, n, c in zip(owned, shape, chunk, strict=True))
    with_items = dtype.itemsize > 1
    store: dict[str, Any] = {}
    zarr.create_array(
        store=MemoryStore(store),
        shape=shape,
        chunks=chunk,
        shards=None if shard == chunk else shard,
        dtype=dtype,
        serializer=BytesCodec() if with_items else BytesCodec(endian=None),
        compressors=(BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=dtype.itemsize), Crc32cCodec()),
        fill_value=0,
        dimension_names=("z", "y", "x"),
        attributes={"cryoscale": {"complete": True}},
    )
    text = store["zarr.json"].to_bytes().decode()
    found = _json(path / "zarr.json")
    if found == json.loads(text):
        return
    if found is not None:
        # Chunks of another array would be read as this one's; where only the description is lost they are its own.
        shutil.rmtree(path)
    write_text(path / "zarr.json", text)


def _attributes(name: str, geometry: Geometry, levels: int, *, labels: bool) -> dict[str, Any]:
    datasets = []
    for level in range(levels):
        factor = float(1 << level)
        scale = [v * factor for v in geometry.voxel_size_angstrom]
        shift = [
            o + v * (factor - 1.0) / 2.0
            for o, v in zip(geometry.origin_angstrom, geometry.voxel_size_angstrom, strict=True)
        ]
        datasets.append(
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": scale},
                    {"type": "translation", "translation": shift},
                ],
            }
        )
    axes = [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"]
    ome: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [{"name": name, "axes": axes, "datasets": datasets}],
    }
    if labels:
        ome["image-label"] = {"version": "0.5"}
    return {"ome": ome}


def describe_labels(image: str | Path, name: str, colours: Mapping[int, tuple[int, int, int]]) -> None:
    """Make a label volume in an image's ``labels`` folder known: listed there, each number with its colour.

    Parameters
    ----------
    image
        Folder of an OME-Zarr image that holds ``labels/<name>``, written by `create_image`.
    name
        Of the label volume.
    colours
        Red, green and blue, 0 to 255, by number.
    """
    folder = Path(image) / "labels"
    listing = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": "0.5", "labels": [name]}}}
    group = _json(folder / name / "zarr.json")
    shown = [{"label-value": number, "rgba": [*colour, 255]} for number, colour in sorted(colours.items())]
    group["attributes"]["ome"]["image-label"] = {"colors": shown, "source": {"image": "../../"}}
    write_text(folder / name / "zarr.json", json.dumps(group, indent=1))
    write_text(folder / "zarr.json", json.dumps(listing, indent=1))


def _json(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            text = stream.read(_METADATA_BYTES_LIMIT + 1)
        return json.loads(text) if len(text) <= _METADATA_BYTES_LIMIT else None
    except (OSError, ValueError, RecursionError):
        return None


def _attributes_of(path: Path) -> dict[str, Any]:
    group = _json(path / "zarr.json")
    found = group.get("attributes") if isinstance(group, dict) else None
    return found if isinstance(found, dict) else {}


def require_no_links(path: str | Path) -> None:
    """Refuse an image with links in it: what is read, or written, through them lies elsewhere.

    Raises
    ------
    TomogramError
        Naming the first link.
    """
    for root, folders, files in os.walk(path):
        for name in (*folders, *files):
            link = Path(root) / name
            if link.is_symlink():
                raise TomogramError(
                    "a link in an OME-Zarr image",
                    where=str(link),
                    found=f"to {link.readlink()}",
                    todo="copy what it stands for to its place",
                )


class _Store(LocalStore):
    """A folder of which every file was written: one that is not there is a fault, of a network's file system say."""

    complete = False

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return what a file holds, as any store does; raise where it should be there and is not."""
        found = await super().get(key, prototype, byte_range)
        if found is None and self.complete and not key.endswith(".json"):
            raise TransientError(
                "a file of a volume is missing", where=str(self.root / key), todo="run again, or `cryoscale verify`"
            )
        return found


def open_level(path: str | Path, level: int = 0, *, mode: str = "r") -> Any:
    """Open one level of a volume as a Zarr array, after checking that reading it is safe.

    Raises
    ------
    TomogramError
        No readable array is there, a codec is not on the allow-list, or a chunk is larger than 256 MiB.
    """
    where = Path(path) / str(level)
    store = _Store(where, read_only=mode == "r")
    try:
        array = zarr.open_array(store, mode=mode)
    except FileNotFoundError as error:
        raise TransientError("no Zarr array", where=str(where), todo="check the path, or run again") from error
    except OSError:
        raise
    except Exception as error:  # zarr raises many kinds for torn or foreign metadata
        raise TomogramError(
            "no readable Zarr array",
            where=str(where),
            found=f"{type(error).__name__}: {error}",
            allowed="an OME-Zarr image, format 0.4 or 0.5",
            todo="check the path, or write the volume again",
        ) from error
    _check_safe(array, where)
    attributes = array.metadata.attributes
    known = attributes.get("cryoscale") if isinstance(attributes, dict) else None
    kept = array.store_path.store
    assert isinstance(kept, _Store)
    kept.complete = isinstance(known, dict) and known.get("complete") is True
    return array


def _check_safe(array: Any, where: Path) -> None:
    metadata = array.metadata.to_dict()
    codecs = metadata.get("codecs") or [c for c in (metadata.get("compressor"), *(metadata.get("filters") or ())) if c]
    names = [str(c.get("name", c.get("id", ""))).removeprefix("numcodecs.") for c in codecs]
    unknown = sorted(set(names) - _SAFE_CODECS)
    if unknown:
        allowed = ", ".join(sorted(_SAFE_CODECS))
        raise TomogramError("codec not allowed", where=str(where), found=unknown, allowed=allowed)
    if not array.shape or min(array.shape) < 1 or math.prod(array.shape) > _LARGEST_VOXELS:
        allowed = f"1 to {_LARGEST_VOXELS} voxels"
        raise TomogramError("no volume of this shape", where=str(where), found=array.shape, allowed=allowed)
    size = int(np.prod(array.chunks, dtype=object)) * array.dtype.itemsize
    if size > _CHUNK_BYTES_LIMIT:
        allowed = f"{_CHUNK_BYTES_LIMIT} bytes"
        raise TomogramError("chunk too large", where=str(where), found=f"{size} bytes", allowed=allowed)


def image_dtype(path: str | Path) -> np.dtype[Any]:
    """Return the voxels' type."""
    dtype: np.dtype[Any] = open_level(path).dtype
    return dtype


def image_geometry(path: str | Path) -> Geometry:
    """Read shape, voxel size and origin of level 0, in ångström whatever unit the file uses.

    Raises
    ------
    TomogramError
        There is no multiscale metadata, the axes are not z, y, x, or the unit is missing or unknown.
    """
    path = Path(path)
    try:
        attributes = _attributes_of(path).get("ome") or _json(path / ".zattrs") or {}
        image = attributes["multiscales"][0]
        axes, dataset = image["axes"], image["datasets"][0]
        names, level = [axis["name"] for axis in axes], dataset["path"]
        units = [_UNIT_IN_ANGSTROM[axis["unit"]] for axis in axes]
        steps = {step["type"]: step[step["type"]] for step in dataset["coordinateTransformations"]}
        scale = [float(v) * u for v, u in zip(steps["scale"], units, strict=True)]
        origin = [float(v) * u for v, u in zip(steps.get("translation", (0.0, 0.0, 0.0)), units, strict=True)]
    except (AttributeError, KeyError, IndexError, OverflowError, TypeError, ValueError) as error:
        raise TomogramError(
            "OME-Zarr metadata is missing or incomplete",
            where=str(path),
            found=f"{type(error).__name__}: {error}",
            allowed="multiscales with axes z, y, x, their unit, a path and a scale",
            todo="state the voxel size with --apix, or write the metadata",
        ) from error
    if names != ["z", "y", "x"] or level != "0":
        raise TomogramError(
            "OME-Zarr axes or level path not supported",
            where=str(path),
            found=f"axes {names}, first level {level!r}",
            allowed="axes z, y, x and first level '0'",
        )
    shape = open_level(path).shape
    if not len(shape) == len(scale) == len(origin) == 3:
        raise TomogramError("not a volume", where=str(path), found=f"shape {shape}", allowed="three axes z, y, x")
    return Geometry(tuple(shape), tuple(scale), tuple(origin))  # type: ignore[arg-type]


def level_region(region: Region, level: int) -> Region:
    """Return the region of a lower level that a region of level 0, aligned to ``2 ** level``, becomes."""
    step = 1 << level
    return Region(tuple(a // step for a in region.start), tuple(-(-b // step) for b in region.stop))


def read_region(path: str | Path, region: Region | None = None, level: int = 0) -> NDArray[Any]:
    """Read a box of voxels, z, y, x; all of the volume where `region` is None.

    Raises
    ------
    TomogramError
        A chunk is damaged (its checksum does not match) or unreadable.
    """
    array = open_level(path, level)
    region = whole(array.shape) if region is None else region
    try:
        return np.asarray(array[region.slices])
    except (OSError, TransientError):
        raise
    except Exception as error:  # a failed checksum or codec, by whatever name zarr gives it
        raise TomogramError(
            "chunk damaged",
            where=f"{path} level {level}, voxels {region.start} to {region.stop}",
            found=f"{type(error).__name__}: {error}",
            todo="run again: the damaged part is computed anew from its record",
        ) from error


def read_values(path: str | Path, region: Region | None = None) -> NDArray[np.float32]:
    """Read a box of voxels of level 0 as the values they stand for: times the volume's `value_scale`, 1 without one.

    Raises
    ------
    TomogramError
        As `read_region` does.
    """
    scale = _attributes_of(Path(path)).get("cryoscale", {}).get("value_scale", 1.0)
    values: NDArray[np.float32] = read_region(path, region).astype(np.float32)
    return values if scale == 1.0 else values * np.float32(scale)


def write_region(path: str | Path, region: Region, array: NDArray[Any], level: int = 0) -> list[str]:
    """Write a box of whole files and return their names, as absolute paths in raster order.

    Raises
    ------
    ValueError
        The region cuts through what one file holds: two units would then write into it.
    """
    target = open_level(path, level, mode="r+")
    # What is there is replaced, not read: it may be torn.
    target.store_path.store.complete = False
    owned = target.shards or target.chunks
    for a, b, c, n in zip(region.start, region.stop, owned, target.shape, strict=True):
        if a % c or (b % c and b != n):
            msg = f"region {region.start}..{region.stop} does not consist of whole chunks {owned}"
            raise ValueError(msg)
    empty = target.with_config({"write_empty_chunks": True})
    root, files = Path(path).absolute() / str(level) / "c", []
    for block in blocks(region.shape, owned):
        place = block.moved(region.start)
        name = root.joinpath(*(str(a // c) for a, c in zip(place.start, owned, strict=True)))
        name.unlink(missing_ok=True)
        part = array[block.slices]
        # Zarr leaves zeros out, but within a file that is there.
        (target if part.any() else empty)[place.slices] = part
        files.append(str(name))
    return files
