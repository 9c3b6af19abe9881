"""Real membranes from masks to surfaces: vesicles, a thylakoid and its authors' mesh, a mitochondrion."""

from __future__ import annotations

import csv
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label
from scipy.spatial import cKDTree

from benchmarks._measure_pairs import inner_to_outer
from cryoscale.collection import Collection, Result, run_collection
from cryoscale.engine import LoopExecutor
from cryoscale.io.meshes import read_ply
from cryoscale.io.omezarr import read_region
from cryoscale.io.source import open_source
from cryoscale.manifest import entries
from cryoscale.measure.proteins import Sheet, distances_from, distances_to, nearest_feet
from cryoscale.spec import IngestSpec, MergeSpec, RunSpec


def run(source: Path, output: Path, *, until: str = "measure", apix: float = 0.0, **merge: object) -> Result:
    spec = RunSpec(ingest=IngestSpec(apix=apix), merge=MergeSpec(**merge))
    return run_collection(Collection(entries([str(source)], "{path}"), output, spec, until=until), LoopExecutor())


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "membranes.csv").open() as stream:
        return list(csv.DictReader(stream))


def mesh_vertices(lines: str) -> NDArray[np.float64]:
    """Vertices x, y, z of a Wavefront file."""
    return np.array([line.split()[1:4] for line in lines.splitlines() if line.startswith("v ")], float)


def test_thirty_vesicles_each_around_its_own_lumen(shared_data: Path, tmp_path: Path) -> None:
    result = run(shared_data / "labels" / "vesicles.mrc.gz", tmp_path, mask_labels=(1,))
    assert result.exit_code == 0
    folder = tmp_path / "vesicles"
    table = rows(folder)
    assert len(table) == 30
    open_ones = [row for row in table if row["closed"] != "closed"]
    assert len(open_ones) <= 2
    assert all(row["not_closed_reason"] for row in open_ones)
    instances, mask = (read_region(folder / f"{name}.ome.zarr") for name in ("instances", "mask"))
    lumens, count = label(mask == 2, np.ones((3, 3, 3)))
    assert count == 30
    # The lumen that most of a membrane's voxels are nearest to: one to one.
    nearest = distance_transform_edt(lumens == 0, return_distances=False, return_indices=True)
    owner = lumens[tuple(nearest)]
    matched = [int(np.bincount(owner[instances == number]).argmax()) for number in range(1, 31)]
    assert sorted(matched) == list(range(1, 31))


@pytest.fixture(scope="module")
def thylakoid(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Folder and result of the larger thylakoid, measured."""
    output = tmp_path_factory.mktemp("thylakoid")
    return output / "thylakoid-M1", run(shared_data / "labels" / "thylakoid-M1.mrc.gz", output)


def test_a_thylakoid_lies_on_its_authors_mesh_and_stays_open(shared_data: Path, thylakoid: tuple[Path, Result]) -> None:
    folder, result = thylakoid
    assert result.exit_code == 0
    table = rows(folder)
    largest = max(table, key=lambda row: float(row["area_nm2"] or 0))
    assert largest["closed"] == "open"
    ours = read_ply(folder / largest["mesh"]).vertices.astype(float)[:, ::-1]
    with gzip.open(shared_data / "coordinates" / "thylakoid-M1.obj.gz", "rt") as stream:
        theirs = mesh_vertices(stream.read())
    geometry = json.loads((folder / "summary.json").read_text())["geometry"]
    voxel = geometry["voxel_size_angstrom"][0]
    distance = cKDTree(theirs).query(ours)[0] / voxel
    assert np.percentile(distance, 95) <= 4
    # Without the header's origin the two would not even overlap.
    origin = np.array(geometry["origin_angstrom"])[::-1]
    assert np.percentile(cKDTree(theirs).query(ours - origin)[0] / voxel, 95) > 50


def positions(path: Path) -> NDArray[np.float64]:
    """Positions z, y, x in ångström of all particles of a Membranorama session."""
    found = re.findall(r'<Point [^>]*Position="([^"]*)"', path.read_text("utf-16"))
    return np.array([point.split(",") for point in found], float)[:, ::-1]


@pytest.mark.parametrize(("name", "count"), [("thylakoid-M1", 105), ("thylakoid-M15", 44)])
def test_particles_lie_on_the_label(shared_data: Path, tmp_path: Path, name: str, count: int) -> None:
    source = open_source(shared_data / "labels" / f"{name}.mrc.gz", scratch=tmp_path / name)
    assert source.voxel_size_angstrom is not None
    particles = (positions(shared_data / "coordinates" / f"{name}.xml") - source.origin_angstrom) / 13.68
    assert len(particles) == count
    label_voxels = source.read((0, 0, 0), source.shape) > 0
    away = distance_transform_edt(~label_voxels)
    # From the voxel a particle is in; between a position itself and the middle of a voxel up to 1.7.
    assert away[tuple(np.rint(particles).astype(int).T)].max() <= np.sqrt(2) + 1e-9
    assert cKDTree(np.argwhere(label_voxels)).query(particles)[0].max() < 1.7


def test_particles_along_the_fitted_surface_as_along_their_authors_mesh(
    shared_data: Path, thylakoid: tuple[Path, Result]
) -> None:
    folder, _ = thylakoid
    particles_nm = positions(shared_data / "coordinates" / "thylakoid-M1.xml") / 10
    ply = read_ply(folder / rows(folder)[0]["mesh"])
    with gzip.open(shared_data / "coordinates" / "thylakoid-M1.obj.gz", "rt") as stream:
        text = stream.read()
    corners = [[word.split("/")[0] for word in line.split()[1:4]] for line in text.splitlines() if line[:2] == "f "]
    along = []
    for vertices_nm, faces in (
        (ply.vertices / 10, ply.faces),
        (mesh_vertices(text)[:, ::-1] / 10, np.array(corners, int) - 1),
    ):
        feet = nearest_feet(particles_nm, vertices_nm, faces)
        assert feet.distance.max() < 5
        sheet = Sheet.of(vertices_nm, faces)
        table = [distances_to(sheet, distances_from(sheet, feet, row, 80.0), feet, row) for row in range(0, 105, 5)]
        along.append(np.array(table))
    both = np.isfinite(along[0]) & np.isfinite(along[1]) & (along[1] > 5)
    assert both.sum() > 300
    ratio = along[0][both] / along[1][both]
    assert np.median(ratio) == pytest.approx(1, abs=0.01)
    assert np.percentile(abs(ratio - 1), 90) < 0.03


def test_a_broken_voxel_size_is_asked_about(shared_data: Path, tmp_path: Path) -> None:
    result = run(shared_data / "labels" / "mitochondria-TE1.mrc.gz", tmp_path, until="ingest")
    assert result.exit_code == 3
    message = str(result.outcomes[0].error)
    assert "3881" in message
    assert "--apix" in message


@pytest.mark.slow
def test_a_mitochondrion_whole(shared_data: Path, tmp_path: Path) -> None:
    result = run(
        shared_data / "labels" / "mitochondria-TE1.mrc.gz", tmp_path, until="report", apix=12.44, separate_labels=True
    )
    assert result.exit_code == 0
    table = rows(tmp_path / "mitochondria-TE1")
    assert len(table) >= 20
    surfaces = [row for row in table if row["closed"] != "no surface"]
    assert len(surfaces) >= 0.8 * len(table)
    summary = json.loads((tmp_path / "mitochondria-TE1" / "summary.json").read_text())
    assert max(cost["peak_bytes"] for cost in summary["times"].values()) < 8 << 30
    # Every distance from the inner membrane (label 2) to the outer (1): exact, by brute force.
    ours, exact, over_vertices = inner_to_outer(tmp_path / "mitochondria-TE1", 2, 1)
    assert ours["vertices"] > 50_000 and ours["error"] < 1e-9
    assert 10 < exact["p50_nm"] < 16
    # Mutant: to vertices alone.
    assert over_vertices["nearer"] == 0 and over_vertices["error"] > 0.01
