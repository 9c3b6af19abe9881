"""Size, axes, curvature and direction of whole membranes against analytic shapes; standard errors by perturbation."""

import dataclasses

import numpy as np
import pytest
import trimesh
from skimage.measure import marching_cubes

from cryoscale.measure.bend import mesh_curvature, principal, vertex_normals
from cryoscale.measure.errors import Sites
from cryoscale.measure.shape import Membrane, measure_shape, vertex_areas
from cryoscale.measure.tables import MEANS


def membrane(vertices, faces, *, sites=None, seen=None, outward=True):
    vertices, faces = np.asarray(vertices, float), np.asarray(faces)
    normals = vertex_normals(vertices, faces)
    if outward and (normals * (vertices - vertices.mean(axis=0))).sum() < 0:
        normals, faces = -normals, faces[:, ::-1]
    mean, gaussian = mesh_curvature(vertices, faces, normals)
    seen = np.ones(len(vertices), bool) if seen is None else seen
    return Membrane(vertices, faces, normals, mean, gaussian, seen, sd=np.full(len(vertices), 0.5), sites=sites)


def ellipsoid(axes=(20.0, 14.0, 9.0), turn=None, voxel=1.0, fine=5):
    mesh = trimesh.creation.icosphere(fine, 1.0)
    vertices = mesh.vertices * axes
    return (vertices if turn is None else vertices @ turn.T) * voxel, mesh.faces


def volume(vertices, faces):
    return abs(trimesh.Trimesh(vertices, faces, process=False).volume)


def turned(seed):
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return turn * np.sign(np.linalg.det(turn))


def test_ellipsoid_axes_and_mean_curvature():
    vertices, faces = ellipsoid()
    found = measure_shape(membrane(vertices, faces), volume(vertices, faces))
    for name, axis in (("major", 20), ("middle", 14), ("minor", 9)):
        assert found[f"{name}_axis_nm"] == pytest.approx(2 * axis, rel=0.01)
    assert found["major_axis_to_beam_degrees"] == pytest.approx(0, abs=0.5)
    area = trimesh.Trimesh(vertices, faces, process=False).area
    # Gauss and Bonnet: the integral of the Gaussian curvature is 4 pi.
    assert found["gaussian_curvature_per_nm2"] * area == pytest.approx(4 * np.pi, rel=0.01)
    assert 0.5 < found["shape_index"] < 1


def test_rotation_changes_nothing_but_directions():
    vertices, faces = ellipsoid()
    still = measure_shape(membrane(vertices, faces), volume(vertices, faces))
    turn = turned(3)
    vertices, faces = ellipsoid(turn=turn)
    moved = measure_shape(membrane(vertices, faces), volume(vertices, faces))
    for name in still:
        if still[name] is not None and "beam" not in name:
            assert moved[name] == pytest.approx(still[name], rel=1e-6), name
    expected = np.degrees(np.arccos(abs(turn[0, 0])))
    assert moved["major_axis_to_beam_degrees"] == pytest.approx(expected, abs=1e-3)


def test_voxel_size_scales_lengths_areas_and_curvatures():
    one, two = (measure_shape(membrane(v, f), volume(v, f)) for v, f in (ellipsoid(), ellipsoid(voxel=1.7)))
    powers = {"major_axis_nm": 1, "area_seen_nm2": 2, "mean_curvature_per_nm": -1, "gaussian_curvature_per_nm2": -2}
    for name, power in (powers | {"shape_index": 0, "beam_angle_degrees": 0, "curvedness_seen_per_nm": -1}).items():
        assert two[name] == pytest.approx(one[name] * 1.7**power, rel=1e-6), name


def test_torus_and_its_holes():
    torus = trimesh.creation.torus(22.0, 9.0, major_sections=120, minor_sections=60)
    found = measure_shape(membrane(torus.vertices, torus.faces, outward=False), volume(torus.vertices, torus.faces))
    # The integral of the Gaussian curvature of a torus is 0, its mean of the mean curvature 1 / (2 r).
    assert found["gaussian_curvature_per_nm2"] == pytest.approx(0, abs=2e-4)
    assert abs(found["mean_curvature_per_nm"]) == pytest.approx(1 / 18, rel=0.03)
    # Second moments of a solid torus: R^2 / 2 + 3 r^2 / 8 across, r^2 / 4 along.
    assert found["major_axis_nm"] == pytest.approx(2 * np.sqrt(5 * (22**2 / 2 + 3 * 81 / 8)), rel=0.01)
    assert found["minor_axis_nm"] == pytest.approx(2 * np.sqrt(5 * 81 / 4), rel=0.01)


def test_open_cylinder_has_extents():
    places = np.moveaxis(np.indices((60, 41, 41), dtype=float), 0, -1)
    vertices, faces, _, _ = marching_cubes(np.linalg.norm(places[..., 1:] - 20.3, axis=-1) - 12, 0.0)
    found = measure_shape(membrane(vertices, faces), None)
    assert found["major_axis_nm"] == pytest.approx(59, abs=0.1)
    assert found["middle_axis_nm"] == pytest.approx(24, abs=0.2)
    assert found["beam_angle_degrees"] == pytest.approx(90, abs=1)
    assert found["mean_curvature_per_nm"] == pytest.approx(1 / 24, rel=0.05)
    assert found.get("sphericity_se") is None and found["area_se_nm2"] is None


def test_seen_part_alone():
    vertices, faces = ellipsoid((15.0, 15.0, 15.0))
    seen = np.abs(vertices[:, 0]) < 7.5
    found = measure_shape(membrane(vertices, faces, seen=seen), volume(vertices, faces))
    # Archimedes: the belt between -r / 2 and r / 2 is half of the sphere.
    assert found["area_seen_nm2"] == pytest.approx(2 * np.pi * 225, rel=0.01)
    assert found["mean_curvature_seen_per_nm"] == pytest.approx(1 / 15, rel=0.02)
    # Over the belt cos(angle) is uniform from 0 to 1 / 2; over the sphere from 0 to 1.
    belt = np.degrees(np.arccos(np.linspace(0, 0.5, 10001))).mean()
    assert found["beam_angle_seen_degrees"] == pytest.approx(belt, abs=0.5)
    assert found["beam_angle_degrees"] == pytest.approx(np.degrees(1), abs=0.5)


def sites_of(vertices, *, sd=0.4, reach=6.0, count=150, seed=0):
    """Sites with errors that hang together over `reach`."""
    rng = np.random.default_rng(seed)
    places = vertices[np.sort(rng.choice(len(vertices), count, replace=False))]
    apart = np.linalg.norm(places[:, None] - places, axis=2)
    return Sites(places, sd**2 * np.exp(-((apart / reach) ** 2)), np.ones((count, 5)) * [0.1, 0.01, 0.001, 0.02, 0.03])


def test_standard_errors_are_the_scatter_over_moved_surfaces():
    """Surfaces moved along their normals by draws from the covariance: what is measured on them scatters as stated."""
    vertices, faces = ellipsoid((16.0, 13.0, 10.0), fine=4)
    lean = np.radians(40)
    vertices = vertices @ [[np.cos(lean), 0, np.sin(lean)], [0, 1, 0], [-np.sin(lean), 0, np.cos(lean)]]
    sites = sites_of(vertices)
    shape = membrane(vertices, faces, sites=sites)
    stated = measure_shape(shape, volume(vertices, faces))
    root = np.linalg.cholesky(sites.covariance + 1e-9 * np.eye(len(sites.places)))
    apart = np.linalg.norm(vertices[:, None] - sites.places, axis=2)
    carry = 0.4**2 * np.exp(-((apart / 6.0) ** 2)) @ np.linalg.inv(sites.covariance + 1e-6 * np.eye(len(sites.places)))
    rng, found = np.random.default_rng(5), []
    for _ in range(40):
        shift = 0.1 * carry @ root @ rng.normal(size=len(sites.places))
        moved = vertices + shift[:, None] * shape.normals
        measured = measure_shape(membrane(moved, faces), volume(moved, faces))
        mesh = trimesh.Trimesh(moved, faces, process=False)
        measured |= {"area_nm2": mesh.area, "enclosed_volume_nm3": abs(mesh.volume)}
        found.append(measured)
    for value, error in (
        ("area_nm2", "area_se_nm2"),
        ("enclosed_volume_nm3", "enclosed_volume_se_nm3"),
        ("major_axis_nm", "major_axis_se_nm"),
        ("minor_axis_nm", "minor_axis_se_nm"),
        ("major_axis_to_beam_degrees", "major_axis_to_beam_se_degrees"),
        ("mean_curvature_per_nm", "mean_curvature_se_per_nm"),
    ):
        scatter = np.std([row[value] for row in found], ddof=1) / 0.1
        assert stated[error] == pytest.approx(scatter, rel=0.35), value


def correlated(shape, *, sd=0.4, reach=6.0, count=90):
    """Sites whose slopes and bends err as those of a field with the covariance sd^2 exp(-(r / reach)^2) do."""
    sites = sites_of(shape.vertices, sd=sd, reach=reach, count=count)
    owner = np.argmin(np.linalg.norm(sites.places[:, None] - shape.vertices, axis=2), axis=1)
    one, two = principal(shape.mean[owner], shape.gaussian[owner])
    bend = sd / reach**2
    gaussian = bend * np.sqrt(12 * (one**2 + two**2) + 8 * one * two)
    slope, mean, each = (np.full(count, value) for value in (2 * sd / reach, 8**0.5 * bend, 12**0.5 * bend))
    return Sites(sites.places, sites.covariance, np.column_stack([slope, mean, gaussian, each, each]))


def test_errors_of_means_cover_the_scatter_of_all_and_of_the_seen_part():
    """Too large rather than too small, up to 6 times: of a closed surface, and of the part of it that was seen."""
    vertices, faces = ellipsoid((16.0, 13.0, 10.0), fine=4)
    seen = vertices[:, 2] > -2
    shape = membrane(vertices, faces, seen=seen)
    sites = correlated(shape)
    stated = measure_shape(dataclasses.replace(shape, sites=sites), volume(vertices, faces))
    field = 0.4**2 * np.exp(-((np.linalg.norm(vertices[:, None] - vertices[::9], axis=2) / 6.0) ** 2))
    root = np.linalg.cholesky(field[::9] + 1e-6 * np.eye(len(field[0])))
    carry = field @ np.linalg.inv(root.T)
    rng, found = np.random.default_rng(5), []
    for _ in range(40):
        moved = vertices + 0.1 * (carry @ rng.normal(size=len(root)))[:, None] * shape.normals
        found.append(measure_shape(membrane(moved, faces, seen=seen), volume(moved, faces)))
    for name in MEANS:
        for part in ("", "_seen"):
            scatter = 10 * np.std([row[name.format(part)] for row in found], ddof=1)
            # 40 draws know their scatter to 11 %.
            assert 0.75 < stated[name.format(f"{part}_se")] / scatter < 6, (name, part)
    scatter = 10 * np.std([row["area_seen_nm2"] for row in found], ddof=1)
    assert stated["area_seen_se_nm2"] == pytest.approx(scatter, rel=0.35)


def test_a_sphere_that_may_be_larger_has_the_errors_of_its_radius():
    """Mutant: errors from slopes and bends alone, of which there are none here, would be 0."""
    vertices, faces = ellipsoid((15.0, 15.0, 15.0))
    sites = sites_of(vertices)
    sites = Sites(sites.places, np.full((150, 150), 0.25), np.zeros((150, 5)))
    found = measure_shape(membrane(vertices, faces, sites=sites, seen=vertices[:, 1] > 3), volume(vertices, faces))
    of_radius = 0.5 / 15**2
    for part in ("", "_seen"):
        for name in ("mean_curvature", "principal_1", "principal_2", "curvedness"):
            assert found[f"{name}{part}_se_per_nm"] == pytest.approx(of_radius, rel=0.05), name
        assert found[f"gaussian_curvature{part}_se_per_nm2"] == pytest.approx(2 * of_radius / 15, rel=0.05)
        assert found[f"shape_index{part}_se"] < 1e-3 and found[f"beam_angle{part}_se_degrees"] < 1e-2


def test_errors_that_hang_together_are_larger():
    """Mutant: adding up variances as if the sites were independent misses most of the volume's error."""
    vertices, faces = ellipsoid((16.0, 13.0, 10.0))
    together = sites_of(vertices, reach=60.0)
    alone = Sites(together.places, np.diag(np.diag(together.covariance)), together.errors)
    size = volume(vertices, faces)
    one, other = (
        measure_shape(membrane(vertices, faces, sites=s), size)["enclosed_volume_se_nm3"] for s in (together, alone)
    )
    assert one > 5 * other
    # All of it together: the whole surface moves by 0.4 nm.
    assert one < 0.4 * trimesh.Trimesh(vertices, faces, process=False).area


def test_mean_curvature_of_an_open_sheet_has_the_error_of_its_sites():
    """Mutant: the first variation of a closed surface leaves out the rim, and would say that a flat sheet has none."""
    grid = np.stack(np.meshgrid(np.arange(30.0), np.arange(30.0), indexing="ij"), -1).reshape(-1, 2)
    corner = np.arange(900).reshape(30, 30)
    a, b, c, d = corner[:-1, :-1].ravel(), corner[1:, :-1].ravel(), corner[1:, 1:].ravel(), corner[:-1, 1:].ravel()
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    vertices = np.column_stack([np.zeros(900), grid])
    sheet = membrane(vertices, faces, sites=sites_of(vertices, count=100))
    found = measure_shape(sheet, None)
    assert 0.01 / 100**0.5 <= found["mean_curvature_se_per_nm"] < 0.01 / 100**0.5 * 1.5
    weights = np.abs(sheet.gaussian - 2 * sheet.mean**2) * vertex_areas(sheet)
    assert sheet.sites.standard_error(weights, sheet.sites.owner(vertices)) < 1e-6


def test_errors_carried_to_vertices():
    vertices, _ = ellipsoid()
    found = sites_of(vertices).at(vertices)
    np.testing.assert_allclose(found.normal, 0.1)
    np.testing.assert_allclose(found.second, 0.03)
    assert vertex_areas(membrane(*ellipsoid())).sum() == pytest.approx(trimesh.Trimesh(*ellipsoid()).area, rel=1e-6)
