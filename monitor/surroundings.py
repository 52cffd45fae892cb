"""Everything that runs beside the reviews and follows the configuration: a thread a source, and the timers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from adapters.adapter import Adapter
from adapters.sources.folder import FolderSource
from adapters.sources.interface import Source
from guards.errors import GuardError
from monitor.audit_check import check_audit, note_head
from monitor.configuration import FolderSourceSettings, ServiceConfiguration
from monitor.fleet_assembly import build_fleet
from monitor.ledger import Ledger, context_digest, utc_now
from monitor.logs import about, logger
from monitor.overrides import apply_overrides
from monitor.reception import Reception
from monitor.review import Context
from monitor.state import StateFolder
from monitor.systemd import notify, watchdog_seconds
from monitor.timers import Timers
from monitor.upkeep import queue_stale, remove_expired, retire_superseded

log = logger("surroundings")

_OVERRIDE_SECONDS = 1.0
_HEARTBEAT_SECONDS = 10.0
_AUDIT_SECONDS = 3600.0
_HEAD_SECONDS = 5.0
_RETENTION_SECONDS = 3600.0
_STOP_SECONDS = 2.0


@contextmanager
def surroundings(
    configuration: ServiceConfiguration,
    state: StateFolder,
    ledger: Ledger,
    context: Context,
    wake: Callable[[], None],
    heartbeat: Callable[[], None],
    suspicion: Callable[[Adapter], float | None] = lambda _adapter: None,
) -> Iterator[None]:
    """Watch the sources and keep the timers running for the duration of a ``with`` block.

    ``suspicion`` is called in the sources' threads, beside the reviews: it reads an adapter's files and asks no model.
    """
    ledger.fleet.keep_versions = configuration.limits.keep_versions
    under = context_digest(context)
    stop = threading.Event()
    sources = [_source(settings) for settings in configuration.sources]
    reception = Reception(sources, ledger, state, lambda: under, suspicion=suspicion)
    reception.tidy()
    watchers = [
        threading.Thread(
            target=_watch, args=(source, reception, stop, wake), name=f"source-{source.label}", daemon=True
        )
        for source in sources
    ]
    with Timers() as timers:
        _start_timers(timers, configuration, state, ledger, under, wake, heartbeat)
        for watcher in watchers:
            watcher.start()
        try:
            yield
        finally:
            stop.set()
            for watcher in watchers:
                watcher.join(_STOP_SECONDS)


def _start_timers(
    timers: Timers,
    configuration: ServiceConfiguration,
    state: StateFolder,
    ledger: Ledger,
    under: str,
    wake: Callable[[], None],
    heartbeat: Callable[[], None],
) -> None:
    fleet = build_fleet(configuration, ledger.fleet)

    def follow_people() -> None:
        if apply_overrides(ledger, state):
            fleet.reconcile()

    def look_again() -> None:
        if queue_stale(ledger, under, timedelta(days=configuration.rereview.after_days)):
            wake()

    def reconcile() -> None:
        retire_superseded(ledger, state)
        fleet.reconcile()

    def verify_audit() -> None:
        report = check_audit(ledger)
        ledger.values.set("audit_chain_whole", float(not report.problems))
        for problem in report.problems[:3]:
            log.error("the audit trail is broken", cause=problem, next_step="alignwatch audit verify")

    def expire() -> None:
        remove_expired(ledger, state, configuration.retention, utc_now())

    timers.every(_OVERRIDE_SECONDS, follow_people, "overrides")
    timers.every(configuration.limits.reconcile_seconds, reconcile, "fleet")
    timers.every(configuration.rereview.check_seconds, look_again, "re-review")
    timers.every(_RETENTION_SECONDS, expire, "retention")
    timers.every(_AUDIT_SECONDS, verify_audit, "audit")
    timers.every(_HEAD_SECONDS, lambda: note_head(ledger), "audit head")
    timers.every(_HEARTBEAT_SECONDS, heartbeat, "heartbeat")
    watchdog = watchdog_seconds()
    if watchdog is not None:
        timers.every(watchdog / 3, lambda: notify("WATCHDOG=1"), "watchdog")


def _source(settings: FolderSourceSettings) -> FolderSource:
    return FolderSource(
        settings.path,
        settings.label,
        quiet_seconds=settings.quiet_seconds,
        rescan_seconds=settings.rescan_seconds,
        incomplete_seconds=settings.incomplete_seconds,
    )


def _watch(source: Source, reception: Reception, stop: threading.Event, wake: Callable[[], None]) -> None:
    """Scan one source whenever it is worth it, until told to stop; a failure is told and scanned over."""
    with about(source=source.label):
        for _ in source.watch(stop):
            try:
                if reception.scan(source, stop):
                    wake()
            except (GuardError, OSError) as error:
                log.warning("the source could not be taken in for now", cause=str(error))
            except Exception:
                log.exception("a fault of Alignwatch, please report it")
