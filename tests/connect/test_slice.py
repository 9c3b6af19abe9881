"""A slice from mask to membranes: broken, nested and crossed ellipses, and a real autophagosome."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from numpy.typing import NDArray

from cryoscale.connect import ConnectOptions, SliceConnection, connect_slice, options_in_voxels
from cryoscale.connect.slice import open_paths
from cryoscale.spec import ConnectSpec
from tests.connect.scenes import broken, draw, ellipse, even_gaps, line, random_scene, ring_overlap

OPTIONS = ConnectOptions()


def check(found: SliceConnection, mask: NDArray[np.bool_]) -> None:
    """What holds for every slice."""
    count = len(found.segments)
    assert len(found.ring) == count
    assert len(found.paths) == len(found.closed) == len(found.reward)
    assert sorted(s for path in found.paths for s, _ in path) == list(range(count))
    assert found.q.shape == (2 * count, 2 * count)
    assert found.labels.shape == mask.shape
    assert found.labels.dtype == np.int32
    assert set(np.unique(found.labels)) <= set(range(len(found.paths) + 1))
    assert ((found.labels > 0) <= mask).all()
    expected = sum(len(p) - 1 + (c and not found.ring[p[0][0]]) for p, c in zip(found.paths, found.closed, strict=True))
    assert found.joins.shape == (expected, 2, 2)
    assert found.join_path.shape == (expected,)
    number = {s: k for k, path in enumerate(found.paths, 1) for s, _ in path}
    for s, pixels in enumerate(found.segments):
        on_mask = pixels[mask[tuple(pixels.T)]]
        assert (found.labels[tuple(on_mask.T)] == number[s]).mean() > 0.9


@pytest.mark.parametrize("pieces", range(2, 9))
def test_a_broken_ellipse_is_one_closed_membrane(pieces: int) -> None:
    rng = np.random.default_rng(pieces)
    curve = ellipse((100, 100), (70, 50), 0.4)
    mask = draw([broken(curve, even_gaps(curve, pieces, 14, rng))], (200, 200), 3) > 0
    found = connect_slice(mask, OPTIONS, 0)
    check(found, mask)
    assert found.closed == (True,)
    assert len(found.joins) == len(found.segments) == pieces
    assert (found.labels == mask).all()
    # Wide gaps are no action; without a reward for coming back there is nothing to come back for.
    for mutant in (replace(OPTIONS, gap_voxels=5.0), replace(OPTIONS, closing_reward=1e-6)):
        assert not any(connect_slice(mask, mutant, 0).closed)


@pytest.mark.parametrize(("kind", "share"), [("broken", 0.95), ("nested", 0.95), ("crossed", 0.75)])
def test_random_slices(kind: str, share: float) -> None:
    overlap = []
    for seed in range(20):
        truth, rings = random_scene(seed, kind)
        found = connect_slice(truth > 0, OPTIONS, seed)
        check(found, truth > 0)
        overlap += [ring_overlap(truth, ring, found.labels, found.closed) for ring in rings]
    assert np.mean(np.array(overlap) > 0.7) >= share


def test_lines_do_not_close() -> None:
    rng = np.random.default_rng(8)
    for _ in range(10):
        starts, turns = rng.uniform(10, 190, (8, 2)), rng.uniform(0, 2 * np.pi, 8)
        stops = starts + 60 * np.stack([np.sin(turns), np.cos(turns)], 1)
        mask = draw([line(tuple(a), tuple(b)) for a, b in zip(starts, stops, strict=True)], (200, 200), 3) > 0
        found = connect_slice(mask, OPTIONS, 0)
        check(found, mask)
        assert not any(found.closed)


def test_whole_rings_need_no_learning() -> None:
    mask = draw([ellipse((50, 50), (30, 40)), ellipse((50, 50), (15, 20))], (100, 100), 3) > 0
    found = connect_slice(mask, OPTIONS, 0)
    check(found, mask)
    assert found.ring == found.closed == (True, True)
    assert found.episodes == len(found.joins) == 0
    assert found.labels[50, 50] == 0
    assert len(np.unique(found.labels)) == 3


def test_pieces_of_an_open_membrane_join_in_order() -> None:
    curve = line((60, 10), (60, 190), 12)
    mask = draw([broken(curve, [(50.0, 12.0), (110.0, 10.0)])], (120, 200), 3) > 0
    found = connect_slice(mask, OPTIONS, 0)
    check(found, mask)
    assert found.closed == (False,)
    assert len(found.joins) == 2
    (path,) = found.paths
    walk = np.concatenate([found.segments[s][:: -1 if back else 1] for s, back in path])
    assert (np.diff(walk[:, 1]) >= 0).all() or (np.diff(walk[:, 1]) <= 0).all()
    assert len(connect_slice(mask, replace(OPTIONS, dearest_open_join=0.0), 0).paths) == 3


def test_open_paths_take_the_cheapest_join_and_close_nothing() -> None:
    cost = np.full((6, 6), np.inf)
    for a, b, c in ((1, 2, 0.1), (1, 4, 0.2), (3, 0, 0.1), (3, 5, 0.3), (4, 0, 0.4)):
        cost[a, b] = cost[b, a] = c
    # Together 1-2 and 3-0 would close segments 0 and 1; of equal joins the first in order is taken.
    ((path, total),) = open_paths(cost, [0, 1, 2], 0.35)
    assert path == ((1, False), (0, False), (2, False))
    assert total == pytest.approx(0.1 + 0.2)
    assert len(open_paths(cost, [0, 1, 2], 0.05)) == 3
    assert open_paths(cost, [1], 1.0) == [(((1, False),), 0.0)]


def test_small_pieces_go_with_what_they_touch_or_with_nobody() -> None:
    mask = np.zeros((40, 120), bool)
    mask[20, 5:115] = True
    mask[17:20, 60] = True
    mask[5, 5:9] = True
    found = connect_slice(mask, OPTIONS, 0)
    assert (found.labels[20, 5:115] == 1).all()
    assert (found.labels[17:20, 60] == 1).all()
    assert (found.labels[5] == 0).all()


def test_the_seed_decides() -> None:
    truth, _ = random_scene(3, "crossed")
    a, b = (connect_slice(truth > 0, OPTIONS, 11) for _ in range(2))
    assert a.paths == b.paths
    assert np.array_equal(a.labels, b.labels)
    assert np.array_equal(a.q, b.q, equal_nan=True)


def test_empty_and_wrong_masks() -> None:
    found = connect_slice(np.zeros((30, 20), bool), OPTIONS, 0)
    check(found, np.zeros((30, 20), bool))
    assert found.segments == ()
    with pytest.raises(ValueError, match="bool"):
        connect_slice(np.zeros((30, 20), np.uint8), OPTIONS, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two-dimensional"):
        connect_slice(np.zeros((3, 30, 20), bool), OPTIONS, 0)


def test_a_read_only_mask_that_is_not_contiguous() -> None:
    truth, _ = random_scene(5, "nested")
    mask = np.repeat(truth > 0, 2, 1)[:, ::2]
    mask.setflags(write=False)
    found = connect_slice(mask, OPTIONS, 0)
    assert np.array_equal(found.labels, connect_slice(truth > 0, OPTIONS, 0).labels)


def test_the_outer_membrane_of_a_real_autophagosome_closes_over_its_gaps(shared_data: Path) -> None:
    with mrcfile.open(shared_data / "labels" / "autophagosome.mrc.gz", permissive=True) as volume:
        truth = np.array(volume.data[volume.data.shape[0] // 2])
    found = connect_slice(truth > 0, options_in_voxels(ConnectSpec(), 14.08), 0)
    check(found, truth > 0)
    outer = found.labels[truth == 2]
    best = int(np.bincount(outer).argmax())
    assert found.closed[best - 1]
    assert (outer == best).mean() > 0.95
    assert (truth[found.labels == best] == 2).all()
    assert sum(len(path) > 1 for path in found.paths[best - 1 : best]) == 1
