"""The command that runs the small collection on two workers: a client that can be killed.

Its workers import this module: what they have no use for is imported where it is needed.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(root: str, pace_seconds: str) -> int:
    """Run the collection in `root`; return the exit code."""
    from cryoscale.cluster import DaskExecutor
    from cryoscale.errors import CryoscaleError
    from tests.faults.harness import Scene

    try:
        with DaskExecutor(2) as executor:
            return Scene(Path(root), float(pace_seconds)).run(executor, retry_failed=True).exit_code
    except CryoscaleError as error:
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
