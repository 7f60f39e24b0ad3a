"""`python -m preflight`, and the `preflight` command."""

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from preflight.cli.app import run

    sys.exit(run())


if __name__ == "__main__":
    main()
