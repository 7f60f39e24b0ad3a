"""`python -m preflight`, and the `preflight` command."""

import gc
import os
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    gc.set_threshold(100_000)  # a run makes much and leaves few cycles; the default costs it 2 %
    from preflight.cli.app import run

    code = run()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 1
    os._exit(code)  # all is closed and written: freeing a run's objects one by one takes 0.1 s


if __name__ == "__main__":
    main()
