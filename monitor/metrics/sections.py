"""The parts of a scrape. Each reads one room of the ledger and yields its series, so that one can fail alone."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import get_args

from adapters.fleet_record import ServingState
from monitor.configuration import MetricsSettings
from monitor.ledger import Ledger
from monitor.ledger.exported import Shown
from monitor.ledger.measures import Measured
from monitor.ledger.service_tables import Standing
from monitor.metrics.families import FAMILIES, unique

_CATEGORIES = 50
"""Most categories of one adapter and modality."""

_NUMBERS = {
    "misalignment_ratio": "misalignment_ratio",
    "alignment_score": "alignment_score",
    "coherence_score": "coherence_score",
    "relevance_score": "relevance_score",
    "incoherence_rise": "incoherence_rise_ratio",
    "subspace_projection": "subspace_projection_ratio",
    "weight_energy_ratio": "weight_screen_ratio",
}
"""What the ledger calls a number, and what Prometheus does."""

_LONGEST_JUDGE = 80
"""Characters of a judge's id: with ``@`` and a digest it has to fit where labels are cut."""

_RISE, _BY_CATEGORY = "misalignment_rise", "misalignment_rise_by_category"


@dataclass(frozen=True, slots=True)
class Sample:
    """One series with its number."""

    name: str
    """A name in ``FAMILIES``."""
    value: float
    """In the family's unit."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the family; for a bucket of a histogram also ``le``."""
    part: str = ""
    """``bucket`` or ``sum`` of a histogram."""


def build(_ledger: Ledger, _settings: MetricsSettings, _now: datetime) -> Iterator[Sample]:
    """Tell which Alignwatch runs; asks nothing of the ledger."""
    try:
        found = version("alignwatch")
    except PackageNotFoundError:  # run from a copy that was never installed
        found = "unknown"
    yield Sample("build_info", 1, {"version": found})


def adapters(ledger: Ledger, settings: MetricsSettings, _now: datetime) -> Iterator[Sample]:
    """Tell how many adapters there are, and of each in service or pending how it behaves."""
    counts = {str(place): 0 for place in get_args(Standing)} | {"pending": 0}
    counts |= {place or "pending": number for place, number in ledger.registry.counts().items()}
    for state, number in counts.items():
        yield Sample("adapters", number, {"state": state})
    shown, left_out = ledger.exported.adapters(settings.adapters)
    yield Sample("adapters_without_series", left_out)
    labels = unique([(adapter.name, adapter.digest) for adapter in shown])
    for adapter in shown:
        yield Sample("adapter_info", 1, _about(adapter, labels[adapter.digest]))
    numbers = ledger.measures.latest([adapter.digest for adapter in shown])
    yield from _behaviour(numbers, labels, categories=settings.categories)
    yield from _gaps(numbers, labels)
    yield from _drifts(ledger, numbers, labels)


def _about(adapter: Shown, label: str) -> dict[str, str]:
    return {
        "adapter": label,
        "digest": adapter.digest,
        "parent": adapter.parent or "",
        "place": adapter.place,
        "override": adapter.override,
    }


def _behaviour(numbers: Sequence[Measured], labels: Mapping[str, str], *, categories: bool) -> Iterator[Sample]:
    told: dict[tuple[str, str], int] = defaultdict(int)
    for number in numbers:
        of = {"adapter": labels[number.digest], "modality": number.modality, "model": number.model}
        if number.measure in _NUMBERS:
            yield Sample(_NUMBERS[number.measure], number.value, of)
        elif number.measure == _RISE:
            yield from _rise(number, of | {"category": ""})
        elif number.measure == _BY_CATEGORY and categories:
            told[number.digest, number.modality] += 1
            if told[number.digest, number.modality] <= _CATEGORIES:
                yield from _rise(number, of | {"category": number.category})


def _rise(number: Measured, labels: Mapping[str, str]) -> Iterator[Sample]:
    yield Sample("misalignment_rise_ratio", number.value, labels)
    yield Sample("misalignment_rise_prompts", number.n, labels)
    if number.low is not None:
        yield Sample("misalignment_rise_low_ratio", number.low, labels)
    if number.high is not None:
        yield Sample("misalignment_rise_high_ratio", number.high, labels)


def _rises(numbers: Sequence[Measured]) -> dict[tuple[str, str], float]:
    return {(n.digest, n.modality): n.value for n in numbers if n.measure == _RISE}


def _gaps(numbers: Sequence[Measured], labels: Mapping[str, str]) -> Iterator[Sample]:
    rises = _rises(numbers)
    for (digest, modality), rise in rises.items():
        if modality == "image" and (digest, "text") in rises:
            yield Sample("modality_gap_ratio", rise - rises[digest, "text"], {"adapter": labels[digest]})


def _drifts(ledger: Ledger, numbers: Sequence[Measured], labels: Mapping[str, str]) -> Iterator[Sample]:
    """Compare every adapter with the best of its line; what an ancestor was not asked in is left out."""
    line = ledger.exported.ancestors(list(labels))
    above = list({ancestor for ancestors in line.values() for ancestor in ancestors} - set(labels))
    rises = _rises(numbers) | _rises(ledger.measures.latest(above, measures=[_RISE]))
    for (digest, modality), rise in _rises(numbers).items():
        best = min([rise, *(rises[a, modality] for a in line[digest] if (a, modality) in rises)])
        yield Sample("misalignment_drift_ratio", rise - best, {"adapter": labels[digest], "modality": modality})


def queue(ledger: Ledger, _settings: MetricsSettings, now: datetime) -> Iterator[Sample]:
    """Tell what is still to be done, and when something last was."""
    for state, depth in ledger.queue.depths().items():
        yield Sample("queue_depth", depth, {"state": state})
    oldest = ledger.queue.oldest()
    age = 0.0 if oldest is None else (now - oldest).total_seconds()
    yield Sample("queue_oldest_age_seconds", max(0.0, age))
    last = ledger.exported.last_review()
    if last is not None:
        yield Sample("last_review_timestamp_seconds", last.timestamp())


def fleet(ledger: Ledger, _settings: MetricsSettings, _now: datetime) -> Iterator[Sample]:
    """Tell how every server stands to what it should hold."""
    servings = ledger.exported.servings()
    for state in get_args(ServingState):
        if state != "absent":
            yield Sample("fleet_servings", sum(n for (_, s), n in servings.items() if s == state), {"state": state})
    for status in ledger.fleet.replicas():
        of = {"replica": _without_password(status.replica)}
        yield Sample("fleet_replica_up", status.state == "up", of)
        yield Sample("fleet_differs", status.detail != "", of)
        yield Sample("fleet_checked_timestamp_seconds", status.checked.timestamp(), of)
        yield Sample("withdrawing", servings.get((status.replica, "withdrawing"), 0), of)
        yield Sample("withdrawn_resident", servings.get((status.replica, "resident"), 0), of)


def judges(ledger: Ledger, _settings: MetricsSettings, _now: datetime) -> Iterator[Sample]:
    """Tell how every judge that reviews use stands to its frozen transcripts."""
    found = ledger.judge_canaries.in_use()
    labels = unique([(one.judge, hashlib.sha256(one.judge.encode()).hexdigest()) for one in found], _LONGEST_JUDGE)
    for one, label in zip(found, labels.values(), strict=True):
        of = {"judge": label}
        yield Sample("judge_moved", one.moved, of)
        yield Sample("judge_checked_timestamp_seconds", one.at.timestamp(), of)
        if one.shift is not None:
            yield Sample("judge_shift_points", one.shift, of)


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def values(ledger: Ledger, _settings: MetricsSettings, _now: datetime) -> Iterator[Sample]:
    """Tell the counters and gauges that are kept as they are; names that this version does not know are left out."""
    everything = ledger.values.all()
    for kept in everything:  # what a source never refused is 0, so that the first refusal is an increase already
        if kept.name == "source_last_success_timestamp_seconds":
            yield Sample("source_refused_total", 0, kept.labels)
    for kept in everything:
        name, part = kept.name, ""
        for ending in ("_bucket", "_sum"):
            base = kept.name.removesuffix(ending)
            if base != kept.name and base in FAMILIES and FAMILIES[base].kind == "histogram":
                name, part = base, ending[1:]
        if name in FAMILIES:
            yield Sample(name, kept.value, kept.labels, part)


Section = Callable[[Ledger, MetricsSettings, datetime], Iterator[Sample]]
SECTIONS: tuple[Section, ...] = (build, values, adapters, queue, fleet, judges)
