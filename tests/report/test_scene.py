"""What the viewer reads: columns that give back the surfaces, within a budget."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray

from cryoscale.report.render import vertex_normals
from cryoscale.report.scene import Scene, pack_scene
from tests.report.scene import BALLS, sphere

BOX = (40.0, 64.0, 72.0)
PROTEINS = np.array([[1.0, 2.0, 3.0], [39.0, 60.0, 70.0]])


def unpacked(scene: Scene) -> dict[str, NDArray[np.generic]]:
    """Read the block as the page's script does, in x, y, z."""
    data, facts, at = zlib.decompress(scene.block), scene.facts, 0
    columns: dict[str, NDArray[np.generic]] = {}
    counts = {"x": facts["vertices"], "y": facts["vertices"], "z": facts["vertices"], "faces": 3 * facts["faces"]}
    counts |= {f"protein_{axis}": facts["proteins"] for axis in "xyz"}
    for name, count in counts.items():
        columns[name] = np.frombuffer(data, "<u2", count, at)
        at += 2 * count
        if not name.startswith("protein"):
            columns[name] = np.cumsum(columns[name], dtype=np.uint16)
    for name in ("inferred", "sd", "curvature")[: 3 if facts["curvature_top_per_nm"] else 2]:
        columns[name] = np.frombuffer(data, np.uint8, facts["vertices"], at)
        at += facts["vertices"]
    assert at == len(data)
    return columns


def places(scene: Scene, columns: dict[str, NDArray[np.generic]], prefix: str = "") -> NDArray[np.float64]:
    low, high = np.array(scene.facts["low"]), np.array(scene.facts["high"])
    stored = np.column_stack([columns[prefix + axis] for axis in "xyz"]).astype(float)
    return low + (high - low) * stored / 65535


def test_what_is_packed_comes_back() -> None:
    balls = [sphere(*ball, number=n + 3, values=0.5 * n) for n, ball in enumerate(BALLS)]
    scene = pack_scene(balls, BOX, PROTEINS)
    columns = unpacked(scene)
    wanted = np.concatenate([ball.vertices for ball in balls])[:, ::-1]
    assert np.abs(places(scene, columns) - wanted).max() < 72 / 65535
    assert np.abs(places(scene, columns, "protein_") - PROTEINS[:, ::-1]).max() < 72 / 65535
    assert [entry[0] for entry in scene.facts["membranes"]] == [3, 4]
    inferred = np.concatenate([ball.values[:, 0] for ball in balls]) > 0.5
    assert np.array_equal(columns["inferred"] > 127, inferred)
    assert columns["sd"][: len(balls[0].vertices)].max() == 0
    assert columns["sd"][-1] == 255
    top = scene.facts["curvature_top_per_nm"]
    assert top == pytest.approx(1 / min(radius for _, radius in BALLS))
    bent = (columns["curvature"].astype(float) - 128) / 127 * top
    np.testing.assert_allclose(bent, np.concatenate([ball.values[:, 2] for ball in balls]), atol=top / 127)


def test_curvature_has_a_sign_and_is_left_out_where_it_is_not_known() -> None:
    ball = sphere(*BALLS[0])
    inwards = unpacked(pack_scene([dataclasses.replace(ball, values=ball.values * [1, 1, -1])], BOX, PROTEINS))
    assert (inwards["curvature"] == 1).all()
    flat = pack_scene([dataclasses.replace(ball, values=ball.values * [1, 1, 0])], BOX, PROTEINS)
    assert flat.facts["curvature_top_per_nm"] == 0 and "curvature" not in unpacked(flat)


def test_faces_point_outwards_in_x_y_z() -> None:
    """Mutant: without swapping two corners with the axes, every face is inside out."""
    ball = sphere(*BALLS[0])
    scene = pack_scene([ball], BOX, np.zeros((0, 3)))
    columns = unpacked(scene)
    points, faces = places(scene, columns), columns["faces"].reshape(-1, 3).astype(np.int32)
    normals = vertex_normals(points.astype(np.float32), faces)
    outwards = points - np.array(BALLS[0][0])[::-1]
    ours = vertex_normals(ball.vertices, ball.faces)
    sign = np.sign((ours * (ball.vertices - np.array(BALLS[0][0]))).sum(axis=1))
    assert (np.sign((normals * outwards).sum(axis=1)) == sign).mean() > 0.97


def test_the_budget_is_kept_and_shapes_stay() -> None:
    balls = [sphere(*ball, rings=120) for ball in BALLS]
    whole = pack_scene(balls, BOX, PROTEINS)
    small = pack_scene(balls, BOX, PROTEINS, most_faces=2000)
    assert 600 < small.facts["faces"] <= 2000
    assert len(small.block) < len(whole.block) / 10
    first = small.facts["membranes"][0][1]
    radii = np.linalg.norm(places(small, unpacked(small))[:first] - np.array(BALLS[0][0])[::-1], axis=1)
    assert np.abs(radii - BALLS[0][1]).max() < 1.0


def test_nothing_to_show() -> None:
    scene = pack_scene([], BOX, np.zeros((0, 3)))
    assert scene.facts["faces"] == scene.facts["vertices"] == 0
    assert zlib.decompress(scene.block) == b""


@pytest.mark.parametrize("budget", [0, 1 << 20])
def test_a_budget_that_cannot_be(budget: int) -> None:
    with pytest.raises(ValueError, match="most_faces"):
        pack_scene([], BOX, PROTEINS, most_faces=budget)
