"""Pictures of surfaces against the sphere, whose picture is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from cryoscale.report.figures import FRONT, RIGHT, TOP
from cryoscale.report.render import Frame, Surface, View, light, rasterise, shade, vertex_normals
from tests.report.scene import sphere

BOX = (100.0, 100.0, 100.0)
CENTRE = (50.0, 50.0, 50.0)
RADIUS = 30.0


@pytest.mark.parametrize("view", [TOP, FRONT, RIGHT, View.turned("oblique", 32, 26)])
def test_sphere_has_the_silhouette_and_depth_of_a_disc(view: View) -> None:
    frame = Frame(view, BOX, 300)
    buffers = rasterise([sphere(CENTRE, RADIUS)], frame)
    scale = 2 * frame.pixels_per_nm
    there = buffers.number == 1
    assert there.sum() == pytest.approx(math.pi * (RADIUS * scale) ** 2, rel=0.005)
    height, width = buffers.number.shape
    row, column = np.indices((height, width)) + 0.5
    across = np.hypot(row - height / 2, column - width / 2) / scale
    inner = across < 0.8 * RADIUS
    expected = np.sqrt(RADIUS**2 - across[inner] ** 2)
    assert np.abs(buffers.nearness[inner] / scale - expected).max() < 0.02 * RADIUS
    # Normals of a sphere point where its points are.
    normal = buffers.normal / np.linalg.norm(buffers.normal, axis=-1, keepdims=True).clip(1e-9)
    assert np.abs(normal[..., 0][inner] - (column - width / 2)[inner] / scale / RADIUS).max() < 0.04
    assert np.abs(normal[..., 1][inner] + (row - height / 2)[inner] / scale / RADIUS).max() < 0.04


def test_a_wrong_radius_is_noticed() -> None:
    """Mutant: the silhouette of a sphere 2 % too large is outside the tolerance above."""
    frame = Frame(TOP, BOX, 300)
    wrong = rasterise([sphere(CENTRE, 1.02 * RADIUS)], frame)
    assert (wrong.number == 1).sum() != pytest.approx(math.pi * (2 * RADIUS * frame.pixels_per_nm) ** 2, rel=0.005)


@pytest.mark.parametrize("view", [TOP, FRONT, RIGHT, View.turned("a", -120, 50)])
def test_axes_of_a_view_are_right_handed_in_xyz(view: View) -> None:
    right, up, towards = view.axes
    assert np.allclose(view.axes @ view.axes.T, np.eye(3), atol=1e-12)
    assert np.allclose(np.cross(right[::-1], up[::-1]), towards[::-1])


def test_views_look_from_where_they_say() -> None:
    assert np.allclose(TOP.axes[2], (1, 0, 0))
    assert np.allclose(FRONT.axes[2], (0, -1, 0))
    assert np.allclose(RIGHT.axes[2], (0, 0, 1))
    assert np.allclose(View.turned("front", 0, 0).axes, FRONT.axes)


def test_the_nearer_surface_hides_the_other_in_any_order() -> None:
    low, high = sphere((30.0, 50.0, 50.0), 20.0, number=1), sphere((70.0, 50.0, 50.0), 10.0, number=2)
    frame = Frame(TOP, BOX, 200)
    one, other = rasterise([low, high], frame), rasterise([high, low], frame)
    assert np.array_equal(one.number, other.number)
    middle = tuple(n // 2 for n in one.number.shape)
    assert one.number[middle] == 2
    below = rasterise([low, high], Frame(replace(TOP, up=(0.0, -1.0, 0.0)), BOX, 200))
    assert below.number[middle] == 1


def test_a_cut_opens_the_sphere() -> None:
    frame = Frame(TOP, BOX, 200)
    whole, cut = (light_of(rasterise([sphere(CENTRE, RADIUS)], frame, cut_nm=at)) for at in (None, 0.0))
    assert not whole[1].any()
    height, width = cut[1].shape
    assert cut[1][height // 2, width // 2]
    assert cut[0].nearness[height // 2, width // 2] == pytest.approx(-RADIUS * 2 * frame.pixels_per_nm, rel=0.02)


def light_of(buffers):  # type: ignore[no-untyped-def]
    return buffers, light(buffers).inside & (buffers.number > 0)


def test_shading_is_transparent_outside_and_coloured_inside() -> None:
    frame = Frame(TOP, BOX, 150)
    buffers = rasterise([sphere(CENTRE, RADIUS)], frame)
    red = np.zeros((*buffers.number.shape, 3), np.float32)
    red[..., 0] = 220
    rgba = shade(buffers, light(buffers), red)
    assert rgba.shape == (*frame.size, 4)
    assert rgba[0, 0, 3] == 0
    middle = rgba[frame.size[0] // 2, frame.size[1] // 2].astype(int)
    assert middle[3] == 255
    assert middle[0] > middle[1] + 80
    rim = (rgba[..., 3] > 0) & (rgba[..., 3] < 255)
    assert rim.any(), "the edge is smoothed by the oversampling"


def test_values_are_interpolated() -> None:
    ball = sphere(CENTRE, RADIUS)
    graded = replace(ball, values=ball.vertices[:, 2:3].copy())
    frame = Frame(TOP, BOX, 200)
    buffers = rasterise([graded], frame)
    row, column = np.nonzero(buffers.number)
    x_nm = (column + 0.5 - buffers.number.shape[1] / 2) / (2 * frame.pixels_per_nm) + 50
    assert np.abs(buffers.value[row, column, 0] - x_nm).max() < 0.05


def test_no_hole_between_faces_that_share_edges() -> None:
    rng = np.random.default_rng(3)
    side = 30
    y, x = np.meshgrid(np.linspace(10, 90, side), np.linspace(10, 90, side), indexing="ij")
    inner = np.zeros((side, side), bool)
    inner[1:-1, 1:-1] = True
    shift = rng.uniform(-1, 1, (2, side, side)) * inner
    vertices = np.stack([np.full_like(y, 50), y + shift[0], x + shift[1]], -1).reshape(-1, 3).astype(np.float32)
    index = np.arange(side * side).reshape(side, side)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    sheet = Surface(1, vertices, faces.astype(np.int32), np.zeros((side * side, 1), np.float32))
    frame = Frame(TOP, BOX, 333)
    drawn = rasterise([sheet], frame).number[100:-100, 100:-100]
    assert (drawn == 1).all()


def test_normals_of_a_sphere_point_outwards() -> None:
    ball = sphere(CENTRE, RADIUS)
    normals = vertex_normals(ball.vertices, ball.faces)
    out = ball.vertices - np.array(CENTRE)
    cosine = (normals * out).sum(axis=1) / np.linalg.norm(normals, axis=1).clip(1e-9) / RADIUS
    used = np.linalg.norm(normals, axis=1) > 1e-3
    assert cosine[used].min() > 0.99


def test_bad_surfaces_are_refused() -> None:
    ball = sphere(CENTRE, RADIUS)
    frame = Frame(TOP, BOX, 50)
    with pytest.raises(ValueError, match="outside 0 to"):
        rasterise([replace(ball, faces=ball.faces + len(ball.vertices))], frame)
    with pytest.raises(ValueError, match="must be"):
        rasterise([replace(ball, values=ball.values[:-1])], frame)
