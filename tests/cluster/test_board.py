"""The dashboard's numbers: as ``cryoscale status`` finds them on disk, from events and transitions alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cryoscale.cluster.board import TOPIC, Board, _Run
from cryoscale.cluster.metrics import metrics_of
from cryoscale.collection import Collection, run_collection
from cryoscale.engine import LoopExecutor, UnitResult
from cryoscale.errors import PauseError
from cryoscale.manifest import entries
from cryoscale.records import Receipt
from cryoscale.spec import RunSpec
from cryoscale.status import status_of
from cryoscale.tally import Status
from tests.cluster.watching import begun, done, failed, phase, told
from tests.toyunits import four_tomograms, nothing

SAME = ("counts", "stages", "tomograms", "until", "cryoscale", "started_utc", "state", "rate_per_hour")


class Clock:
    """Stands still, but for a second at each look: nothing is kept from before."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class Watched(LoopExecutor):
    """A plain loop that tells a board what a scheduler would."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self.board, self.events = board, []  # type: ignore[var-annotated]

    def tell(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        self.board.log_event(TOPIC, json.dumps(["me", event]))

    def completed(self) -> tuple[tuple[str, str, int], UnitResult | BaseException]:
        key, result = super().completed()
        self.board.transition((*key, "me"), "processing", "memory" if isinstance(result, UnitResult) else "erred", "s")
        return key, result


def board_of(*workers: tuple[SimpleNamespace, ...]) -> Board:
    """Return the board of a scheduler whose workers are at these tasks."""
    found = {n: SimpleNamespace(executing=tasks) for n, tasks in enumerate(workers)}
    return Board(SimpleNamespace(workers=found), Clock())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Inputs of four tomograms, of which ``full`` meets a full disk until there is a file ``space``."""

    def full(folder: str, index: int) -> Receipt:
        if index == 1 and not (tmp_path / "space").exists():
            raise PauseError("disk full")
        return nothing(folder, index)

    four_tomograms(tmp_path, monkeypatch, full)
    return tmp_path


def run(folder: Path, board: Board) -> None:
    collection = Collection(entries([str(folder / "*.mrc")], "{path}"), folder / "out", RunSpec(), until="fit")
    run_collection(collection, Watched(board))


def test_it_says_what_status_finds_on_disk(folder: Path) -> None:
    board = board_of()
    with pytest.raises(PauseError, match="disk full"):
        run(folder, board)
    board.remove_client(None, "me")
    (ours,), disk = board.statuses(), status_of(folder / "out")
    assert disk["state"] == "stopped"
    assert disk["counts"] == {"complete": 2, "under way": 0, "failed": 1, "stopped": 1, "waiting": 0}
    without_running(ours)
    assert {name: ours[name] for name in SAME if name != "rate_per_hour"} == {
        name: disk[name] for name in SAME if name != "rate_per_hour"
    }
    # The same command goes on: what was done before is known from the start.
    (folder / "space").touch()
    run(folder, board)
    (ours,), disk = board.statuses(), status_of(folder / "out")
    assert (disk["state"], disk["counts"]["complete"], disk["counts"]["failed"]) == ("finished", 3, 1)
    assert [ours[name] for name in ("counts", "tomograms", "state")] == [
        disk[name] for name in ("counts", "tomograms", "state")
    ]
    assert ours["order"] == ["ingest", "merge", "separate", "fit"]
    assert board.units_failed == {"merge": 1}
    # The two of a and c, each unit of full, and those that its second start found done; each is packed once.
    assert board.units_done == {"merge": 4 * 4, "fit": 2 * 2 + 1 + 2, "pack": 3}


def without_running(status: Status) -> None:
    for row in status["stages"].values():
        assert row.pop("running") == 0


def units_of(board: Board, name: str) -> dict[str, list[int]]:
    (run,) = board.statuses()
    return next(dict(one.get("units", {})) for one in run["tomograms"] if one["id"] == name)


def test_a_unit_that_is_computed_again_counts_once() -> None:
    board = board_of()
    told(board, "me", begun("a"), phase("a", "merge", 3))
    for key in (("merge-x", "a", 0, "me"), ("merge-x", "a", 0, "me", "again"), ("merge-y", "a", 0, "me")):
        board.transition(key, "processing", "memory")
    assert units_of(board, "a") == {"merge": [2, 3]}
    assert board.units_done == {"merge": 2}
    for key in (("merge-x", "b", 0, "me"), ("merge-x", "a", 1, "you"), ("merge-x", "a", 1), "merge-x", ("merge-x",)):
        board.transition(key, "processing", "memory")
    board.transition(("merge-x", "a", 1, "me"), "processing", "erred")
    assert board.units_done == {"merge": 2}


def test_a_board_that_forgets_units_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    finished = _Run.finished

    def forgetful(self: _Run, name: str, unit: tuple[str, int]) -> bool:
        self._seen.clear()
        return finished(self, name, unit)

    monkeypatch.setattr(_Run, "finished", forgetful)
    with pytest.raises(AssertionError):
        test_a_unit_that_is_computed_again_counts_once()


def test_runs_come_and_go() -> None:
    board = board_of()
    told(board, "one", begun("a"), phase("a", "merge", 3))
    told(board, "two", begun("b"), phase("b", "merge", 3))
    board.remove_client(None, "one")
    board.remove_client(None, "stranger")
    assert [run["state"] for run in board.statuses()] == ["stopped", "running"]
    assert [one["state"] for run in board.statuses() for one in run["tomograms"]] == ["stopped", "under way"]
    told(board, "two", done("b"), {"event": "end"})
    board.remove_client(None, "two")
    assert [run["state"] for run in board.statuses()] == ["stopped", "finished"]
    told(board, "three", begun("c"))
    assert [run["tomograms"][0]["id"] for run in board.statuses()] == ["c"]


def test_nothing_is_kept_of_tomograms_that_are_through() -> None:
    board = board_of()
    names = [f"t{n}" for n in range(50)]
    told(board, "me", begun(*names))
    for name in names:
        told(board, "me", phase(name, "merge", 1))
        board.transition(("merge", name, 0, "me"), "processing", "memory")
        told(board, "me", done(name))
    (run,) = board._runs.values()
    assert (len(run._seen), len(run._done), len(run._tally.planned)) == (0, 0, 0)


def test_a_long_message_is_cut() -> None:
    board = board_of()
    told(board, "me", begun("a"), failed("a", "fit") | {"message": "x" * 100_000})
    (run,) = board.statuses()
    assert run["tomograms"][0]["failure"]["message"] == "x" * 500


@pytest.mark.parametrize(
    "message",
    [
        b"bytes", "", "[", "[" * 100_000, "1", "[1]", '["me", 1]', '["me", {"event": "phase"}]',
        '["me", {"event": []}]', '["you", {"event": "end", "at": 1}]',
        '["me", {"event": "phase", "at": 1, "id": "a", "stage": "merge", "units": "3"}]',
        '["me", {"event": "gone", "at": 1}]',
    ],
)  # fmt: skip
def test_what_is_no_event_is_left_out(message: Any) -> None:
    board = board_of()
    told(board, "me", begun("a"), phase("a", "merge", 3))
    board.log_event(TOPIC, message)
    board.log_event("all", json.dumps(["me", {"at": 1.0, "event": "end"}]))
    (run,) = board.statuses()
    assert (run["state"], run["counts"]["under way"]) == ("running", 1)


def test_no_file_is_looked_at_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    board = board_of()
    told(board, "me", begun("a"), phase("a", "merge", 3))

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError

    for name in ("builtins.open", "io.open", "os.open", "os.stat", "os.scandir", "os.listdir"):
        monkeypatch.setattr(name, refuse)
    found = board.statuses()
    monkeypatch.undo()
    assert found[0]["counts"]["under way"] == 1


def test_the_numbers_are_put_together_once_a_second() -> None:
    clock = Clock()
    board = Board(SimpleNamespace(workers={}), lambda: clock.now)
    told(board, "me", begun("a"))
    first = board.statuses()
    clock.now += 0.9
    assert board.statuses() is first
    clock.now += 0.2
    assert board.statuses() is not first
    clock.now -= 100.0
    assert board.statuses()[0]["state"] == "running", "a clock that was set back"


def test_metrics_say_the_same() -> None:
    at_work = tuple(SimpleNamespace(state="processing", key=("merge-x", "a", n, "me")) for n in range(2))
    late = SimpleNamespace(state="memory", key=("merge-x", "a", 2, "me"))
    foreign = SimpleNamespace(state="processing", key="sum-1")
    board = board_of((*at_work, late), (foreign,))
    told(board, "me", begun("a", "b", "c", "d"), phase("a", "merge", 7), phase("b", "merge", 1))
    for n in range(3):
        board.transition(("merge-x", "a", 3 + n, "me"), "processing", "memory")
    told(board, "me", failed("b", "merge-x"), done("c"))
    found = Counter({(s.name, *s.labels.values()): s.value for family in metrics_of(board) for s in family.samples})
    assert found["cryoscale_units_done_total", "merge"] == 3
    assert found["cryoscale_units_failed_total", "merge"] == 1
    assert found["cryoscale_units_running", "merge"] == 2
    assert found["cryoscale_units_waiting", "merge"] == 2
    states = {name[1]: value for name, value in found.items() if name[0] == "cryoscale_tomograms"}
    assert states == {"complete": 1, "under way": 1, "failed": 1, "stopped": 0, "waiting": 1}
    (run,) = board.statuses()
    assert found["cryoscale_tomograms_per_hour",] == pytest.approx(run["rate_per_hour"], rel=0.5)
    assert found["cryoscale_seconds_left",] > 0
