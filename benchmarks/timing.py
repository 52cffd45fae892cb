"""Timing by ratio: what is compared runs in turns within one process, so that a busy machine slows both alike."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from adapters.adapter import Adapter, open_adapter
from adapters.encodings import Encodings
from adapters.transformers_engine import TransformersEngine


def seconds(work: Callable[[], Any]) -> float:
    """Wall seconds of one call, with queued work on a GPU finished on either side."""
    _settle()
    start = time.perf_counter()
    work()
    _settle()
    return time.perf_counter() - start


def interleaved(ways: Mapping[str, Callable[[], Any]], repetitions: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Time every way ``repetitions`` times in turns (a, b, a, b, …), in reverse every other round.

    ``warm_up`` rounds before are thrown away: they pay for lazy imports and first allocations.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(-warm_up, repetitions):
        order = list(ways) if repetition % 2 else list(ways)[::-1]
        for name in order:
            spent = seconds(ways[name])
            if repetition >= 0:
                times[name].append(spent)
    return times


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Ratio of each round, so that what slowed a whole round cancels."""
    return [a / b for a, b in zip(above, below, strict=True)]


def median_and_range(values: Sequence[float], unit: str = "", digits: int = 2) -> str:
    """``median (lowest to highest)`` in words."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f}{unit} ({low:.{digits}f} to {high:.{digits}f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column left, the others right."""
    marks = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, marks, *rows))


def machine() -> str:
    """One line on where a figure was measured."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return (
        f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores "
        f"({platform.machine()}), {gpu}, {torch.get_num_threads()} thread(s), load {load} at the start"
    )


def copies(adapter: Path, count: int, folder: Path) -> list[Adapter]:
    """``count`` adapters with a digest each, made of one by a file that no library reads: equal work each."""
    made = []
    for number in range(count):
        copy = shutil.copytree(adapter, folder / f"copy-{number}")
        (copy / "copy.txt").write_text(f"{number}\n", encoding="utf-8")
        made.append(open_adapter(copy))
    return made


@contextmanager
def encoding_anew(engine: TransformersEngine) -> Iterator[None]:
    """Have the engine tokenise and open pictures every time, as anything without its memory would."""
    with mock.patch.object(engine, "_encodings", Encodings(most_bytes=0)):
        yield


@contextmanager
def workplace(folder: Path | None) -> Iterator[Path]:
    """A folder to keep, where one is named; else one that is removed again."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="alignwatch-bench-") as made:
        yield Path(made)


def parser(description: str | None, repetitions: int) -> argparse.ArgumentParser:
    """The options that every benchmark takes."""
    made = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    made.add_argument("--work", type=Path, help="folder for suites and trained adapters, reused when it exists")
    made.add_argument("--threads", type=int, default=1, help="of torch; tiny models are fastest with one (default: 1)")
    made.add_argument("--repetitions", type=int, default=repetitions, help=f"rounds (default: {repetitions})")
    return made


def _settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
