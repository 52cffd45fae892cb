"""``/metrics``: what Prometheus gets, made anew from the ledger at every scrape.

Nothing is remembered between scrapes but when the ledger was last tried to be written, so the series of a retired
adapter are gone with the next one, and a restart changes no counter. A ledger that cannot be read still gives a
scrape: one that says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from monitor.configuration import MetricsSettings
from monitor.ledger import Ledger, LedgerUnwritable, utc_now
from monitor.logs import logger
from monitor.metrics.families import FAMILIES, PREFIX, Family, Samples
from monitor.metrics.sections import SECTIONS

__all__ = ["CONTENT_TYPE", "FAMILIES", "PREFIX", "Family", "build_registry", "metrics_text"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of what :func:`metrics_text` returns."""

PROBE_SECONDS = 15.0
"""The ledger is tried to be written at most this often, however often it is scraped."""

log = logger("metrics")


def metrics_text(ledger: Ledger, settings: MetricsSettings, clock: Callable[[], datetime] = utc_now) -> bytes:
    """Return one scrape in Prometheus's text format; never raises for the ledger's sake."""
    return generate_latest(build_registry(ledger, settings, clock))


def build_registry(
    ledger: Ledger, settings: MetricsSettings, clock: Callable[[], datetime] = utc_now
) -> CollectorRegistry:
    """Return a registry of its own whose every collection reads the ledger."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LedgerCollector(ledger, settings, clock))
    return registry


class LedgerCollector(Collector):
    """Makes every series from the ledger, each time it is asked."""

    def __init__(self, ledger: Ledger, settings: MetricsSettings, clock: Callable[[], datetime] = utc_now) -> None:
        self._ledger = ledger
        self._settings = settings
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """Yield every family; parts that the ledger could not give are left out and counted in ``scrape_errors``."""
        samples = Samples()
        samples.add("ledger_writable", _probe(self._ledger))
        failed = 0
        for number, section in enumerate(SECTIONS):
            try:
                for sample in list(section(self._ledger, self._settings, self._clock())):  # all of a part, or nothing
                    samples.take(sample.name, sample.value, sample.labels, sample.part)
            except LedgerUnwritable as error:  # each further part would wait for the same lock
                log.warning("the ledger cannot be read for the metrics", cause=str(error))
                failed += len(SECTIONS) - number
                break
            except Exception as error:  # whatever it is: a scrape that fails looks like a process that is gone
                log.warning("a part of the metrics is missing", part=section.__name__, cause=repr(error))
                failed += 1
        samples.add("scrape_errors", failed)
        return list(samples.families())


_probes: WeakKeyDictionary[Ledger, tuple[float, bool]] = WeakKeyDictionary()
_probing = threading.Lock()


def _probe(ledger: Ledger) -> bool:
    """Return whether the ledger can be written, as it was found within the last ``PROBE_SECONDS``."""
    with _probing:
        tried, writable = _probes.get(ledger, (float("-inf"), False))
        if time.monotonic() - tried >= PROBE_SECONDS:
            writable = ledger.exported.writable()
            _probes[ledger] = (time.monotonic(), writable)
        return writable
