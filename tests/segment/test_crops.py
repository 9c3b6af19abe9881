"""Training batches: labels follow the image, batches follow the seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cryoscale.segment.crops import UNKNOWN, Sample, batch_of, sample_of


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Volumes whose intensity is their class, blobs many voxels wide, plus a little noise."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(2):
        waves = sum(np.sin(np.arange(96) / rng.uniform(6, 9) + i)[:, None] for i in range(2))
        pattern = (waves + waves.T)[None] * np.ones((6, 1, 1))
        classes = np.digitize(pattern, [-0.7, 0.7]).astype(np.uint8)
        tomogram = (classes * 4.0 + rng.normal(0, 0.1, classes.shape)).astype(np.float32)
        made.append(Sample(tomogram, classes, 4.0, 2.0, tuple(range(6))))
    return made


def batch(samples: list[Sample], **changed: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return batch_of(samples, **{"seed": [1, 0], "batch": 16, "crop_voxels": 64, "slices_in": 3, **changed})


def test_labels_stay_on_their_voxels(samples: list[Sample]) -> None:
    images, classes = batch(samples)
    assert images.shape == (16, 3, 64, 64)
    assert images.dtype == torch.float32
    assert classes.shape == (16, 64, 64)
    assert classes.dtype == torch.int64
    for image, truth in zip(images.numpy(), classes.numpy(), strict=True):
        correlation = np.corrcoef(image[1].ravel(), truth.ravel())[0, 1]
        assert correlation > 0.9
        assert np.corrcoef(image[1].ravel(), np.roll(truth, 5, axis=1).ravel())[0, 1] < correlation - 0.1


def test_a_batch_is_its_seed_and_step(samples: list[Sample]) -> None:
    images, classes = batch(samples)
    for again in (batch(samples),):
        assert torch.equal(again[0], images)
        assert torch.equal(again[1], classes)
    for other in (batch(samples, seed=[1, 1]), batch(samples, seed=[2, 0])):
        assert not torch.equal(other[0], images)


def test_volumes_are_not_written_to(samples: list[Sample]) -> None:
    before = [sample.tomogram.copy() for sample in samples]
    for sample in samples:
        sample.tomogram.flags.writeable = False
    batch(samples)
    for sample, kept in zip(samples, before, strict=True):
        np.testing.assert_array_equal(sample.tomogram, kept)


def test_small_or_mismatched_volumes_are_refused(samples: list[Sample]) -> None:
    with pytest.raises(ValueError, match="smaller than the crop"):
        batch(samples, crop_voxels=128)
    with pytest.raises(ValueError, match="volumes of one shape"):
        sample_of(np.zeros((2, 8, 8)), np.zeros((2, 8, 9), np.uint8))


def test_crops_come_from_the_slices_whose_classes_are_known(samples: list[Sample]) -> None:
    marked = np.broadcast_to(np.arange(6.0)[:, None, None], (6, 96, 96)).astype(np.float32)
    sample = Sample(marked, np.zeros((6, 96, 96), np.uint8), 0.0, 1.0, (1, 4))
    images, _ = batch([sample], turns_only=True, slices_in=1)
    assert set(images.unique().tolist()) == {1.0, 4.0}
    images, _ = batch([sample.only([0])], turns_only=True)
    assert {tuple(image[:, 0, 0].tolist()) for image in images} == {(0.0, 0.0, 1.0), (1.0, 0.0, 0.0)}


def test_turned_crops_keep_their_grey_values_and_their_labels(samples: list[Sample]) -> None:
    images, classes = batch(samples[:1], turns_only=True, slices_in=1)
    known = {float(v) for v in np.clip((samples[0].tomogram - 4.0) / np.float32(2.0), -6, 6).ravel()}
    assert {float(v) for v in images.ravel()} <= known
    assert len({tuple(image[0, :3, :3].ravel().tolist()) for image in images}) == len(images)
    np.testing.assert_array_equal(np.rint((images[:, 0].numpy() * 2 + 4) / 4), classes.numpy())


def test_volumes_are_drawn_by_their_slices() -> None:
    made = [
        Sample(np.full((n, 16, 16), n, np.float32), np.zeros((n, 16, 16), np.uint8), 0.0, 10.0, tuple(range(n)))
        for n in (1, 9)
    ]
    images, _ = batch(made, batch=400, crop_voxels=16, slices_in=1, turns_only=True)
    assert 0.05 < float((images[:, 0, 0, 0] < 0.5).float().mean()) < 0.16


def boxes(samples: list[Sample], **changed: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return batch(samples, **{"batch": 40, "crop_voxels": 48, "slices_in": 1, "crop_slices": 4, **changed})


def test_labels_of_boxes_stay_on_their_voxels() -> None:
    """A pattern that changes from slice to slice, so that a slice's labels fit no other slice."""
    rng = np.random.default_rng(4)
    grid = np.meshgrid(np.arange(24) / 3, np.arange(96) / 7, np.arange(96) / 6, indexing="ij")
    pattern = sum(np.sin(sum(c * g for c, g in zip(rng.normal(0, 1, 3), grid, strict=True))) for _ in range(4))
    classes = np.digitize(pattern, [-0.7, 0.7]).astype(np.uint8)
    made = [Sample((classes * 4.0 + 0.0).astype(np.float32), classes, 4.0, 2.0, tuple(range(24)))]
    images, found = boxes(made, crop_slices=8, crop_voxels=64)
    assert images.shape == (40, 1, 8, 64, 64) and found.shape == (40, 8, 64, 64) and found.dtype == torch.int64
    grey, truth = images.numpy()[:, 0], found.numpy()
    for image, own in zip(grey, truth, strict=True):
        for z in range(8):
            assert np.corrcoef(image[z].ravel(), own[z].ravel())[0, 1] > 0.85
    others = [np.corrcoef(image[0].ravel(), own[7].ravel())[0, 1] for image, own in zip(grey, truth, strict=True)]
    assert np.median(others) < 0.6
    turned, kept = boxes(made, crop_slices=8, crop_voxels=64, turns_only=True)
    np.testing.assert_array_equal(np.rint((turned[:, 0].numpy() * 2 + 4) / 4), kept.numpy())


def test_boxes_lie_around_known_slices_and_the_others_are_unknown() -> None:
    marked = np.broadcast_to(np.arange(9.0)[:, None, None], (9, 48, 48)).astype(np.float32)
    sample = Sample(marked, np.ones((9, 48, 48), np.uint8), 0.0, 2.0, (5,))
    images, classes = boxes([sample], turns_only=True)
    slices = np.rint(images[:, 0, :, 0, 0].numpy() * 2).astype(int)
    assert (np.abs(np.diff(slices)) == 1).all() and {tuple(sorted(row)) for row in slices.tolist()} == {
        (2, 3, 4, 5), (3, 4, 5, 6), (4, 5, 6, 7), (5, 6, 7, 8),
    }  # fmt: skip
    known = slices == 5
    assert (classes.numpy()[known] == 1).all() and (classes.numpy()[~known] == UNKNOWN).all()
    warped = boxes([sample])[1]
    assert set(warped.unique().tolist()) == {1, UNKNOWN}
    with pytest.raises(ValueError, match="smaller than the crop of 12 slices of 48"):
        boxes([sample], crop_slices=12)
