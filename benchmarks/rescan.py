"""A rescan of known adapters against a bare walk with stat, and how soon a settled drop is noticed.

    python -m benchmarks.rescan [--adapters 10000] [--drops 10] [--repetitions 9] [--work DIR]

The *rescan* is :meth:`adapters.sources.folder.FolderSource.scan` over a folder whose adapters are all known: names,
sizes, inodes and times are compared with what was recorded, and no file is opened. The *bare walk* lists the same
folders with ``os.scandir`` and asks ``lstat`` of every entry, and keeps nothing. *At the start* is the first scan of a
new process, which has recalled the signatures from the ledger's table.

A drop is *noticed* when a scan offers it. It has settled ``QUIET_SECONDS`` after its last byte was written or the
folder was renamed into place; shown is how long after that it was offered, with all the known adapters beside it.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from adapters.sources.folder import FolderSource
from benchmarks.timing import interleaved, machine, median_and_range, parser, ratios, table, workplace

BARE, RESCAN, START = (
    "bare walk with stat",
    "rescan, everything known (target: at most 3)",
    "first scan after a start, everything known",
)
QUIET_SECONDS = 0.85
"""No multiple of the source's polling, so that no drop happens to settle just before a look."""
LATEST_SECONDS = 1.0
"""A settled drop has to be noticed within so long."""
_PATIENCE = 30.0


def fill(folder: Path, count: int) -> Path:
    """Write ``count`` whole adapters of three small files each, unless they are there."""
    for number in range(count):
        one = folder / f"adapter-{number:05}"
        if not one.is_dir():
            write_one(one, number)
    return folder


def write_one(folder: Path, number: int) -> Path:
    """Write one adapter file by file: config, one tensor, a README."""
    payload = number.to_bytes(4, "little") * 16
    header = json.dumps({"lora_A.weight": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}}).encode()
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "number": number}), encoding="utf-8")
    (folder / "README.md").write_text("# An adapter\n", encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + payload)
    return folder


def bare_walk(folder: Path) -> int:
    """List everything below a folder and ask for its status; return how many entries there were."""
    waiting, found = [str(folder)], 0
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                entry.stat(follow_symlinks=False)
                found += 1
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return found


def known_signatures(folder: Path) -> dict[str, str]:
    """Let everything in a folder settle and return the signatures by key, as the ledger keeps them."""
    source = FolderSource(folder, "inbox", quiet_seconds=0)
    return {arrival.key: arrival.signature for arrival in source.scan().settled}


def ways(folder: Path) -> dict[str, Callable[[], object]]:
    """Everything that is timed, by its name in the table."""
    known = known_signatures(folder)
    source = FolderSource(folder, "inbox")
    source.recall(known)

    def start() -> None:
        fresh = FolderSource(folder, "inbox")
        fresh.recall(known)
        nothing_new(fresh)

    return {BARE: lambda: bare_walk(folder), RESCAN: lambda: nothing_new(source), START: start}


def nothing_new(source: FolderSource) -> None:
    """Scan, and hold that it was the case that is timed.

    Raises:
        RuntimeError: something in the folder was not known.
    """
    result = source.scan()
    if result.settled or result.waiting or result.gone or result.error:
        raise RuntimeError(f"not everything was known: {result}")


def noticed(folder: Path, aside: Path, drops: int, *, renamed: bool, events: bool) -> list[float]:
    """Seconds from the moment each drop had settled until it was offered."""
    source = FolderSource(folder, "inbox", quiet_seconds=QUIET_SECONDS, rescan_seconds=3600)
    source.recall(known_signatures(folder))
    offered: dict[str, float] = {}
    stop, watching = threading.Event(), threading.Event()

    def watch() -> None:
        for scans, _ in enumerate(source.watch(stop), 1):
            for arrival in source.scan().settled:
                offered[arrival.key] = time.monotonic()
                source.taken(arrival)
            if scans > 1 or not events:  # the second whole scan follows when events are being listened to
                watching.set()

    with without_events() if not events else mock.MagicMock():
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        watching.wait(_PATIENCE)
        late = [_one_drop(folder, aside, number, offered, renamed) for number in range(drops)]
        stop.set()
        thread.join(_PATIENCE)
    return late


def _one_drop(folder: Path, aside: Path, number: int, offered: dict[str, float], renamed: bool) -> float:
    name = f"drop-{time.monotonic_ns()}"
    if renamed:
        write_one(aside / name, number).rename(folder / name)
    else:
        write_one(folder / name, number)
    written = time.monotonic()
    while name not in offered:
        if time.monotonic() - written > _PATIENCE:
            raise RuntimeError(f"{name} was not noticed within {_PATIENCE:g} seconds")
        time.sleep(0.005)
    return offered[name] - written - QUIET_SECONDS


@contextmanager
def without_events() -> Iterator[None]:
    """A file system that tells nothing."""
    with mock.patch("watchfiles.watch", side_effect=OSError("no events here")):
        yield


def report(times: dict[str, list[float]]) -> str:
    """Milliseconds, and the ratio to the bare walk of the same round."""
    rows = []
    for name, spent in times.items():
        ratio = "1" if name == BARE else median_and_range(ratios(spent, times[BARE]))
        rows.append((name, median_and_range([1000 * t for t in spent], digits=0), ratio))
    return table(("what", "milliseconds", "times the bare walk"), rows)


def report_noticed(late: dict[str, list[float]]) -> str:
    """Seconds after settling, by the way of dropping."""
    rows = [
        (name, median_and_range(found), "yes" if max(found) <= LATEST_SECONDS else "no") for name, found in late.items()
    ]
    return table(("dropped", "noticed after, seconds", f"within {LATEST_SECONDS:g} s"), rows)


def main() -> int:
    """Measure and print."""
    options = parser(__doc__, repetitions=9)
    options.add_argument("--adapters", type=int, default=10_000, help="known adapters (default: 10000)")
    options.add_argument("--drops", type=int, default=10, help="drops of each kind (default: 10)")
    chosen = options.parse_args()
    print(machine())
    with workplace(chosen.work) as work:
        folder, aside = fill(work / "inbox", chosen.adapters), work / "aside"
        times = interleaved(ways(folder), chosen.repetitions)
        print(
            f"\n{chosen.adapters} adapters, {bare_walk(folder)} entries; {chosen.repetitions} rounds\n\n{report(times)}"
        )
        late = {
            "by one rename": noticed(folder, aside, chosen.drops, renamed=True, events=True),
            "written file by file": noticed(folder, aside, chosen.drops, renamed=False, events=True),
            "by one rename, a file system without events": noticed(
                folder, aside, chosen.drops, renamed=True, events=False
            ),
        }
        print(f"\nquiet for {QUIET_SECONDS:g} s, {chosen.adapters} adapters known, {chosen.drops} drops each\n")
        print(report_noticed(late))
    limit = statistics.median(ratios(times[RESCAN], times[BARE])) <= 3
    return 0 if limit and all(max(found) <= LATEST_SECONDS for found in late.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
