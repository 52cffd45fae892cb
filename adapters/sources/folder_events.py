"""What the operating system tells of a folder: hints, some of which are lost."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import watchfiles

_TRY_AGAIN_ROUNDS = 240
"""Rounds without events after which they are asked for again, where the system refused them."""


def folder_events(folder: Path, stop: threading.Event, seconds: float) -> Iterator[set[str] | None]:
    """Yield, at least every so many seconds, the names in ``folder`` below which something was touched.

    Yields None where the whole folder has to be looked at: watching has just begun, or the folder came, went or was
    replaced.
    """
    while not stop.is_set():
        identity = _identity(folder)
        if identity is not None:
            yield from _watched(folder, identity, stop, seconds)
        for _ in range(_TRY_AGAIN_ROUNDS):
            if stop.wait(seconds):
                return
            if _identity(folder) != identity:
                yield None
                break
            yield set()


def _watched(
    folder: Path, identity: tuple[int, int], stop: threading.Event, seconds: float
) -> Iterator[set[str] | None]:
    prefix = os.fspath(folder) + os.sep
    first = True
    try:
        for changes in watchfiles.watch(
            folder,
            watch_filter=None,
            debounce=200,
            step=25,
            stop_event=stop,
            rust_timeout=round(1000 * seconds),
            yield_on_timeout=True,
            raise_interrupt=False,
            recursive=True,
            ignore_permission_denied=True,
        ):
            if first:
                yield None
                first = False
            yield {path.removeprefix(prefix).split(os.sep, 1)[0] for _, path in changes if path.startswith(prefix)}
            if _identity(folder) != identity:
                return
    except (OSError, RuntimeError):
        return  # no events to be had: too many folders for the system's limit, or a file system without them


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        seen = folder.stat()
    except OSError:
        return None
    return seen.st_dev, seen.st_ino
