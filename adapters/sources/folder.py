"""A folder in which trainers drop adapters, each in a folder of its own. Rescans are the truth, events are hints."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters.sources.completeness import looks_like_adapter, missing_from
from adapters.sources.folder_events import folder_events
from adapters.sources.folder_walk import FolderWalk
from adapters.sources.interface import Arrival, ScanResult, Waiting, WaitingKind, storable

POLL_SECONDS = 0.25
"""What has not settled is looked at this often."""
_SHARE_OF_TIME = 0.1
"""Of a processor, at most, that polling takes; where looking takes long it is done less often."""
_AFTER_ERROR_SECONDS = 1.0
_LEAST_PAUSE = 1.0


@dataclass(slots=True)
class _Pending:
    """One adapter on its way to be settled; all times on the source's clock."""

    signature: str
    first: float
    """When it was first seen, or changed after it had been taken in."""
    changed: float
    """When its signature last changed."""
    missing: str | None = None
    """What its file set lacks, under this signature."""
    checked: bool = False
    """Whether ``missing`` was looked up under this signature."""
    pause: float = 0.0
    """How long to wait after it could not be taken in; doubles with every attempt."""
    resume: float = 0.0
    reason: str = ""
    """Why it could not be taken in."""


class FolderSource:
    """A local or mounted folder; see docs/arrival.md for what counts as settled."""

    def __init__(
        self,
        path: Path,
        label: str,
        *,
        quiet_seconds: float = 5,
        rescan_seconds: float = 60,
        incomplete_seconds: float = 3600,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch ``path``, which may not exist yet; ``clock`` gives seconds that never jump."""
        self.path = path.absolute()
        self.label = label
        self._quiet = quiet_seconds
        self._rescan = rescan_seconds
        self._incomplete = incomplete_seconds
        self._clock = clock
        self._taken: dict[str, str] = {}
        self._pending: dict[str, _Pending] = {}
        self._hints: set[str] | None = None
        self._tops: set[str] = set()
        self._root_mtime = 0
        self._last_whole = float("-inf")
        self._next_poll = float("-inf")
        self._failed = False

    def recall(self, known: Mapping[str, str]) -> None:
        """Take over what an earlier process took in: signatures by key. What is unchanged is not offered again."""
        self._taken = dict(known)

    def scan(self) -> ScanResult:
        """Look at the whole folder, or, where ``watch`` has just said so, at what is waiting or was touched."""
        started = self._clock()
        part, self._hints = self._hints, None
        if self._failed or (part is not None and self._is_an_adapter_itself(part)):
            part = None
        walk = FolderWalk(str(self.path))
        try:
            mtime = self.path.stat().st_mtime_ns
            if part is None:
                self._last_whole = started
                self._tops = walk.look()
            else:
                walk.look(part | {path.split("/", 1)[0] for path in self._pending})
            self._root_mtime = mtime
        except OSError as error:
            self._failed = True
            self._last_whole = started
            return ScanResult(error=f"{storable(str(self.path))}: {error.strerror or error}")
        self._failed = False
        result = self._sorted_out(walk, part, started)
        self._next_poll = self._clock() + max(POLL_SECONDS, (self._clock() - started) / _SHARE_OF_TIME)
        return result

    def taken(self, arrival: Arrival) -> None:
        """Be told that an arrival is recorded, accepted or refused: it is offered again only when it changes."""
        path = self._relative(arrival)
        self._taken[arrival.key] = arrival.signature
        self._pending.pop(path, None)

    def postponed(self, arrival: Arrival, reason: str) -> None:
        """Be told that an arrival could not be taken in for now: it is offered again after a pause that grows."""
        pending = self._pending.get(self._relative(arrival))
        if pending is not None:
            pending.pause = min(60.0, max(_LEAST_PAUSE, self._quiet, 2 * pending.pause))
            pending.resume, pending.reason = self._clock() + pending.pause, reason

    def watch(self, stop: threading.Event) -> Iterator[None]:
        """Yield whenever it is worth scanning, until ``stop`` is set.

        The whole folder is due at first, every ``rescan_seconds``, and whenever watching had to begin anew; between,
        what was touched or has not settled.
        """
        if not stop.is_set():
            yield
        for touched in folder_events(self.path, stop, POLL_SECONDS):
            if stop.is_set():
                return
            now = self._clock()
            if touched is None or now - self._last_whole >= self._due_seconds():
                yield
                continue
            hints = touched | self._new_names()
            if hints or (self._pending and now >= self._next_poll):
                self._hints = hints
                yield

    def _due_seconds(self) -> float:
        return min(_AFTER_ERROR_SECONDS, self._rescan) if self._failed else self._rescan

    def _new_names(self) -> set[str]:
        """What appeared in the folder itself since the last look, events or not."""
        try:
            mtime = self.path.stat().st_mtime_ns
            if mtime == self._root_mtime:
                return set()
            names = set(os.listdir(self.path))  # noqa: PTH208 - names, not paths
        except OSError:
            return set()
        fresh, self._tops, self._root_mtime = names - self._tops, names, mtime
        return fresh

    def _is_an_adapter_itself(self, touched: set[str]) -> bool:
        """Whether an adapter lies in the folder itself, so that no part of it can be looked at alone."""
        return "" in self._pending or "." in self._taken or any(looks_like_adapter(name) for name in touched)

    def _sorted_out(self, walk: FolderWalk, part: set[str] | None, now: float) -> ScanResult:
        result = ScanResult(unreadable={_key(path): cause for path, cause in walk.unreadable.items()})
        found = {path: (key, sig) for path, sig in walk.signatures.items() if self._taken.get(key := _key(path)) != sig}
        for path, (key, signature) in sorted(found.items()):
            self._weigh(path, key, signature, now, result)
        self._drop_pending(walk, found)
        if part is None and self._tops:
            # An empty folder forgets nothing: that is also what the mount point of a file system that is away shows.
            present = {_key(path) for path in walk.signatures}
            hidden = tuple(result.unreadable)
            gone = [key for key in self._taken if key not in present and not _is_below(key, hidden)]
            result.gone.extend(sorted(gone))
            for key in gone:
                del self._taken[key]
        return result

    def _weigh(self, path: str, key: str, signature: str, now: float, result: ScanResult) -> None:
        """Put one adapter that is not taken in under ``settled`` or ``waiting``."""
        pending = self._pending.get(path)
        if pending is None:
            pending = self._pending[path] = _Pending(signature, first=now, changed=now)
        elif pending.signature != signature:
            pending.signature, pending.changed, pending.checked = signature, now, False
        quiet = now - pending.changed
        state = self._unsettled(path, pending, quiet, now)
        if state is not None:
            result.waiting.append(Waiting(key, *state, now - pending.first))
            return
        name = storable(path) if path else self.label
        result.settled.append(Arrival(self.path / path, key, name, signature, pending.missing))

    def _unsettled(self, path: str, pending: _Pending, quiet: float, now: float) -> tuple[WaitingKind, str] | None:
        if quiet < self._quiet:
            return "changing", f"it changed less than {self._quiet:g} seconds ago"
        if now < pending.resume:
            return "postponed", pending.reason
        if not pending.checked:
            try:
                pending.missing = missing_from(self.path / path)
            except (FileNotFoundError, NotADirectoryError):
                return "changing", "its files vanish"
            except OSError:
                pending.missing = None  # staging meets the same error, and tells it
            pending.checked = True
        if pending.missing is not None and quiet < self._incomplete:
            return "incomplete", pending.missing
        return None

    def _drop_pending(self, walk: FolderWalk, found: Mapping[str, object]) -> None:
        """Forget what went away before it settled, or came back to what it was when it was taken in."""
        hidden = tuple(walk.unreadable)
        for path in [path for path in self._pending if path not in found and not _is_below(path, hidden)]:
            del self._pending[path]

    def _relative(self, arrival: Arrival) -> str:
        relative = str(arrival.path.relative_to(self.path))
        return "" if relative == "." else relative


def _key(path: str) -> str:
    """Name a path in records. One that is not UTF-8 begins with a slash, which no relative path does."""
    shown = storable(path)
    return (path or ".") if shown == path else "/" + storable(path.replace("\\", "\\\\"))


def _is_below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(folder + "/") or folder in ("", ".") for folder in folders)
