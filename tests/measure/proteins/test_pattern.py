"""Density, neighbours and pairs: planes and spheres where Ripley's statistic is known, edges, mutants."""

import numpy as np
import pytest

from cryoscale.measure.proteins import pattern
from cryoscale.measure.proteins.foot import nearest_feet
from cryoscale.measure.proteins.geodesic import Sheet
from cryoscale.measure.proteins.pattern import find_neighbours, nearest_neighbours, pair_statistics, random_feet
from tests.measure.proteins.meshes import feet_in, plane, sphere


def test_neighbours_and_areas_on_a_plane():
    vertices, faces = plane(3000, 40.0)
    sheet = Sheet.of(vertices, faces)
    points = np.array([[0.0, 20, 20], [0, 20, 24], [0, 0, 0], [0, 39.9, 20]])
    feet = nearest_feet(points, vertices, faces)
    found = find_neighbours(sheet, feet, [3.0, 8.0])
    assert sorted(map(tuple, found.pairs.tolist())) == [(0, 1), (1, 0)]
    np.testing.assert_allclose(found.distance, 4)
    np.testing.assert_allclose(found.area_within[0], [np.pi * 9, np.pi * 64], rtol=0.05)
    # A quarter at a corner and half at an edge: what Ripley's edge correction is about.
    np.testing.assert_allclose(found.area_within[2], [np.pi * 9 / 4, np.pi * 16], rtol=0.06)
    np.testing.assert_allclose(found.area_within[3], [np.pi * 9 / 2, np.pi * 32], rtol=0.06)


def test_areas_on_a_sphere_are_caps():
    vertices, faces, _, _ = sphere(20.0)
    found = find_neighbours(Sheet.of(vertices, faces), feet_in(vertices, faces, 5), [10.0, 25.0])
    caps = 2 * np.pi * 400 * (1 - np.cos(np.array([10.0, 25.0]) / 20))
    np.testing.assert_allclose(found.area_within, np.tile(caps, (5, 1)), rtol=0.02)


@pytest.mark.parametrize("first", [0.001, 3.0, 1000.0])
def test_nearest_neighbours_whatever_the_first_limit(first):
    vertices, faces, _, centre = sphere(15.0)
    feet = feet_in(vertices, faces, 9)
    distance, other = nearest_neighbours(Sheet.of(vertices, faces), feet, first)
    way = (feet.position - centre) / 15
    angle = np.arccos(np.clip(way @ way.T, -1, 1)) + 10 * np.eye(9)
    np.testing.assert_array_equal(other, angle.argmin(axis=1))
    np.testing.assert_allclose(distance, 15 * angle.min(axis=1), rtol=0.02)
    again, _ = nearest_neighbours(Sheet.of(vertices, faces), feet, 1000.0)
    np.testing.assert_allclose(distance, again, rtol=1e-9)


def test_one_alone_and_none():
    vertices, faces = plane(20, 5.0)
    sheet = Sheet.of(vertices, faces)
    for count in (0, 1):
        distance, other = nearest_neighbours(sheet, feet_in(vertices, faces, count), 2.0)
        assert distance.tolist() == [np.inf] * count and other.tolist() == [-1] * count
        assert pair_statistics(sheet, feet_in(vertices, faces, count), [1.0], simulations=5, seed=0) is None


def test_two_pieces_do_not_see_each_other():
    vertices, faces = plane(30, 5.0)
    both = np.concatenate([vertices, vertices + np.array([1.0, 0, 0])])
    sheet = Sheet.of(both, np.concatenate([faces, faces + len(vertices)]))
    feet = nearest_feet(np.array([[0.0, 1, 1], [0, 4, 4], [1, 2, 2]]), sheet.vertices, sheet.faces)
    distance, other = nearest_neighbours(sheet, feet, 1.0)
    assert other.tolist() == [1, 0, -1] and distance[2] == np.inf


def test_random_points_are_even_over_the_area():
    vertices, faces = plane(300, 10.0)
    feet = random_feet(Sheet.of(vertices, faces), 4000, np.random.default_rng(0))
    counts = np.histogram2d(*feet.position[:, 1:].T, bins=4, range=[[0, 10]] * 2)[0]
    # Small and large triangles alike: 250 to a cell, 4.5 sd.
    assert np.abs(counts - 250).max() < 70


RADII = [3.0, 6.0, 9.0]


def sheet_with_edges():
    vertices, faces = plane(2500, 40.0)
    return Sheet.of(vertices, faces)


def test_chance_gives_one_within_its_own_band_at_edges_too():
    sheet, inside, ratios = sheet_with_edges(), 0, []
    for seed in range(5):
        feet = random_feet(sheet, 40, np.random.default_rng(100 + seed))
        found = pair_statistics(sheet, feet, RADII, simulations=99, seed=seed)
        inside += int(((found.ratio >= found.low) & (found.ratio <= found.high)).sum())
        ratios.append(found.ratio)
        assert (found.low < 1).all() and (found.high > 1).all()
    assert np.mean(ratios) == pytest.approx(1, abs=0.08)
    assert inside >= 12


def test_without_the_edge_correction_chance_would_look_like_keeping_apart():
    sheet = sheet_with_edges()
    feet = random_feet(sheet, 400, np.random.default_rng(3))
    found = find_neighbours(sheet, feet, [9.0])
    per_pair = 400 * 399 / 1600.0
    corrected = len(found.pairs) / (found.area_within.sum() * 399 / 1600)
    plain = len(found.pairs) / (np.pi * 81 * per_pair)
    assert corrected == pytest.approx(1, abs=0.05) and plain < 0.9


def test_clusters_and_lattices_are_told_from_chance():
    sheet = sheet_with_edges()
    rng = np.random.default_rng(1)
    middles = rng.random((8, 2)) * 36 + 2
    crowd = np.concatenate([np.zeros((40, 1)), np.repeat(middles, 5, axis=0) + rng.normal(0, 0.7, (40, 2))], axis=1)
    clustered = pair_statistics(sheet, nearest_feet(crowd, sheet.vertices, sheet.faces), RADII, simulations=99, seed=0)
    assert (clustered.ratio > clustered.high)[0] and clustered.ratio[0] > 3
    grid = np.stack(np.meshgrid(0, np.arange(6) * 6 + 4.0, np.arange(6) * 6 + 4.0), axis=-1).reshape(-1, 3)
    lattice = pair_statistics(
        sheet, nearest_feet(grid, sheet.vertices, sheet.faces), [3.0, 5.0], simulations=99, seed=0
    )
    assert (lattice.ratio == 0).all() and (lattice.ratio < lattice.low).all()


def test_the_seed_decides():
    sheet = sheet_with_edges()
    feet = random_feet(sheet, 12, np.random.default_rng(0))
    bands = [pair_statistics(sheet, feet, RADII, simulations=20, seed=seed).high.tolist() for seed in (1, 1, 2)]
    assert bands[0] == bands[1] != bands[2]


def test_a_crowd_is_thinned_and_its_ratio_stays(monkeypatch):
    sheet = sheet_with_edges()
    rng = np.random.default_rng(1)
    parents = rng.random((60, 2)) * 36 + 2
    crowd = np.concatenate([np.zeros((240, 1)), np.repeat(parents, 4, axis=0) + rng.normal(0, 1, (240, 2))], axis=1)
    feet = nearest_feet(crowd, sheet.vertices, sheet.faces)
    whole = pair_statistics(sheet, feet, RADII, simulations=3, seed=0)
    monkeypatch.setattr(pattern, "_MOST_POINTS", 120)
    part = pair_statistics(sheet, feet, RADII, simulations=3, seed=0)
    assert part.pairs[0] < whole.pairs[0] / 3
    np.testing.assert_allclose(part.ratio, whole.ratio, rtol=0.2)
    assert whole.ratio[0] > 1.5
