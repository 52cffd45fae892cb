"""``alignwatch demo`` in a fresh folder: wall seconds, processor seconds and the largest memory of any process.

    python -m benchmarks.demo [--out DIR]

Installation is not part of it. The folder is new, so every adapter is trained and every answer is asked.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.tiny import BASE, JUDGE, REFERENCE
from benchmarks.timing import machine, table, workplace

MOST_SECONDS = 150.0
MOST_GIB = 4.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What one command took."""

    code: int
    """Its exit code."""
    wall: float
    """Seconds from start to end."""
    processor: float
    """Seconds of processor time, user and system, all cores."""
    peak: float
    """Largest resident memory of one of its processes, in GiB."""

    @property
    def within(self) -> bool:
        """Whether it worked, within both limits."""
        return self.code == 0 and self.wall <= MOST_SECONDS and self.peak <= MOST_GIB


def cost_of(command: Sequence[str]) -> Cost:
    """Run a command and measure it. Processor time and memory cover its children and theirs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    code = subprocess.run(command, check=False).returncode
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return Cost(code, wall, processor, after.ru_maxrss / unit)


def report(cost: Cost) -> str:
    """The result as Markdown."""
    return table(
        ("alignwatch demo", "measured", "at most"),
        [
            ("exit code", str(cost.code), "0"),
            ("wall seconds", f"{cost.wall:.1f}", f"{MOST_SECONDS:.0f}"),
            ("processor seconds", f"{cost.processor:.1f}", ""),
            ("peak memory, GiB", f"{cost.peak:.2f}", f"{MOST_GIB:.0f}"),
        ],
    )


def main() -> int:
    """Run the demo, print its cost; 0 when it worked within the limits."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="a new folder to leave the demo's reports in")
    chosen = parser.parse_args()
    missing = [path.name for path in (BASE, JUDGE, REFERENCE) if not path.is_dir()]
    if missing:
        print(f"not built yet: {', '.join(missing)}; run make tiny", file=sys.stderr)
        return 4
    if chosen.out is not None and chosen.out.exists():
        print(f"{chosen.out} exists; a demo goes on where it was, so name a new folder", file=sys.stderr)
        return 2
    print(machine(), flush=True)
    with workplace(None) as folder:
        out = chosen.out or folder / "demo"
        cost = cost_of([sys.executable, "-m", "monitor.cli", "demo", "--out", str(out)])
    print("\n" + report(cost))
    return 0 if cost.within else 1


if __name__ == "__main__":
    sys.exit(main())
