"""Normals against analytic ones: outward and consistent, across gaps too."""

import numpy as np
import pytest

from cryoscale.fit.normals import centre_line, local_planes, orient
from tests.fit.shapes import SHAPES, degrade, sphere_points


def _flipped(normals: np.ndarray, seed: int = 0) -> np.ndarray:
    return normals * np.random.default_rng(seed).choice([-1.0, 1.0], len(normals))[:, None]


@pytest.mark.parametrize("cap", [2.0, 0.7, 0.5])
def test_spheres_point_outward(cap: float) -> None:
    q = sphere_points(30.0, 600, seed=2, cap=cap) + 50
    radial = (q - 50) / 30
    assert ((orient(q, _flipped(radial)) * radial).sum(1) > 0.99).all()


@pytest.mark.parametrize("name", ["peanut", "banana", "bumpy"])
def test_other_shapes_point_outward(name: str) -> None:
    _, q = degrade(SHAPES[name], seed=1, cap=0.7)
    q = q[::8]
    g = SHAPES[name].gradient(q)
    true = g / np.linalg.norm(g, axis=1, keepdims=True)
    assert ((orient(q, _flipped(true)) * true).sum(1) > 0).mean() > 0.995


def test_two_facing_halves_agree() -> None:
    """Two side walls of one vesicle without any link between them."""
    q = sphere_points(30.0, 900, seed=3)
    q = q[np.abs(q[:, 2]) > 12]
    radial = q / 30
    assert ((orient(q, _flipped(radial)) * radial).sum(1) > 0.9).all()


def test_plain_propagation_would_fail_there() -> None:
    """The rule n_j . n_i > 0, without the reflection, turns one of two facing walls inside out."""
    a, b = np.array([1.0, 0, 0]), np.array([-1.0, 0, 0])
    e = np.array([-1.0, 0, 0])
    assert a @ b < 0 < (a - 2 * (a @ e) * e) @ b


def test_planes_see_through_a_thick_membrane_on_a_small_vesicle() -> None:
    grid = np.argwhere(np.ones((31, 31, 31), bool)) - 15.0
    r = np.linalg.norm(grid, axis=1)
    shell = grid[np.abs(r - 11) <= 1.5]
    start = shell[::15]
    moved, normals, _ = centre_line(start, shell, np.ones(len(shell)), radius=6.0)
    radius = np.linalg.norm(moved, axis=1)
    assert abs(radius.mean() - 11.05) < 0.12
    assert radius.std() < 0.25 < np.linalg.norm(start, axis=1).std()
    assert (np.abs((normals * moved).sum(1)) / radius > 0.97).all()


def test_local_planes_on_a_plane() -> None:
    rng = np.random.default_rng(0)
    q = np.stack([rng.normal(0, 0.5, 3000), *rng.uniform(-30, 30, (2, 3000))], 1)
    centres = q[(np.abs(q) < 20).all(1)][:50]
    fit = local_planes(centres, q, np.ones(len(q)), radius=8.0)
    normals, height = fit.normals, fit.heights
    assert (np.abs(normals[:, 0]) > 0.98).all()
    assert np.abs(centres[:, 0] + height * normals[:, 0]).mean() < 0.2


@pytest.mark.parametrize("seed", range(5))
def test_in_a_plane_two_axes_are_all_there_is(seed: int) -> None:
    """Whatever lies in memory behind the last row: a walk over three axes of two would read it."""
    rng = np.random.default_rng(seed)
    turn = rng.permutation(np.linspace(0, 2 * np.pi, 60, endpoint=False))
    axes = np.array([50.0, 30.0])
    q = np.stack([np.cos(turn), np.sin(turn)], 1) * axes
    true = q / axes**2
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    held = rng.normal(0, 1e3, (2, 61, 2))
    held[0, :60], held[1, :60] = q, _flipped(true, seed)
    found = orient(held[0, :60], held[1, :60])
    np.testing.assert_array_equal(found, true)
    flat = [np.column_stack([part, np.zeros(60)]) for part in held[:, :60]]
    np.testing.assert_array_equal(orient(*flat)[:, :2], found)


def test_one_point_has_no_orientation() -> None:
    with pytest.raises(ValueError, match="found 1 point"):
        orient(np.zeros((1, 3)), np.eye(3)[:1])
