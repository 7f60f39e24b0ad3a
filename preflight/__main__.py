"""`python -m preflight`, and the `preflight` command."""

import gc
import os
import sys
from contextlib import suppress


def main() -> None:
    """Run the command line and exit with its code."""
    gc.set_threshold(100_000)  # a run makes much and leaves few cycles; the default costs it 2 %
    try:
        from preflight.cli.app import run
        from preflight.cli.output import guard

        code = run(guard)
    except KeyboardInterrupt:  # before anybody was there to hear it
        code = 130
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)  # all is closed and written: freeing a run's objects one by one takes 0.1 s


if __name__ == "__main__":
    main()
