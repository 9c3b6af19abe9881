"""``python -m cryoscale`` is ``cryoscale``."""

import sys

from cryoscale.cli import main

if __name__ == "__main__":
    sys.exit(main())
