"""One file per question; ``python -m benchmarks NAME [--size SIZE] [--json FILE]``."""
