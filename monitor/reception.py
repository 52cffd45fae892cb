"""Reception: what has settled in the sources is staged, recorded and queued, so that a kill anywhere loses nothing.

The order is staged, known (name, parent), queued, sighted. A scan after a kill finds the sighting missing and goes
through the same steps again; each of them recognises what it did before.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adapters.adapter import Adapter, AdapterError, StillWritten
from adapters.intake import withdraw
from adapters.sources.interface import Arrival, ScanResult, Source, storable
from monitor.ledger import Ledger
from monitor.ledger.registry import Sighting
from monitor.logs import about, logger
from monitor.pipeline import receive
from monitor.state import StateFolder

log = logger("reception")

_TELL_SECONDS = 5.0
"""What has not changed is written to the ledger this often, so that polling does not grind the disk."""
_LONG_WAIT_SECONDS = 600.0
"""An adapter that has not settled for so long is told of, once."""
_OURS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors that every further arrival would meet as well."""


@dataclass(slots=True)
class _Told:
    """What was last said of a source, so that it is said once."""

    at: float = float("-inf")
    """When the ledger was last written to, on the reception's clock."""
    waiting: int = -1
    error: str | None = None
    full: bool = False
    slow: frozenset[str] = frozenset()
    unreadable: frozenset[str] = frozenset()


class Reception:
    """Takes in what settles in any number of sources."""

    def __init__(
        self,
        sources: Sequence[Source],
        ledger: Ledger,
        state: StateFolder,
        context_digest: Callable[[], str | None],
        *,
        suspicion: Callable[[Adapter], float | None] = lambda _adapter: None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Recall what each source held when last looked at.

        ``context_digest`` tells under what adapters are reviewed now; ``suspicion`` tells from an adapter's files
        how suspicious it is, 0 to 1, or None where it cannot; ``now`` is the time of day in seconds.
        """
        self._ledger = ledger
        self._state = state
        self._context_digest = context_digest
        self._suspicion = suspicion
        self._now = now
        self._monotonic = monotonic
        self._prefixed = len(sources) > 1
        self._told = {source.label: _Told() for source in sources}
        for source in sources:
            sightings = ledger.registry.sightings(source.label)
            source.recall({key: sighting.signature for key, sighting in sightings.items()})

    def scan(self, source: Source, stop: threading.Event | None = None) -> int:
        """Look at one source, take in what has settled, and return how many reviews were queued.

        ``stop`` ends it between two arrivals; the next scan goes on there.

        Raises:
            LedgerUnwritable: nothing is lost, and the next scan repeats what was not recorded.
        """
        result = source.scan()
        told = self._told[source.label]
        if result.error is not None:
            if told.error != result.error:
                log.error("the source cannot be read", cause=result.error, next_step="it is tried again all the time")
            told.error = result.error
            return 0
        if told.error is not None:
            log.info("the source can be read again")
        told.error = None
        if result.gone:
            self._ledger.registry.forget(source.label, result.gone)
        queued, postponed = self._take_all(source, result, stop)
        self._tell(source, result, len(result.waiting) + postponed)
        return queued

    def tidy(self) -> int:
        """Remove staged copies that no open job wants, left by a kill, and return how many there were.

        Only while nothing is received or reviewed, so at the start.
        """
        removed = 0
        for path in sorted(self._state.staging.glob("sha256-*")):
            if self._ledger.queue.job(path.name) is None:
                removed += withdraw(path.name, self._state.staging)
        return removed

    def _take_all(self, source: Source, result: ScanResult, stop: threading.Event | None) -> tuple[int, int]:
        """Take in what has settled; return how many reviews were queued and how many arrivals put off."""
        queued = 0
        told = self._told[source.label]
        for position, arrival in enumerate(result.settled):
            if stop is not None and stop.is_set():
                return queued, len(result.settled) - position
            try:
                queued += self._take(source, arrival)
                told.full = False
            except StillWritten as error:
                log.debug("still being written", path=arrival.key, cause=storable(str(error)))
                source.postponed(arrival, "it changes whenever it is copied")
            except OSError as error:
                cause = storable(error.strerror or str(error))
                source.postponed(arrival, f"it could not be copied: {cause}")
                if error.errno not in _OURS:
                    log.warning("could not be taken in for now", path=arrival.key, cause=cause)
                    continue
                if not told.full:
                    log.error("nothing can be taken in", cause=cause, next_step="free space in the state folder")
                told.full = True
                return queued, len(result.settled) - position
        return queued, 0

    def _take(self, source: Source, arrival: Arrival) -> bool:
        """Take one arrival in, or record why not; say whether a review was queued."""
        name = f"{source.label}/{arrival.name}" if self._prefixed else arrival.name
        try:
            adapter = receive(arrival.path, self._ledger, self._state, source=source.label, name=name)
        except StillWritten:
            raise
        except AdapterError as error:
            self._refuse(source, arrival, str(error))
            return False
        except PermissionError as error:
            self._refuse(source, arrival, f"{error.filename} cannot be read; make its files readable for the service")
            return False
        with about(adapter=adapter.digest, name=name):
            queued = self._enqueue(adapter)
            self._record(source, arrival, Sighting(arrival.key, arrival.signature, adapter.digest, arrival.incomplete))
            log.info("arrived", path=arrival.key, queued=queued, incomplete=arrival.incomplete)
        return queued

    def _enqueue(self, adapter: Adapter) -> bool:
        """Queue a review unless one is open, or recorded under the present context; then no staged copy is needed."""
        known = self._ledger.registry.get(adapter.digest)
        away = known is not None and known.place in ("retired", "removed")
        # Bytes that come back after they were put away have to be placed again; their answers are all kept.
        context = None if away else self._context_digest()
        queued = self._ledger.queue.add(
            adapter.digest, adapter.name, "arrival", context_digest=context, suspicion=self._suspected(adapter)
        )
        if not queued and self._ledger.queue.job(adapter.digest) is None:
            withdraw(adapter.digest, self._state.staging)
        return queued

    def _suspected(self, adapter: Adapter) -> float | None:
        """How suspicious an arrival is. It only orders the queue, so whatever happens here, the adapter is queued."""
        try:
            return self._suspicion(adapter)
        except Exception as error:
            log.warning("how suspicious it is cannot be told, so it goes first", cause=storable(str(error)))
            return None

    def _refuse(self, source: Source, arrival: Arrival, reason: str) -> None:
        reason = storable(reason)
        log.warning("refused", path=arrival.key, cause=reason, next_step="it is tried again when its files change")
        self._ledger.values.count("source_refused_total", source=source.label)
        self._record(source, arrival, Sighting(arrival.key, arrival.signature, None, reason))

    def _record(self, source: Source, arrival: Arrival, sighting: Sighting) -> None:
        self._ledger.registry.sighted(source.label, sighting)
        source.taken(arrival)

    def _tell(self, source: Source, result: ScanResult, waiting: int) -> None:
        """Say what is new about a source, and keep its gauges."""
        told = self._told[source.label]
        slow = {one.key: one for one in result.waiting if one.seconds >= _LONG_WAIT_SECONDS}
        for key in sorted(slow.keys() - told.slow):
            one = slow[key]
            log.warning("has not settled", path=key, kind=one.kind, cause=one.reason, seconds=round(one.seconds))
        for key in sorted(result.unreadable.keys() - told.unreadable):
            log.warning("a folder cannot be looked into", path=key, cause=result.unreadable[key])
        told.slow, told.unreadable = frozenset(slow), frozenset(result.unreadable)
        at = self._monotonic()
        if waiting == told.waiting and at - told.at < _TELL_SECONDS:
            return
        told.at, told.waiting = at, waiting
        longest = max((one.seconds for one in result.waiting), default=0.0)
        values = self._ledger.values
        values.set("source_last_success_timestamp_seconds", self._now(), source=source.label)
        values.set("source_waiting", waiting, source=source.label)
        values.set("source_longest_wait_seconds", longest, source=source.label)
