"""What networks are trained on is brought to the voxels they are to know; what it was before stays beside it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cryoscale import simulated
from cryoscale.simulate import Drawn, training_voxel_size


def ball(voxel_size_angstrom: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A shell of 30 nm radius and 6 nm thickness in voxels of some size, and noise."""
    nm = voxel_size_angstrom / 10
    axes = np.meshgrid(*[(np.arange(round(90 / nm)) + 0.5) * nm - 45] * 3, indexing="ij", sparse=True)
    distance = np.sqrt(sum(x**2 for x in axes))
    classes = np.where(np.abs(distance - 30) < 3, 2, 0).astype(np.uint8)
    noise = np.random.default_rng(seed).normal(0, 0.1, classes.shape)
    return (noise - (classes == 2)).astype(np.float32), classes


def test_voxel_sizes_are_those_of_the_presets() -> None:
    assert simulated.drawn_voxel_sizes(["training"]) == (8.0, 16.0)
    assert simulated.drawn_voxel_sizes(["training", "cell", "microtubules"]) == (8.0, 20.0)
    for preset, least, most in (("training", 8, 16), ("cell", 8, 20)):
        sizes = [training_voxel_size(seed, preset) for seed in range(20)]
        assert least <= min(sizes) < least + 3 and most - 3 < max(sizes) <= most


def test_label_volumes_are_for_real_shapes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[str, object]] = []

    def volume(seed: int, *, preset: str, volumes: object) -> tuple[np.ndarray, np.ndarray]:
        given.append((preset, volumes))
        return ball(10.0, seed)

    monkeypatch.setattr(simulated, "training_volume", volume)
    drawn: list[list[Drawn]] = [[Drawn(np.zeros((1, 3)), np.zeros((1, 3)), 1.0, closed=False)]]
    simulated.simulated_samples(range(3), ["real", "training"], None, drawn)
    assert given == [("real", drawn), ("training", ()), ("real", drawn)]


def test_a_tomogram_comes_in_known_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {5: 8.0, 6: 11.0, 7: 20.0}
    monkeypatch.setattr(simulated, "training_voxel_size", lambda seed, _: sizes[seed])
    monkeypatch.setattr(simulated, "training_volume", lambda seed, **_: ball(sizes[seed], seed))
    as_made = simulated.simulated_samples(range(5, 8), ["training"])
    known = simulated.simulated_samples(range(5, 8), ["training"], (10.0, 13.0))
    for seed, before, sample in zip(sizes, as_made, known, strict=True):
        voxel = min(max(sizes[seed], 10.0), 13.0)
        expected, truth = ball(voxel, 0)
        assert sample.tomogram.shape == truth.shape
        np.testing.assert_array_equal(before.classes, ball(sizes[seed], seed)[1])
        found = sample.classes == 2
        assert set(np.unique(sample.classes)) == {0, 2}
        overlap = 2 * (found & (truth == 2)).sum() / (found.sum() + (truth == 2).sum())
        assert overlap > 0.9
        # The shell lies in the tomogram where it lies in the classes.
        inside = ndimage.mean(np.asarray(sample.tomogram, float), found, [0, 1])
        assert inside[1] < inside[0] - 2 * np.std(expected[truth == 0])
    np.testing.assert_array_equal(known[1].tomogram, as_made[1].tomogram)
