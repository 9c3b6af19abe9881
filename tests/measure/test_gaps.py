"""Errors of distances: analytic for spheres and planes that move as one; the scatter of measuring drawn surfaces."""

import dataclasses

import numpy as np
import pytest

from cryoscale.measure.contact import find_contacts, pair_errors, weighted_quantile
from cryoscale.measure.errors import Sites
from cryoscale.measure.gaps import PairErrors
from cryoscale.measure.shape import vertex_areas
from tests.measure.test_contact import other, plane, sphere


def sure(shape, sd, length, bend=0.0, count=160):
    """The shape with errors that hang together over a length along it."""
    rows = np.linspace(0, len(shape.vertices) - 1, count).astype(int)
    places = shape.vertices[rows]
    apart = np.linalg.norm(places[:, None] - places, axis=2)
    covariance = sd**2 * np.exp(-0.5 * (apart / length) ** 2)
    mean = np.full(len(shape.vertices), bend)
    return dataclasses.replace(shape, mean=mean, sites=Sites(places, covariance, np.zeros((count, 5))))


def found(shape, across, contact=20.0):
    area = vertex_areas(shape)
    beside = dataclasses.replace(other(across), sites=across.sites)
    return find_contacts(shape, area, [(2, beside)], limit_nm=60.0, contact_nm=contact), area


def test_spheres_that_grow_as_a_whole():
    inner, outer = sure(sphere(30.0), 0.4, 1e6, 1 / 30), sure(sphere(42.0), 0.3, 1e6, 1 / 42)
    facing = found(inner, outer)[0].facing[2]
    assert facing.mean_error == pytest.approx(0.5, rel=0.01)
    assert facing.median_error == pytest.approx(0.5, rel=0.02)
    assert facing.mean_seen_error == pytest.approx(facing.mean_error)
    assert found(inner, outer, contact=5.0)[0].facing[2].contact_area_error == 0
    # All of it is within 20 nm: only its own size can change.
    assert facing.contact_area_error == pytest.approx(8 * np.pi * 30 * 0.4, rel=0.02)


def test_contact_of_a_tilted_plane():
    tilt = np.arctan(0.5)
    low, high = sure(plane(0.0, size=60), 0.3, 1e6), sure(plane(10.0, tilt, size=60), 0.4, 1e6)
    contacts, _ = found(high, low)
    # A plane that is lifted by d along the vertical loses a strip d / 0.5 long of its 59, longer by 1 / cos.
    lifted = np.hypot(0.3, 0.4 * np.cos(tilt))
    assert contacts.facing[2].contact_area_error == pytest.approx(lifted / 0.5 * 59 / np.cos(tilt), rel=0.1)


def numbers(shape, across, contact):
    contacts, area = found(shape, across, contact)
    distance = contacts.gaps.distance
    near = np.isfinite(distance)
    return (
        area[near] @ distance[near] / area[near].sum(),
        weighted_quantile(distance, area, 0.5),
        area[near & (distance <= contact)].sum(),
    )


def test_errors_are_the_scatter_of_drawn_surfaces():
    one = sure(sphere(14.0, fine=3), 0.35, 6.0, 1 / 14)
    two = sure(sphere(12.0, (3.0, 4, 30.0), fine=3), 0.3, 6.0, 1 / 12)
    contacts, area = found(one, two, contact=12.0)
    rows = np.isfinite(contacts.gaps.distance)
    errors = pair_errors(contacts, one, area, rows)
    mean, median, _ = numbers(one, two, 12.0)
    stated = (errors.of_mean(mean), errors.of_median(median), errors.of_area_within(12.0))
    rng, drawn = np.random.default_rng(4), []
    for _ in range(60):
        moved = []
        for shape in (one, two):
            places, covariance = shape.sites.places, shape.sites.covariance
            off = rng.multivariate_normal(np.zeros(len(places)), covariance, method="eigh")
            reach = np.linalg.norm(shape.vertices[:, None] - places, axis=2)
            gain = 0.09 * np.exp(-0.5 * (reach / 6.0) ** 2) * (covariance[0, 0] / 0.09)
            smooth = gain @ np.linalg.solve(covariance + 1e-6 * np.eye(len(places)), off)
            moved.append(dataclasses.replace(shape, vertices=shape.vertices + smooth[:, None] * shape.normals))
        drawn.append(numbers(*moved, 12.0))
    scatter = np.std(drawn, axis=0, ddof=1)
    np.testing.assert_allclose(stated, scatter, rtol=0.3)
    # Mutants: the other surface is sure; errors of sites hang together nowhere.
    still = dataclasses.replace(two.sites, covariance=np.zeros_like(two.sites.covariance))
    alone = dataclasses.replace(errors, others={2: still}).of_mean(mean)
    assert alone < 0.8 * stated[0]
    apart = [dataclasses.replace(one.sites, covariance=np.diag(np.diag(one.sites.covariance)))]
    assert dataclasses.replace(errors, sites=apart[0], others={2: still}).of_mean(mean) < 0.6 * alone


def test_without_errors_of_either_there_are_none():
    known, bare = sure(sphere(10.0, fine=2), 0.3, 5.0), sphere(14.0, fine=2)
    for one, two in ((known, bare), (bare, known), (bare, bare)):
        facing = found(one, two)[0].facing[2]
        assert facing.mean is not None and facing.median is not None
        assert (
            facing.mean_error is None
            and facing.median_error is None
            and facing.angle_median_error is None
            and facing.contact_area_error is None
        )


def test_the_median_angle_errs_as_both_normals_do():
    low, high = sure(plane(0.0, np.radians(20)), 0.3, 5.0), sure(plane(40.0), 0.3, 5.0)
    turned = [dataclasses.replace(one.sites, errors=np.full((160, 5), np.radians(4))) for one in (low, high)]
    low, high = (dataclasses.replace(one, sites=sites) for one, sites in zip((low, high), turned, strict=True))
    contacts, _ = found(low, high)
    np.testing.assert_allclose(contacts.gaps.turn_degrees, 4, rtol=1e-6)
    # One angle everywhere: the mean over 160 sites of either, of unequal areas.
    least = 4 / np.sqrt(2) * np.sqrt(2 / 160)
    assert least < contacts.facing[2].angle_median_error < 2 * least


def test_nothing_near_has_no_error():
    known = sure(sphere(10.0, fine=2), 0.3, 5.0)
    contacts, area = found(known, sure(sphere(10.0, (0, 0, 200.0), fine=2), 0.3, 5.0))
    errors = pair_errors(contacts, known, area, contacts.gaps.number > 0)
    assert isinstance(errors, PairErrors) and errors.of_area_within(20.0) is None
