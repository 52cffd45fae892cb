"""What one pass over the fleet sees and writes down."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from adapters.fleet_record import Desired, FleetMemory, Serving, ServingState
from adapters.replica import Listing, Replica, ReplicaError, ReplicaUnreachable

log = logging.getLogger("fleet")

T = TypeVar("T")
R = TypeVar("R")

_WORKERS = 16
_LONGEST_NAME = 200


@dataclass
class View:
    """One replica during one pass."""

    replica: Replica
    """The server."""
    listing: Listing | None = None
    """What it serves; None where it could not be asked, and then it is left alone for this pass."""
    boot: str = ""
    """The last known identity of its process."""
    cause: str = "not asked yet"
    """Why it could not be asked."""
    told: list[str] = field(default_factory=list)
    """What differs, beside what the records tell."""

    @property
    def url(self) -> str:
        """Its name."""
        return self.replica.url

    def look(self) -> Listing:
        """Ask it what it serves.

        Raises:
            ReplicaUnreachable: it cannot be asked, or it restarted since this pass began.
        """
        listing = self.replica.listing()
        if self.listing is not None and listing.boot != self.listing.boot:
            raise ReplicaUnreachable("it restarted meanwhile")
        self.listing = listing
        return listing

    def try_to_look(self) -> None:
        """Ask it what it serves; where it cannot be asked, remember why."""
        try:
            self.look()
        except ReplicaError as error:
            self.lose(error)

    def lose(self, error: ReplicaError) -> None:
        """Leave it alone for the rest of this pass."""
        self.listing, self.cause = None, str(error)

    def shows(self, wanted: Desired) -> bool:
        """Whether it lists an adapter under its digest and from its own folder."""
        listed = self.listing.adapters if self.listing is not None else {}
        return listed.get(wanted.digest) == self.replica.there(wanted.path)


class Book:
    """The fleet's memory as of this pass: read once, written through before anything acts on it."""

    def __init__(self, memory: FleetMemory, clock: Callable[[], datetime]) -> None:
        """Read everything recorded of adapters on replicas."""
        self._memory = memory
        self._clock = clock
        self._lock = threading.Lock()
        self._servings = {(one.replica, one.digest): one for one in memory.servings()}

    def get(self, url: str, name: str) -> Serving | None:
        """Return what is recorded of an adapter on a replica."""
        return self._servings.get((url, key_of(name)))

    def state(self, url: str, name: str) -> ServingState | None:
        """Return its state alone."""
        serving = self.get(url, name)
        return serving.state if serving is not None else None

    def on(self, url: str) -> Iterator[Serving]:
        """Yield everything recorded on one replica."""
        yield from [one for one in self._servings.values() if one.replica == url]

    def of(self, digest: str) -> Iterator[Serving]:
        """Yield everything recorded of one adapter."""
        yield from [one for one in self._servings.values() if one.digest == digest]

    def note(self, url: str, name: str, state: ServingState, detail: str = "") -> None:
        """Record a state, durably before this returns."""
        digest = key_of(name)
        with self._lock:
            before = self._servings.get((url, digest))
            if before is not None and (before.state, before.detail) == (state, detail):
                return
            self._memory.record(url, digest, state, detail)
            changed = before is None or before.state != state
            attempts = 0 if before is None or state == "serving" else before.attempts
            self._servings[url, digest] = Serving(
                replica=url,
                digest=digest,
                state=state,
                detail=detail,
                attempts=attempts + (changed and state == "failed"),
                since=self._clock() if before is None or changed else before.since,
            )
        if changed:
            level = logging.WARNING if state == "failed" else logging.INFO
            log.log(level, "%s on %s: %s%s", digest, url, state, f" ({detail})" if detail else "")

    def drop(self, serving: Serving) -> None:
        """Forget one record."""
        self._memory.drop(serving.replica, serving.digest)
        del self._servings[serving.replica, serving.digest]


def key_of(name: str) -> str:
    """Under what a name is recorded: itself, bounded, because a stranger may have given it."""
    return name[:_LONGEST_NAME]


def side_by_side(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Do the same with each of several replicas at once, so that one that hangs delays the others by itself alone."""
    chosen: Sequence[T] = list(items)
    if len(chosen) < 2:
        return [work(item) for item in chosen]
    with ThreadPoolExecutor(min(len(chosen), _WORKERS), thread_name_prefix="fleet") as pool:
        return list(pool.map(work, chosen))
