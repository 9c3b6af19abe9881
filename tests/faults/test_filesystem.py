"""Files and disks that fail: hiccups are met again, what is full pauses the run, damage is made good; nothing is lost.

Calls of the workers fail by errno (``faultfs.c``); full disks are real ones, of memory, and the quota is that of a real
file system in a file (btrfs: many kernels know quotas of no other). Where the machine lets nobody mount those, their
tests skip.
"""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cryoscale.cluster import DaskExecutor
from cryoscale.engine import LoopExecutor
from cryoscale.errors import PauseError
from cryoscale.verify import collection_of, find_damage
from tests.faults.conftest import Faults
from tests.faults.harness import NAMES, Scene

pytestmark = pytest.mark.fault
Faulty = tuple[DaskExecutor, Faults]


@pytest.mark.parametrize(
    ("op", "code", "times"),
    [
        ("open", errno.EIO, 3),
        ("open", errno.ESTALE, 3),
        ("open", errno.ENOENT, 3),
        ("read", errno.EIO, 3),
        ("create", errno.ESTALE, 3),
        ("write", errno.EIO, 2),
        ("rename", errno.EIO, 2),
        ("fsync", errno.EIO, 2),
    ],
    ids=lambda value: errno.errorcode.get(value, str(value)) if isinstance(value, int) and value > 4 else str(value),
)
def test_hiccups_are_met_again(
    tmp_path: Path, faulty: Faulty, undisturbed: dict[str, str], op: str, code: int, times: int
) -> None:
    executor, faults = faulty
    scene = Scene(tmp_path)
    thread = scene.when(22, lambda: faults.arm(op, code, times))
    assert scene.run(executor).exit_code == 0
    thread.join()
    assert faults.left() == 0, "nothing failed"
    assert scene.products() == undisturbed
    scene.require_whole(undisturbed, repeats=4 * times)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS], ids=errno.errorcode.get)
def test_a_full_disk_pauses_the_run(tmp_path: Path, faulty: Faulty, undisturbed: dict[str, str], code: int) -> None:
    executor, faults = faulty
    scene = Scene(tmp_path)
    scene.when(12, lambda: faults.arm("write", code))
    with pytest.raises(PauseError) as caught:
        scene.run(executor)
    faults.disarm()
    for name in NAMES:
        # The executor is used again here; a command ends with it.
        executor.drop(name)
    assert caught.value.exit_code == 4
    # As many as were under way.
    scene.require_whole(undisturbed, repeats=34)


def test_a_file_system_that_stays_away_is_a_hiccup_of_every_tomogram(
    tmp_path: Path, faulty: Faulty, undisturbed: dict[str, str]
) -> None:
    executor, faults = faulty
    scene = Scene(tmp_path)
    scene.when(40, lambda: faults.arm("open", errno.ESTALE))
    result = scene.run(executor)
    faults.disarm()
    assert result.exit_code == 3
    # Without being told to try again.
    scene.require_whole(undisturbed, repeats=60)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a disk of memory at the run's folder, or change its size."""
    folder = tmp_path / "meant"
    folder.mkdir()
    mounted = []

    def resize(options: str) -> Path:
        words = f"remount,{options}" if mounted else options
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", words, "tmpfs", folder], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"this machine mounts nothing: {done.stderr.decode().strip()}")
        mounted.append(options)
        return folder

    yield resize
    if mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize(("small", "large"), [("size=300k", "size=64m"), ("nr_inodes=100", "nr_inodes=9000")])
def test_a_disk_that_is_really_full(
    tmp_path: Path, small_disk: Callable[[str], Path], undisturbed: dict[str, str], small: str, large: str
) -> None:
    small_disk(small)
    scene = Scene(tmp_path)
    with pytest.raises(PauseError, match="No space left"):
        scene.run()
    began = scene.executions()
    assert began > 5
    with pytest.raises(PauseError):
        scene.run()
    small_disk(large)
    scene.require_whole(undisturbed, repeats=2)


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Mount a file system with a quota at the run's folder, and give what sets the quota."""
    folder, image = tmp_path / "meant", tmp_path / "disk.img"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(160 << 20)
    mounted = False

    def do(*words: object) -> None:
        try:
            subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            if mounted:
                raise
            pytest.skip(f"no quota can be had here: {error}")

    try:
        do("mkfs.btrfs", "-q", image)
        do("mount", "-o", "loop", image, folder)
        mounted = True
        do("btrfs", "quota", "enable", folder)
        yield lambda size: do("btrfs", "qgroup", "limit", size, "0/5", folder)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_quota_that_is_used_up(tmp_path: Path, limited: Callable[[str], None], undisturbed: dict[str, str]) -> None:
    limited("600k")
    scene = Scene(tmp_path)
    with pytest.raises(PauseError, match="quota"):
        scene.run()
    began = scene.executions()
    assert began > 5
    with pytest.raises(PauseError, match="quota"):
        scene.run()
    limited("none")
    scene.require_whole(undisturbed, repeats=2)


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 16
    path.write_bytes(raw)


@pytest.mark.parametrize(
    "damage",
    [_flip, lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), Path.unlink],
    ids=["flipped", "torn", "deleted"],
)
@pytest.mark.parametrize(
    "name", ["a/mask.ome.zarr/0/c/2/0/0", "a/mask.ome.zarr/0/zarr.json", "a/sum.ome.zarr/zarr.json"]
)
def test_damage_between_runs_is_made_good(
    tmp_path: Path, undisturbed: dict[str, str], name: str, damage: Callable[[Path], object]
) -> None:
    scene = Scene(tmp_path)

    class Stopping(LoopExecutor):
        def completed(self):
            # After the masks, in the midst of the sums.
            if scene.executions() == 12:
                raise PauseError("stopped here")
            return super().completed()

    with pytest.raises(PauseError):
        scene.run(Stopping())
    damage(scene.output / name)
    # The unit that made it; a lost description has none, and what is described must be made again at worst.
    scene.require_whole(undisturbed, repeats=8)
    assert (scene.output / name).is_file()
    assert find_damage(collection_of(scene.output)) == []


def test_what_dead_workers_left_half_written_goes_with_the_end_of_the_tomogram(
    tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    scene, left = Scene(tmp_path), []

    class Leaving(LoopExecutor):
        def completed(self):
            done = super().completed()
            if scene.executions() == 15:
                left.extend(
                    [scene.output / "a" / ".totals.csv.partial-1", scene.output / "a/sum.ome.zarr/0/c.1.partial"]
                )
                for path in left:
                    path.touch()
            return done

    assert scene.run(Leaving()).exit_code == 0
    assert left
    assert [path for path in left if path.exists()] == []
    scene.require_whole(undisturbed, repeats=0)
