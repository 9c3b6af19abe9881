"""Length of membrane in a plane, against the circles that planes cut from a sphere."""

from __future__ import annotations

import numpy as np

from cryoscale.report.planes import best_plane, curve_lengths
from tests.report.scene import sphere


def test_lengths_are_those_of_the_circles_of_a_sphere() -> None:
    ball = sphere((50.0, 45.0, 40.0), 30.0, rings=300)
    lengths = curve_lengths(ball, (100, 100, 100), 1.0)
    for axis, middle in enumerate((50, 45, 40)):
        offset = np.arange(100) - middle
        expected = 2 * np.pi * np.sqrt(np.maximum(30.0**2 - offset**2, 0))
        inside = np.abs(offset) < 25
        smooth = np.convolve(lengths[axis], np.ones(5) / 5, mode="same")
        assert np.abs(smooth[inside] / expected[inside] - 1).max() < 0.05
        assert abs(best_plane(lengths[axis], 3.0) - middle) <= 2


def test_a_grazed_sheet_does_not_win() -> None:
    """Mutant: by area alone the plane of a flat sheet would be chosen, where a slice shows a blot."""
    ball = sphere((50.0, 50.0, 50.0), 30.0, rings=100)
    y, x = np.meshgrid(np.arange(0.0, 100, 2), np.arange(0.0, 100, 2), indexing="ij")
    count = y.size
    index = np.arange(count).reshape(y.shape)
    a, b, c = index[:-1, :-1].ravel(), index[1:, :-1].ravel(), index[:-1, 1:].ravel()
    sheet = type(ball)(
        2,
        np.column_stack([np.full(count, 10.0), y.ravel(), x.ravel()]).astype(np.float32),
        np.column_stack([a, b, c]).astype(np.int32),
        np.zeros((count, 2), np.float32),
    )
    along_z = [curve_lengths(s, (100, 100, 100), 1.0)[0] for s in (ball, sheet)]
    assert along_z[1].sum() < 1e-6
    assert abs(best_plane(along_z[0] + along_z[1], 2.0) - 50) <= 5


def test_without_membranes_the_middle_is_shown() -> None:
    assert best_plane(np.zeros(41), 2.0) == 20
