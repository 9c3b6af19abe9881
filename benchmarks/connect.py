"""Joining pieces of membranes by learning: time per slice, distance from the optimum, quality beside region merging.

    python -m benchmarks connect [--part speed|optimum|quality|all] [--size small|full] [--json FILE]

Speed: one slice of 512 x 512 pixels with 60 segments (12 broken ellipses), traced and learned; the peer is the same
code as a plain Python loop (numba switched off, in a process of its own) at a twentieth of the episodes, beside ours at
as many. Nothing can be faster than looking at every pixel once, and at one number of the table in every episode.

Optimum: random cases of 3 to 8 segments, pieces of broken ellipses and lines among them, and costs without any
geometry; the best closed path is known from trying all of them.

Quality: the sets of `_grouping`, slice by slice (a membrane's truth cut by the slice; pieces under 20 pixels count as
not found) and in 3-D after linking, each beside merging of all pixels within a distance, at the distance that is best
for the set (which takes knowing the truth), and 26-connectivity. The constants of the linking were chosen on the small
size; nothing was learned from the others. F1 at IoU 0.5, adjusted Rand index, variation of
information in bits, in halves: split, fused.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import _grouping
from benchmarks._grouping import score
from benchmarks._machine import write_json
from cryoscale.connect import options_in_voxels
from cryoscale.connect.qlearning import closed_walks
from cryoscale.connect.reward import join_costs
from cryoscale.connect.slice import connect_slice
from cryoscale.connect.volume import link_slices, slice_labels, slice_seed
from cryoscale.merge import merge_regions
from cryoscale.spec import ConnectSpec

Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]

MINIMUM_PIXELS = 20
"""Smaller pieces of a slice are no membranes, found or true."""
PEER_SHARE = 20
"""The plain Python loop gets one in so many episodes."""
CASES = 200
METRICS = ("f1", "ari", "vi_split", "vi_fused")


# ------------------------------------------------------------------------------------------------------------- speed


def sixty_segments(seed: int = 0) -> Mask:
    """512 x 512 pixels: 12 ellipses, 3 pixels thick, each broken into 5 pieces."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((512, 512))
    mask = np.zeros((512, 512), np.bool_)
    for row in range(3):
        for column in range(4):
            centre = (85 + 170 * row + rng.uniform(-8, 8), 64 + 128 * column + rng.uniform(-5, 5))
            a, b, turn = rng.uniform(45, 56), rng.uniform(35, 52), rng.uniform(0, np.pi)
            v, u = y - centre[0], x - centre[1]
            p, q = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
            radius, angle = np.hypot(p / a, q / b), np.arctan2(q / b, p / a)
            gap = np.cos(5 * angle + rng.uniform(0, 2 * np.pi)) > np.cos(5 * rng.uniform(0.08, 0.13))
            mask |= (np.abs(radius - 1) * np.minimum(a, b) < 1.5) & ~gap
    return mask


def time_slice(episodes: int, repeats: int) -> dict[str, Any]:
    """Time one slice in this process; the first call, which compiles, is told apart."""
    mask = sixty_segments()
    options = options_in_voxels(ConnectSpec(), 10.0)
    options = replace(options, episodes=episodes or options.episodes)
    seconds, cpu, learning = [], [], []
    for _ in range(repeats + 1):
        started, worked = time.perf_counter(), time.process_time()
        found = connect_slice(mask, options, 0)
        seconds.append(time.perf_counter() - started)
        cpu.append(time.process_time() - worked)
        cost = join_costs(found.segments, found.ring, options)
        worked = time.process_time()
        closed_walks(cost, options, 0)
        learning.append(time.process_time() - worked)
    return {
        "segments": len(found.segments),
        "closed": sum(found.closed),
        "open": len(found.closed) - sum(found.closed),
        "episodes": found.episodes,
        "failed": found.failed,
        "first_seconds": seconds[0],
        "seconds": median(seconds[1:] or seconds),
        "cpu_seconds": median(cpu[1:] or cpu),
        "learning_cpu_seconds": median(learning[1:] or learning),
        "load": os.getloadavg()[0],
    }


def _in_a_process(episodes: int, repeats: int, *, compiled: bool) -> dict[str, Any]:
    environment = os.environ | {"NUMBA_DISABLE_JIT": "0" if compiled else "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.connect", "--slice", str(episodes), str(repeats)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env=environment)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def speed(size: str) -> dict[str, Any]:
    """Ours, and the same as a plain Python loop at fewer episodes."""
    full = ConnectSpec().episodes
    few = max(1, full // PEER_SHARE)
    mask, seconds = sixty_segments(), []
    for _ in range(20):
        started = time.perf_counter()
        np.count_nonzero(mask)
        seconds.append(time.perf_counter() - started)
    repeats = 1 if size == "small" else 5
    ours, fewer = (_in_a_process(episodes, repeats, compiled=True) for episodes in (full, few))
    peer = _in_a_process(few, 0, compiled=False)
    ratios = {name: peer[name] / fewer[name] for name in ("cpu_seconds", "learning_cpu_seconds")}
    return {"ours": ours, "ours_few": fewer, "python_few": peer, "ratios": ratios, "read_seconds": min(seconds)}


# ----------------------------------------------------------------------------------------------------------- optimum


def optimum(size: str) -> dict[str, Any]:  # noqa: ARG001 - as quick at any size
    """Share of random cases whose best closed path is the optimum, and whose reward is."""
    from tests.connect.oracles import best_closed_path, joins_of, random_costs, random_segments

    options = options_in_voxels(ConnectSpec(), 10.0)

    def pieces(seed: int) -> NDArray[np.float64]:
        segments = random_segments(seed)
        return join_costs(segments, [False] * len(segments), options)

    kinds: dict[str, Callable[[int], NDArray[np.float64]]] = {"broken ellipses and lines": pieces, "any": random_costs}
    result: dict[str, Any] = {"cases": CASES}
    for kind, make in kinds.items():
        same, good, none = 0, 0, 0
        for seed in range(CASES):
            cost = make(seed)
            reward, joins = best_closed_path(cost, options.closing_reward)
            walks = closed_walks(cost, options, seed)
            found = joins_of(walks.paths[0]) if walks.paths else frozenset()
            same += found == joins
            good += abs((walks.reward[0] if walks.paths else 0.0) - reward) < 1e-6
            none += not joins
        result[kind] = {"same_path": same / CASES, "same_reward": good / CASES, "without_path": none}
    return result


# ----------------------------------------------------------------------------------------------------------- quality


def by_slice(labels: Labels, z: NDArray[np.int64]) -> Labels:
    """Give the labels of each slice numbers of their own; 0 stays 0."""
    numbered = np.where(labels > 0, labels + z * (int(labels.max(initial=0)) + 1), 0)
    found, where = np.unique(numbered, return_inverse=True)
    return (where + (found[:1] > 0).any()).astype(np.int32)


def merged_slices(mask: Mask, distance_voxels: float) -> Labels:
    """Merge within a distance in every slice for itself, as slices far apart do; return each voxel's region."""
    labels, _ = merge_regions(mask, distance=distance_voxels, voxel_size=(1000.0, 1.0, 1.0))
    return np.asarray(labels[mask], np.int32)


def _without_scraps(truth: Labels) -> Labels:
    return np.where(np.bincount(truth)[truth] >= MINIMUM_PIXELS, truth, 0).astype(np.int32)


def volume_rows(volume: _grouping.Volume) -> list[dict[str, Any]]:
    """Score every method on one volume, slice by slice and in 3-D."""
    mask, options = volume.mask, options_in_voxels(ConnectSpec(), volume.voxel_size_angstrom)
    truth, z = volume.truth_volume()[mask], np.nonzero(mask)[0]
    flat = _without_scraps(by_slice(truth, z))
    started = time.process_time()
    slices = np.stack([slice_labels(plane, options, slice_seed(0, z)) for z, plane in enumerate(mask)])
    traced = time.process_time()
    linked = link_slices(slices)[0]
    seconds = {"slice": traced - started, "3-D": time.process_time() - traced}
    rows: list[dict[str, Any]] = [
        {"view": "slice", "method": "connect", **score(by_slice(slices[mask], z), flat, MINIMUM_PIXELS)},
        {"view": "3-D", "method": "connect", **score(linked[mask], truth, _grouping.MINIMUM_VOXELS)},
    ]
    for distance in _grouping.DISTANCES:
        found = merged_slices(mask, distance)
        rows.append({"view": "slice", "method": f"distance {distance:g}", **score(found, flat, MINIMUM_PIXELS)})
    for name, method in _grouping.methods().items():
        rows.append({"view": "3-D", "method": name, **score(method(mask), truth, _grouping.MINIMUM_VOXELS)})
    return [
        {
            "volume": volume.name,
            "slices": len(mask),
            "seconds": seconds[row["view"]] * (row["method"] == "connect"),
            **row,
        }
        for row in rows
    ]


def quality(size: str) -> list[dict[str, Any]]:
    """Return the mean scores of every set, view and method."""
    result = []
    for data in _grouping.sets(size):
        rows = [row for volume in data.volumes() for row in volume_rows(volume)]
        for view, method in dict.fromkeys((row["view"], row["method"]) for row in rows):
            these = [row for row in rows if (row["view"], row["method"]) == (view, method)]
            result.append(
                {
                    "set": data.name,
                    "kind": data.kind,
                    "view": view,
                    "method": method,
                    "slices": sum(row["slices"] for row in these),
                    "seconds": sum(row["seconds"] for row in these),
                    **{name: float(np.mean([row[name] for row in these])) for name in METRICS},
                }
            )
        print(f"  {data.name} done", file=sys.stderr)
    return result


def compared(rows: list[dict[str, Any]], view: str) -> list[dict[str, Any]]:
    """Return for each set: connect, the best plain distance, 26-connectivity (in 3-D), the predicate where it is."""
    found = []
    for name in dict.fromkeys(row["set"] for row in rows):
        these = [row for row in rows if row["set"] == name and row["view"] == view]
        own = next(row for row in these if row["method"] == "connect")
        plain = [row for row in these if row["method"].startswith(("distance", "26"))]
        best = max(plain, key=lambda row: (row["f1"], row["ari"]))
        found.append({"set": name, "kind": own["kind"], "connect": own, "best": best})
        found[-1] |= {row["method"]: row for row in these if row["method"] in ("26-connected", "ours")}
    return found


# ------------------------------------------------------------------------------------------------------------- table


def speed_lines(found: dict[str, Any]) -> list[str]:
    """Return the speed part as text."""
    ours = found["ours"]
    lines = [
        f"one slice, 512 x 512, {ours['segments']} segments: {ours['closed']} closed and {ours['open']} open membranes",
        f"{'':24}{'episodes':>10}{'failed':>8}{'first s':>9}{'wall s':>9}{'cpu s':>9}{'learning cpu s':>16}",
    ]
    for name, key in (("ours", "ours"), ("ours", "ours_few"), ("plain Python", "python_few")):
        row = found[key]
        lines.append(
            f"  {name:22}{row['episodes']:10}{row['failed']:8}{row['first_seconds']:9.2f}{row['seconds']:9.3f}"
            f"{row['cpu_seconds']:9.3f}{row['learning_cpu_seconds']:16.3f}"
        )
    ratio, learning = found["ratios"]["cpu_seconds"], found["ratios"]["learning_cpu_seconds"]
    return [
        *lines,
        f"  plain Python takes {ratio:.0f} times as long for all, {learning:.0f} times for the learning",
        f"  ours: {1e9 * ours['learning_cpu_seconds'] / max(ours['episodes'], 1):.0f} ns an episode; "
        f"reading every pixel once takes {1e6 * found['read_seconds']:.0f} us",
        f"  {os.cpu_count()} cores, load {ours['load']:.1f}: above the number of cores only processor times count",
    ]


def optimum_lines(found: dict[str, Any]) -> list[str]:
    """Return the optimum part as text."""
    lines = [f"best closed path of up to 8 segments, {found['cases']} random cases each, against trying all paths"]
    for kind, row in found.items():
        if kind != "cases":
            lines.append(
                f"  {kind:28} same path {100 * row['same_path']:6.1f} %   same reward {100 * row['same_reward']:6.1f} %"
                f"   no path pays in {row['without_path']}"
            )
    return lines


def quality_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return the quality part as text: F1 / ARI / VI split / VI fused, and who wins."""
    lines = []
    for view in ("slice", "3-D"):
        table = compared(rows, view)
        others = [name for name in ("26-connected", "ours") if all(name in row for row in table)]
        lines += ["", f"{view}: F1   ARI   split fused", f"{'set':34}{'connect':26}{'best distance':40}"]
        lines[-1] += "".join(f"{'predicate' if name == 'ours' else name:26}" for name in others) + "F1 by"
        for row in table:
            head = row["set"] + (" (simulated)" if row["kind"] == "simulated" else "")
            own, best = row["connect"], row["best"]
            text = f"{head:34}{_scores(own):26}{_scores(best) + '  ' + best['method']:40}"
            lines.append(
                text + "".join(f"{_scores(row[name]):26}" for name in others) + f"{own['f1'] - best['f1']:+.2f}"
            )
        means = [{m: float(np.mean([row[name][m] for row in table])) for m in METRICS} for name in ("connect", "best")]
        more = [{m: float(np.mean([row[name][m] for row in table])) for m in METRICS} for name in others]
        text = f"{f'mean of {len(table)} sets':34}{_scores(means[0]):26}{_scores(means[1]):40}"
        lines.append(text + "".join(f"{_scores(mean):26}" for mean in more) + f"{means[0]['f1'] - means[1]['f1']:+.2f}")
        own_rows = [row["connect"] for row in table]
        seconds, slices = sum(row["seconds"] for row in own_rows), sum(row["slices"] for row in own_rows)
        lines.append(f"connect: {seconds:.0f} s of processor time for {slices} slices, {seconds / slices:.3f} s each")
    return lines


def _scores(row: dict[str, float]) -> str:
    return " ".join(f"{row[name]:5.2f}" for name in METRICS)


PARTS: dict[str, tuple[Callable[[str], Any], Callable[[Any], list[str]]]] = {
    "speed": (speed, speed_lines),
    "optimum": (optimum, optimum_lines),
    "quality": (quality, quality_lines),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(prog="benchmarks connect", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--json", default="", metavar="FILE", help="write the numbers here as well")
    parser.add_argument("--slice", nargs=2, type=int, metavar=("EPISODES", "REPEATS"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.slice:
        print(json.dumps(time_slice(*options.slice)))
        return 0
    result: dict[str, Any] = {"benchmark": "connect", "size": options.size}
    for name, (measure, lines) in PARTS.items():
        if options.part in (name, "all"):
            result[name] = measure(options.size)
            print("\n".join([*lines(result[name]), ""]), flush=True)
    write_json(options.json, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
