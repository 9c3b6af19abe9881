"""Thinned meshes: how many vertices are left, and how far they are from the surface."""

from __future__ import annotations

import numpy as np
import pytest

from cryoscale.report.decimate import cluster
from tests.report.scene import sphere


def test_every_vertex_stays_within_a_cell_of_the_surface() -> None:
    ball = sphere((50.0, 50.0, 50.0), 30.0, rings=120)
    thin = cluster(ball, 4.0)
    distance = np.linalg.norm(thin.vertices - 50.0, axis=1)
    assert np.abs(distance - 30.0).max() < 4.0
    assert len(thin.faces) < len(ball.faces) / 5
    # Area 4 pi 30^2 over 16 per cell, times the about 1.5 cells that an inclined surface passes.
    assert 500 < len(thin.vertices) < 1800
    assert set(np.unique(thin.faces)) <= set(range(len(thin.vertices)))


def test_values_are_averaged() -> None:
    ball = sphere((50.0, 50.0, 50.0), 30.0, values=2.5)
    assert np.allclose(cluster(ball, 10.0).values[:, 1], 2.5)


def test_a_tiny_cell_changes_nothing_but_coinciding_vertices() -> None:
    ball = sphere((50.0, 50.0, 50.0), 30.0, rings=12)
    thin = cluster(ball, 1e-3)
    assert len(thin.vertices) == len(np.unique(np.round(ball.vertices, 3), axis=0))


def test_a_cell_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        cluster(sphere((5.0, 5.0, 5.0), 3.0), 0.0)
