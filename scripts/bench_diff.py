"""How long `preflight diff` takes, beside what it takes to read the two files, and how much room.

    scripts/bench_diff.py [NODES [NOISE]]

NODES (5,000 by default) are made up, in racks and zones with firewalls between them; NOISE is the
share of cells that differ by chance. Times are in seconds, and `x` is how many times as long as
reading both files; each command is a process of its own, its memory the most that it held.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

FORMS = ("table", "json", "markdown", "junit")
READ = (
    "import sys; from preflight.store import load; "
    "kept = [load(path) for path in sys.argv[1:]]; print(len(kept))"
)


def main() -> None:
    """Make two files, read them, and compare them in every form."""
    from large import large

    from preflight.store import save

    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    noise = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0002
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, name)) for name in ("before.json", "after.json")]
        for seed, file in enumerate(files, 1):
            started = f"2026-03-0{seed}T02:00:00Z"
            save(replace(large(nodes, noise=noise, seed=seed), started=started), file)
        floor = timed("read both", [sys.executable, "-c", READ, *files], None)
        same = [sys.executable, "-m", "preflight", "diff", files[0], files[0]]
        timed("diff, a file with itself", same, floor)
        for form in FORMS:
            command = [sys.executable, "-m", "preflight", "diff", *files, "--format", form]
            timed(f"diff --format {form}", command, floor)


def timed(what: str, command: list[str], floor: float | None) -> float:
    """Run it; print its time, its share of `floor`, and the most memory of any command so far."""
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, cwd=ROOT, check=False)
    took = time.monotonic() - started
    if done.returncode not in (0, 1, 3):
        sys.exit(f"{what}: exit code {done.returncode}")
    room = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    times = "" if floor is None else f"{took / floor:6.1f} x"
    print(f"{what:<26}{took:8.1f} s{times:>10}   up to {room:,.0f} MiB", flush=True)
    return took


if __name__ == "__main__":
    main()
