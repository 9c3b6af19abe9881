"""What Dask says of units that failed, as the failures of those who have to act on them."""

from __future__ import annotations

from typing import Any

from distributed.scheduler import KilledWorker, NoWorkerError

from cryoscale.errors import PauseError, TomogramError
from cryoscale.records import Unit

__all__ = ["failure_of", "lost_scheduler"]


def lost_scheduler(where: str, found: str | None = None) -> PauseError:
    """Return what pauses a run whose scheduler is gone."""
    todo = "run the same command again: finished units are kept"
    return PauseError("the Dask scheduler was lost", where=where, found=found, todo=todo)


def failure_of(unit: Unit, future: Any) -> BaseException:
    """Translate how Dask says that a unit failed."""
    if future.status in ("cancelled", "lost"):
        return lost_scheduler(str(unit.key))
    error: BaseException = future.exception()
    if isinstance(error, NoWorkerError):
        return PauseError("no Dask worker is left", where=str(unit.key), todo="run the same command again")
    if isinstance(error, KilledWorker):
        return TomogramError(
            "the unit killed every worker it ran on, or hung on it",
            where=str(unit.key),
            found=error,
            todo=f"it needs about {unit.bytes / 2**20:.0f} MiB: give workers more memory, or use smaller chunks; "
            "see whether its files can be read",
        )
    return error
