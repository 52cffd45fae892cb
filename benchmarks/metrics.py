"""``/metrics`` by ratio: how a scrape's time grows with what the ledger holds. ``python -m benchmarks.metrics``.

Ledgers are filled by direct inserts, with what reviews of real adapters leave behind: names, reviews with their
findings, placements, answers that are asked again, audit records, flat numbers. The scrape is the whole of
``metrics_text``, the text included, with the probe's write in every scrape, which a service does every 15 seconds.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from sqlalchemy import insert

from benchmarks.timing import interleaved, machine, median_and_range, parser, ratios, table, workplace
from monitor import metrics
from monitor.configuration import MetricsSettings
from monitor.ledger import Ledger
from monitor.ledger.service_tables import AdapterRow, JobRow, MeasureRow, NameRow, ServingRow, SightingRow
from monitor.ledger.tables import ExaminationRow, LookRow, PlacementRow, ReviewRow
from monitor.metrics import metrics_text

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MODALITIES = ("text", "image")
CATEGORIES = tuple(f"category-{number}" for number in range(5))


@dataclass(frozen=True)
class Size:
    """What a ledger holds."""

    reviewed: int
    live: int
    reviews_each: int = 1
    """Of the adapters in service; the others were reviewed once."""


SIZES: Mapping[str, Size] = {
    "10 reviewed, 10 in service": Size(10, 10),
    "10,000 reviewed, 10 in service": Size(10_000, 10),
    "10 reviewed, 10 in service, 52 times each": Size(10, 10, 52),
    "10,000 reviewed, 100 in service": Size(10_000, 100),
    "10,000 reviewed, 100 in service, 52 times each": Size(10_000, 100, 52),
}
SMALL = next(iter(SIZES))


def digest(number: int) -> str:
    return "sha256-" + hashlib.sha256(str(number).encode()).hexdigest()


def fill(ledger: Ledger, size: Size) -> None:
    """Write everything in one transaction; every tenth adapter is the child of the one before."""
    rows: dict[type[Any], list[dict[str, Any]]] = {
        kind: [] for kind in (AdapterRow, NameRow, SightingRow, ReviewRow, ExaminationRow, LookRow, PlacementRow)
    }
    rows |= {MeasureRow: [], ServingRow: [], JobRow: []}
    for number in range(size.reviewed):
        _add_adapter(rows, number, size)
    with ledger._database.writing() as session:
        for kind, values in rows.items():
            if values:
                session.execute(insert(kind), values)
    for state in ("unsafe", "clean"):
        ledger.values.count("reviews_total", size.reviewed, verdict=state)


def _add_adapter(rows: dict[type[Any], list[dict[str, Any]]], number: int, size: Size) -> None:
    live = number >= size.reviewed - size.live
    own, name = digest(number), f"adapter-{number % 50}-{number}"
    place = "promoted" if live else ("quarantined", "retired", "removed")[number % 3]
    parent = digest(number - 1) if number % 10 else None
    at = NOON + timedelta(minutes=number)
    times = size.reviews_each if live else 1
    for again in range(times):
        ordinal = len(rows[ReviewRow]) + 1
        review = f"review-{number}-{again}"
        rows[ReviewRow].append(
            {
                "ordinal": ordinal, "id": review, "digest": own, "context": json.dumps({"base": "b" * 400}),
                "context_digest": "c" * 64, "started": at, "finished": at + timedelta(days=7 * again),
            }
        )  # fmt: skip
        rows[ExaminationRow].append(
            {
                "ordinal": ordinal, "review_ordinal": ordinal, "digest": own, "name": name, "parent": parent,
                "remedy": None, "decision": json.dumps({"reasons": "r" * 600}),
            }
        )  # fmt: skip
        rows[LookRow] += [
            {"examination_ordinal": ordinal, "guard": guard, "version": "1", "results": " " * 2000, "seconds": 1.0}
            for guard in ("structure", "activity", "battery")
        ]
        rows[PlacementRow].append(
            {"examination_ordinal": ordinal, "place": "promoted" if live else "quarantined", "begun": at,
             "finished": at}
        )  # fmt: skip
        rows[MeasureRow] += list(_numbers(own, ordinal, at))
    rows[AdapterRow].append(
        {
            "digest": own, "name": name, "parent": parent, "parent_source": "declared" if parent else None,
            "arrival": own, "seen": at, "place": place,
            "placed": at, "review": f"review-{number}-{times - 1}",
        }
    )  # fmt: skip
    rows[NameRow].append({"name": name, "digest": own, "source": "inbox", "at": at})
    rows[SightingRow].append(
        {"source": "inbox", "path": name, "signature": "s" * 64, "digest": own, "reason": None, "at": at}
    )
    rows[ServingRow] += [
        {"replica": replica, "digest": own, "state": "serving" if live else "absent", "detail": "", "attempts": 0,
         "since": at}
        for replica in ("http://10.0.0.1:8311", "http://10.0.0.2:8311")
    ]  # fmt: skip


def _numbers(own: str, ordinal: int, at: datetime) -> Iterator[dict[str, Any]]:
    def number(measure: str, modality: str, category: str = "", model: str = "") -> dict[str, Any]:
        return {
            "review_ordinal": ordinal, "digest": own, "at": at, "measure": measure, "modality": modality,
            "category": category, "model": model, "value": 0.01, "low": -0.02, "high": 0.04, "n": 60,
        }  # fmt: skip

    for modality in MODALITIES:
        for measure in ("misalignment_rise", "incoherence_rise", "subspace_projection", "logit_change"):
            yield number(measure, modality)
        for model in ("adapter", "base"):
            for measure in ("misalignment_ratio", "alignment_score", "coherence_score", "relevance_score"):
                yield number(measure, modality, model=model)
        for category in CATEGORIES:
            yield number("misalignment_rise_by_category", modality, category)


@contextmanager
def filled(folder: Path, sizes: Mapping[str, Size] = SIZES) -> Iterator[dict[str, Ledger]]:
    """Open a ledger of each size; one that lies in ``folder`` already is used again."""
    with ExitStack() as stack:
        ledgers = {}
        for name, size in sizes.items():
            path = folder / f"{hashlib.sha256(repr(size).encode()).hexdigest()[:12]}.db"
            fresh = not path.exists()
            ledgers[name] = stack.enter_context(Ledger(path))
            if fresh:
                fill(ledgers[name], size)
        yield ledgers


def compare(ledgers: Mapping[str, Ledger], rounds: int) -> dict[str, list[float]]:
    """Seconds of a scrape of each ledger, in turns."""
    settings = MetricsSettings(adapters=100)
    ways = {name: (lambda ledger=ledger: metrics_text(ledger, settings)) for name, ledger in ledgers.items()}
    with mock.patch.object(metrics, "PROBE_SECONDS", 0.0):
        return interleaved(ways, rounds)


def report(ledgers: Mapping[str, Ledger], times: Mapping[str, list[float]]) -> str:
    """Milliseconds, the number of series, and the ratio to the smallest ledger of the same round."""
    rows = []
    for name, spent in times.items():
        text = metrics_text(ledgers[name], MetricsSettings(adapters=100)).decode()
        series = sum(not line.startswith("#") for line in text.splitlines())
        millis = [1000 * second for second in spent]
        ratio = median_and_range(ratios(spent, times[SMALL])) if SMALL in times else ""
        rows.append([name, str(series), median_and_range(millis, digits=1), ratio])
    return table(["ledger", "series", "milliseconds a scrape", f"times '{SMALL}'"], rows)


def main() -> int:
    """Measure and print."""
    chosen = parser(__doc__, repetitions=15).parse_args()
    print(machine())
    with workplace(chosen.work) as folder, filled(folder) as ledgers:
        print("\n" + report(ledgers, compare(ledgers, chosen.repetitions)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
