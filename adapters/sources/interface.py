"""Where adapters come from: what a source tells of the adapters that it holds."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

_SURROGATES = re.compile("[\ud800-\udfff]")
"""What Python makes of bytes in file names that are not UTF-8."""

WaitingKind: TypeAlias = Literal["changing", "incomplete", "postponed"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One adapter that has settled in a source and was not taken in yet, at least not with these files."""

    path: Path
    """The folder that holds it; anybody may have made it."""
    key: str
    """Where it lies in the source, for records: the folder's path relative to the source's. Valid UTF-8."""
    name: str
    """What people call it; the key, or the source's label where the adapter lies in the source's folder itself."""
    signature: str
    """Digest of names, sizes, inodes and times of its files; another one means that something was written."""
    incomplete: str | None = None
    """What is missing, where its files stayed incomplete for so long that it is taken in as it is."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One adapter that has not settled."""

    key: str
    """Where it lies in the source; see :class:`Arrival`."""
    kind: WaitingKind
    """``changing``: written to a moment ago; ``incomplete``: quiet, but files are missing; ``postponed``: it could not
    be taken in and is offered again."""
    reason: str
    """The cause in one line."""
    seconds: float
    """How long it has been waiting, since it was first seen or last taken in."""


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What one look at a source found."""

    settled: list[Arrival] = field(default_factory=list)
    """To be taken in; each is offered again by every scan until it is ``taken`` or ``postponed``."""
    waiting: list[Waiting] = field(default_factory=list)
    """Not settled yet."""
    gone: list[str] = field(default_factory=list)
    """Keys of what was taken in earlier and is there no more."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Folders that could not be looked into, by key, with the cause. What was known below them is not gone."""
    error: str | None = None
    """Why the source could not be looked at as a whole; nothing else is told then, and nothing is gone."""


class Source(Protocol):
    """One place where adapters arrive. Used by one thread."""

    @property
    def label(self) -> str:
        """What logs, metrics and records call it."""
        ...

    def recall(self, known: Mapping[str, str]) -> None:
        """Take over what an earlier process took in: signatures by key. What is unchanged is not offered again."""
        ...

    def scan(self) -> ScanResult:
        """Look at the source; reads only names and times of what is known."""
        ...

    def taken(self, arrival: Arrival) -> None:
        """Be told that an arrival is recorded, accepted or refused: it is offered again only when it changes."""
        ...

    def postponed(self, arrival: Arrival, reason: str) -> None:
        """Be told that an arrival could not be taken in for now: it is offered again after a pause."""
        ...

    def watch(self, stop: threading.Event) -> Iterator[None]:
        """Yield whenever it is worth scanning, until ``stop`` is set; what the scan then looks at may be a part."""
        ...


def storable(text: str) -> str:
    """Return text that every database and log can hold: bytes that are not UTF-8 become visible escapes."""
    return _SURROGATES.sub(lambda found: f"\\x{ord(found.group()) & 0xFF:02x}", text)
