"""What large snapshots cost: each step in a process of its own, with its time and its memory.

usage: .venv/bin/python scripts/bench_snapshots.py [--nodes 500,5000] [--formats table,markdown,...]

A simulated snapshot (racks, zones, faults, noise, a time for every answered cell) is saved, loaded,
and shown in each format; what is shown goes to /dev/null. `user` is processor time, which a busy
machine does not change; `peak` is the largest resident set.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ANSWERS = (0, 1, 3)  # as check would exit
FORMATS = "table,markdown,junit,html,csv,json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", default="500,5000")
    parser.add_argument("--formats", default=FORMATS)
    parser.add_argument("--part", choices=("save", "load"), help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        part(arguments.part, *arguments.rest)
        return
    print(f"{'nodes':>6} {'step':16} {'wall s':>7} {'user s':>7} {'peak MB':>8}  size")
    for nodes in arguments.nodes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "snapshot.json"
            timed(nodes, "simulate, save", __file__, "--part", "save", nodes, path)
            print(f"{'':49} {path.stat().st_size / 1e6:.1f} MB in {path.name}")
            timed(nodes, "load", __file__, "--part", "load", path)
            for form in filter(None, arguments.formats.split(",")):
                timed(nodes, f"show {form}", "-m", "preflight", "show", path, "--format", form)
            timed(nodes, "show a part", "-m", "preflight", "show", path, "--verdict", "lossy")


def part(which: str, *arguments: str) -> None:
    """In a process of its own."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from preflight.store import load, save

    if which == "save":
        from large import large

        save(large(int(arguments[0])), arguments[1])
    else:
        load(arguments[0])


def timed(nodes: str, step: str, *command: object) -> None:
    """Run Python with these arguments and print what it cost."""
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in ANSWERS:
        sys.exit(f"{step} failed")
    wall = time.monotonic() - start
    print(f"{nodes:>6} {step:16} {wall:7.1f} {used.ru_utime:7.1f} {used.ru_maxrss / 1024:8.0f}",
          flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
