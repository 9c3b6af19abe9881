"""What can go wrong, in the words of the person who has to mend it.

Every failure that a user can cause or meet is a `CryoscaleError`: it says what is wrong, where, the value found,
the values allowed and what to do. Its class says who must act (reliability.md (a)):

=================== ============================================== ============================================
class               meaning                                        the run
=================== ============================================== ============================================
`TransientError`    a disk or network hiccup                       tries the unit again, the tomogram at the end
`TomogramError`     this tomogram cannot be processed              goes on without it, exit 3
`PauseError`        disk full, no workers: every unit would fail   pauses, exit 4
`UsageError`        options or inputs contradict each other        stops, exit 2
`LockedError`       another run holds the output folder            stops, exit 5
any other           a fault of ours                                goes on, stops at the third in a row, exit 70
=================== ============================================== ============================================
"""

from __future__ import annotations

__all__ = [
    "CryoscaleError",
    "LockedError",
    "PauseError",
    "TomogramError",
    "TransientError",
    "UsageError",
    "failure_class",
]


class CryoscaleError(Exception):
    """A failure with a cause a user can act on.

    Parameters
    ----------
    what
        What is wrong, one clause.
    where
        The file, field or option it was found in.
    found, allowed
        The value met and the values that would have been right.
    todo
        What to do next.
    """

    exit_code = 70
    failure = "TOMOGRAM"
    """Who has to act where it ended a tomogram; options that do not fit one may fit the others."""

    def __init__(self, what: str, *, where: str = "", found: object = None, allowed: str = "", todo: str = "") -> None:
        self.what, self.where, self.found, self.allowed, self.todo = what, where, found, allowed, todo
        parts = [f"{where}: {what}" if where else what]
        if found is not None:
            parts.append(f"found {found}")
        if allowed:
            parts.append(f"allowed: {allowed}")
        if todo:
            parts.append(f"to do: {todo}")
        super().__init__("; ".join(parts))

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the fields, so that the error survives the trip from a worker."""
        return _rebuild, (type(self), self.what, self.where, self.found, self.allowed, self.todo)


def _rebuild(
    cls: type[CryoscaleError], what: str, where: str, found: object, allowed: str, todo: str
) -> CryoscaleError:
    return cls(what, where=where, found=found, allowed=allowed, todo=todo)


class TransientError(CryoscaleError):
    """A fault that a second try may not meet: retried with back-off."""

    exit_code = 4
    failure = "TRANSIENT"


class TomogramError(CryoscaleError):
    """One tomogram (or mask) cannot be processed; the collection goes on and ends with exit code 3."""

    exit_code = 3


class PauseError(CryoscaleError):
    """The machine cannot go on (disk full, no worker): the run pauses, and the same command resumes it."""

    exit_code = 4
    failure = "ENVIRONMENT"


class UsageError(CryoscaleError):
    """The command, configuration or manifest contradicts itself or the data."""

    exit_code = 2


class LockedError(CryoscaleError):
    """Another run holds the output folder."""

    exit_code = 5


def failure_class(error: BaseException) -> str:
    """Return who has to act on the failure of a tomogram: TRANSIENT, TOMOGRAM, ENVIRONMENT or FATAL."""
    return error.failure if isinstance(error, CryoscaleError) else "FATAL"
