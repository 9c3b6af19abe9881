"""What is near what: concentric spheres, plane pairs, and a brute-force nearest neighbour."""

import dataclasses

import numpy as np
import pytest
import trimesh

from cryoscale.measure.contact import Other, _nearest, find_contacts, weighted_quantile
from cryoscale.measure.nearest import TriangleTree
from cryoscale.measure.shape import Membrane, vertex_areas
from cryoscale.measure.tables import pair_rows


def membrane(vertices, faces, normals, sd=0.3):
    nothing = np.zeros(len(vertices))
    seen = np.ones(len(vertices), bool)
    return Membrane(np.asarray(vertices, float), faces, normals, nothing, nothing, seen, sd=np.full(len(vertices), sd))


def other(shape):
    return Other(shape.vertices, shape.faces, shape.normals, shape.sd)


def sphere(radius, centre=(0.0, 0, 0), fine=4):
    mesh = trimesh.creation.icosphere(fine, 1.0)
    return membrane(mesh.vertices * radius + centre, mesh.faces, mesh.vertices.copy())


def plane(height, tilt=0.0, size=40, step=1.0):
    grid = np.stack(np.meshgrid(np.arange(size) * step, np.arange(size) * step, indexing="ij"), -1).reshape(-1, 2)
    corner = np.arange(size * size).reshape(size, size)
    a, b, c, d = corner[:-1, :-1].ravel(), corner[1:, :-1].ravel(), corner[1:, 1:].ravel(), corner[:-1, 1:].ravel()
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    vertices = np.column_stack([height + np.tan(tilt) * grid[:, 0], grid])
    normal = np.array([np.cos(tilt), -np.sin(tilt), 0])
    return membrane(vertices, faces, np.tile(normal, (len(grid), 1)))


def contacts(shape, others, limit=60.0, contact=20.0):
    listed = [(number, other(one)) for number, one in others]
    return find_contacts(shape, vertex_areas(shape), listed, limit_nm=limit, contact_nm=contact)


def test_concentric_spheres_are_a_double_membrane():
    inner, outer = sphere(30.0), sphere(42.0)
    found = contacts(inner, [(2, outer)])
    np.testing.assert_allclose(found.gaps.distance, 12, atol=0.1)
    np.testing.assert_allclose(found.angle, 0, atol=1)
    np.testing.assert_allclose(found.gaps.error, np.hypot(0.3, 0.3), rtol=1e-6)
    facing = found.facing[2]
    assert facing.mean == pytest.approx(12, abs=0.05) and facing.sd < 0.05
    assert facing.area == pytest.approx(facing.contact_area) == pytest.approx(4 * np.pi * 900, rel=0.01)
    back = contacts(outer, [(1, inner)]).facing[1]
    rows = [{"number": 1, "area_nm2": 4 * np.pi * 900}, {"number": 2, "area_nm2": 4 * np.pi * 42**2}]
    both = [{"number": 1, "facing": {"2": vars(facing)}}, {"number": 2, "facing": {"1": vars(back)}}]
    (pair,) = pair_rows(rows, both, 20.0)
    assert pair["double"] and pair["facing_share"] == pytest.approx(1, abs=0.01)
    assert pair_rows(rows, both, 10.0) == []


def test_the_distance_of_the_seen_part_alone():
    below, above = plane(0.0, tilt=np.radians(20)), plane(40.0)
    half = dataclasses.replace(below, seen=below.vertices[:, 1] < 20)
    facing = contacts(half, [(2, above)]).facing[2]
    # The plane below rises by tan(20 degrees) along y: the half that was seen is the farther one.
    rise = np.tan(np.radians(20))
    assert facing.mean == pytest.approx(40 - rise * 19.5, abs=0.2)
    assert facing.mean_seen == pytest.approx(40 - rise * 9.75, abs=0.2)
    blind = dataclasses.replace(below, seen=np.zeros(len(below.vertices), bool))
    assert contacts(blind, [(2, above)]).facing[2].mean_seen is None


def test_plane_pair_at_an_angle():
    tilt = np.radians(20)
    found = contacts(plane(30.0, tilt), [(7, plane(0.0))], limit=100.0)
    inner = (found.gaps.number == 7) & (found.gaps.distance > 0)
    assert inner.all()
    np.testing.assert_allclose(found.angle, 20, atol=1e-6)
    np.testing.assert_allclose(found.gaps.distance, plane(30.0, tilt).vertices[:, 0], atol=1e-9)


def test_contact_area_is_the_part_within_the_distance():
    tilt = np.arctan(0.5)
    low = plane(0.0, size=60)
    found = contacts(plane(10.0, tilt, size=60), [(3, low)], contact=20.0)
    # Height 10 + y / 2 is within 20 up to y = 20, of 59; the sheet is longer by 1 / cos.
    assert found.facing[3].contact_area == pytest.approx(20.5 * 59 / np.cos(tilt), rel=0.02)


def test_nearest_of_several_and_none_beyond_the_limit():
    near, far = sphere(10.0, (0, 0, 25.0)), sphere(10.0, (0, 0, -40.0))
    found = contacts(sphere(10.0), [(4, far), (9, near)], limit=12.0)
    facing_near = found.gaps.number == 9
    assert facing_near.any() and set(found.gaps.number) <= {0, 4, 9}
    assert found.gaps.distance[facing_near].min() == pytest.approx(5, abs=0.05)
    assert np.isnan(found.gaps.distance[found.gaps.number == 0]).all()
    assert 4 not in found.facing or found.facing[4].smallest > 12 - 1e-9


def test_against_brute_force_and_a_mutant():
    rng = np.random.default_rng(2)
    one, two = sphere(14.0, fine=3), sphere(12.0, (3.0, 4, 26.0), fine=3)
    found = contacts(one, [(5, two)], limit=1000.0)
    rows = rng.choice(len(one.vertices), 60, replace=False)
    triangles = two.vertices[two.faces]
    for row in rows:
        point = np.broadcast_to(one.vertices[row], (len(triangles), 3))
        feet = trimesh.triangles.closest_point(triangles, point)
        assert found.gaps.distance[row] == pytest.approx(np.linalg.norm(feet - point, axis=1).min(), abs=1e-9)
    # Mutant: to the other's vertices alone, distances come out too large.
    vertices = np.linalg.norm(one.vertices[:, None] - two.vertices, axis=2).min(axis=1)
    assert (vertices - found.gaps.distance).max() > 0.1


def test_order_of_equally_near_membranes_is_by_number():
    left, right = sphere(5.0, (0, 0, 20.0)), sphere(5.0, (0, 0, 20.0))
    found = contacts(sphere(5.0), [(3, left), (8, right)])
    assert set(found.gaps.number[found.gaps.number > 0]) == {3}


def test_weighted_quantile():
    values, weights = np.array([1.0, 2, np.nan, 3]), np.array([1.0, 1, 5, 4])
    assert weighted_quantile(values, weights, 0.5) == 3
    assert weighted_quantile(values, weights, 0.2) == 2
    assert weighted_quantile(np.array([np.nan]), np.ones(1), 0.5) is None


@pytest.mark.parametrize("limit", [3.0, 11.0, 40.0])
def test_faces_that_are_left_out_change_nothing(limit):
    """Large triangles across the box of the points as well, all of whose corners lie outside."""
    rng = np.random.default_rng(8)
    middle = rng.uniform(-60, 60, (40, 1, 3))
    corners = middle + rng.normal(0, rng.choice([2.0, 2.0, 30.0], (40, 1, 1)), (40, 3, 3))
    faces = np.arange(120).reshape(40, 3)
    soup = Other(corners.reshape(-1, 3), faces, np.zeros((120, 3)))
    for points in (rng.uniform(-10, 10, (200, 3)), rng.uniform(50, 70, (50, 3)), np.full((1, 3), 500.0)):
        expected = TriangleTree.of(soup.vertices, faces).nearest(points, limit)
        found = _nearest(points, soup, limit)
        for one, two in (
            (found.distance, expected.distance),
            (found.face, expected.face),
            (found.weights, expected.weights),
        ):
            np.testing.assert_array_equal(one, two)
