"""Distances along meshes: a plane, a rolled-up plane, a sphere's great circles; edge paths are worse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from cryoscale.measure.proteins import geodesic
from cryoscale.measure.proteins.foot import Feet, nearest_feet
from cryoscale.measure.proteins.geodesic import Sheet, distances_from, distances_to
from tests.measure.proteins.meshes import feet_in, grid, plane, sphere


def table(sheet, feet):
    return np.array([distances_to(sheet, distances_from(sheet, feet, row), feet, row) for row in range(len(feet.face))])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(0, 200))
def test_a_plane_is_exact_for_any_triangles(seed, count):
    vertices, faces = plane(count, 30.0, seed)
    feet = feet_in(vertices, faces, 8, seed)
    straight = np.linalg.norm(feet.position[:, None] - feet.position[None], axis=2)
    np.testing.assert_allclose(table(Sheet.of(vertices, faces), feet), straight, atol=1e-6)


def test_a_rolled_up_plane_is_as_long_as_before():
    flat, faces = grid(60)
    feet = feet_in(flat, faces, 12)
    radius = 12.0  # 60 of 75 around: open along a slit
    angle = flat[:, 2] / radius
    rolled = np.column_stack([radius * np.cos(angle), flat[:, 1], radius * np.sin(angle)])
    on_roll = Feet(
        feet.face, feet.weights, np.einsum("nc,nck->nk", feet.weights, rolled[faces[feet.face]]), feet.distance
    )
    straight = np.linalg.norm(feet.position[:, None] - feet.position[None], axis=2)
    found = table(Sheet.of(rolled, faces), on_roll)
    far = straight > 2
    assert np.abs(found[far] / straight[far] - 1).max() < 0.01
    # The slit is not jumped: the two ends are near in space.
    ends = nearest_feet(rolled[[np.argmin(flat[:, 2]), np.argmax(flat[:, 2])]], rolled, faces)
    assert table(Sheet.of(rolled, faces), ends)[0, 1] > 55 > np.ptp(ends.position, axis=0).max() * 2


@pytest.mark.parametrize("radius", [12.3, 25.0])
def test_great_circles(radius):
    vertices, faces, _, centre = sphere(radius)
    sheet, feet = Sheet.of(vertices, faces), feet_in(vertices, faces, 15)
    way = (feet.position - centre) / np.linalg.norm(feet.position - centre, axis=1, keepdims=True)
    true = radius * np.arccos(np.clip(way @ way.T, -1, 1))
    far = true > 1
    found = table(sheet, feet)
    error = found[far] / true[far] - 1
    assert np.abs(error).max() < 0.02 and abs(error.mean()) < 0.005
    # Along the edges alone the ways are several per cent too long.
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    length = np.linalg.norm(vertices[ends[:, 0]] - vertices[ends[:, 1]], axis=1)
    graph = coo_array((length, ends.T), shape=(len(vertices),) * 2).tocsr()
    corner = faces[feet.face, 0]
    edges = dijkstra(graph, directed=False, indices=corner)[:, corner]
    unit = (vertices[corner] - centre) / np.linalg.norm(vertices[corner] - centre, axis=1, keepdims=True)
    great = radius * np.arccos(np.clip(unit @ unit.T, -1, 1))
    assert (edges[far] / great[far] - 1).mean() > 0.03 > 6 * np.abs(error).mean()


def test_edge_paths_instead_of_fronts_are_seen(monkeypatch):
    vertices, faces = plane(150, 30.0)
    sheet, feet = Sheet.of(vertices, faces), feet_in(vertices, faces, 6)
    right = table(sheet, feet)
    monkeypatch.setattr(geodesic, "_spread", lambda v, f, *more: along_edges(v, f, more[5]))
    assert (table(sheet, feet) > right * 1.01).any()


def along_edges(vertices, faces, distance):
    for _ in range(len(vertices)):
        for a, b in ((0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)):
            length = np.linalg.norm(vertices[faces[:, a]] - vertices[faces[:, b]], axis=1)
            np.minimum.at(distance, faces[:, b], distance[faces[:, a]] + length)


def test_the_limit_changes_nothing_within_it():
    vertices, faces, _, _ = sphere(14.0)
    sheet, feet = Sheet.of(vertices, faces), feet_in(vertices, faces, 4)
    whole, part = distances_from(sheet, feet, 1), distances_from(sheet, feet, 1, 10.0)
    np.testing.assert_allclose(part[np.isfinite(part)], whole[np.isfinite(part)], rtol=1e-6)
    assert 50 < np.isfinite(part).sum() == (whole <= 10).sum()


def test_pieces_are_infinitely_far_apart():
    vertices, faces = plane(30, 5.0)
    both = np.concatenate([vertices, vertices + np.array([0.1, 0, 0])])
    sheet = Sheet.of(both, np.concatenate([faces, faces + len(vertices)]))
    feet = nearest_feet(np.array([[0.0, 2, 2], [0.1, 2, 2]]), sheet.vertices, sheet.faces)
    assert table(sheet, feet)[0, 1] == np.inf


def test_areas_add_up():
    vertices, faces, _, _ = sphere(15.0)
    sheet = Sheet.of(vertices, faces)
    assert (
        sheet.vertex_areas().sum()
        == pytest.approx(sheet.face_areas().sum())
        == pytest.approx(4 * np.pi * 225, rel=0.01)
    )
    assert 1 < sheet.longest_edge < 1.8
