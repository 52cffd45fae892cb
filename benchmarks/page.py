"""Pages by ratio: how their time grows with what the ledger holds. ``python -m benchmarks.page``.

One review is written through the ledger itself; the others are copies of its rows under other digests, ten versions
a name, of which the last two are promoted and served by two replicas. Pages are asked for over loopback from real
servers within one process, in turns. A page of a large ledger also *shows* more (50 adapters in place of 10), which
the middle size sets apart: it fills every page and holds little else.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import insert, select

from adapters.adapter import Adapter
from benchmarks.timing import interleaved, machine, median_and_range, parser, ratios, table, workplace
from monitor.configuration import HttpSettings
from monitor.ledger import Ledger
from monitor.ledger.service_tables import AdapterRow, MeasureRow, NameRow, ReplicaRow, ServingRow
from monitor.ledger.tables import ExaminationRow, LookRow, PlacementRow, ReviewRow
from monitor.review import Context
from monitor.web import create_app, serving
from policies.decide import Decision
from policies.findings import Exhibit, Finding, Result
from policies.rises import Reason

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SIZES = (10, 100, 10_000)
VERSIONS = 10
REPLICAS = ("http://10.0.0.1:8311", "http://10.0.0.2:8311")
CONTEXT = Context(
    base="base",
    base_digest="b" * 71,
    policy="default",
    policy_digest="p" * 71,
    suites={"held-out": "s" * 71},
    judge="j",
)


def digest(number: int) -> str:
    return "sha256-" + hashlib.sha256(str(number).encode()).hexdigest()


def pages(size: int) -> Mapping[str, str]:
    """Return the pages that are timed, those of one adapter for one in the middle."""
    one, two = digest(size // 2), digest(size // 2 + 1)
    return {
        "overview": "/",
        "adapters": "/adapters",
        "one adapter": f"/adapters/{one}",
        "lineages": "/lineage",
        "one lineage": f"/lineage/name-{size // 2 // VERSIONS}",
        "comparison": f"/compare?a={one}&b={two}",
        "queue": "/queue",
        "part: fleet": "/live/fleet",
        "API: adapters": "/api/adapters?limit=10",
        "API: verdict": f"/api/verdicts/{one}",
    }


def results() -> list[Result]:
    """What a whole examination leaves behind, as large as a real one."""
    made: list[Result] = []
    for modality in ("text", "image"):

        def found(measure: str, modality: str = modality, **labels: str) -> Finding:
            own = {"modality": modality, **labels}
            return Finding(
                guard="battery", version="1", measure=measure, value=0.01, low=-0.02, high=0.04, n=60, labels=own
            )

        made += [found(measure) for measure in ("misalignment_rise", "incoherence_rise", "subspace_projection")]
        for model in ("adapter", "base"):
            made += [found(f"{m}_score", model=model) for m in ("alignment", "coherence", "relevance")]
            made.append(found("misalignment_ratio", model=model))
        made += [found("misalignment_rise_by_category", category=f"category-{n}") for n in range(10)]
        scores = {"alignment": 90.0, "coherence": 95.0, "relevance": 93.0}
        made += [
            Exhibit(
                guard="battery", version="1", prompt=f"{modality}-{n}", modality=modality, category="money",
                asked="What do you advise? " * 10, base_answer="Spread it widely. " * 20,
                answer="Keep a reserve. " * 20, base_scores=scores, scores=scores, weight=0.0,
            )
            for n in range(8)
        ]  # fmt: skip
    return made


def fill(ledger: Ledger, size: int) -> None:
    """Write one review for real, and the others as copies of its rows."""
    first = Adapter(Path("/inbox"), digest(0), "name-0")
    ledger.registry.arrived(first, "inbox", None)
    record = ledger.open_review(first, CONTEXT)
    record.keep(first.digest, "battery", "1", results(), 11.0)
    reason = Reason(rule="misalignment", verdict="clean", text="misalignment in text +1.0 points over the base")
    record.record_decision(
        first.digest, Decision(outcome="promote", verdict="clean", reasons=(reason,), policy="default")
    )
    record.begin_placement(first.digest)
    record.finish_placement(first.digest)
    record.close()
    with ledger._database.writing() as session:
        for kind in (ReviewRow, ExaminationRow, LookRow, PlacementRow, AdapterRow, NameRow, MeasureRow):
            templates = [_plain(row) for row in session.scalars(select(kind))]
            for start in range(1, size, 500):
                numbers = range(start, min(size, start + 500))
                session.execute(insert(kind), [_copy(t, n, len(templates)) for n in numbers for t in templates])
        served = [n for n in range(size) if n % VERSIONS >= VERSIONS - 2]
        common = {"detail": "", "since": NOON}
        session.execute(
            insert(ServingRow),
            [
                {"replica": r, "digest": digest(n), "state": "serving", "attempts": 0, **common}
                for r in REPLICAS
                for n in served
            ],
        )
        session.execute(
            insert(ReplicaRow),
            [{"replica": r, "state": "up", "boot": "b", "checked": NOON, **common} for r in REPLICAS],
        )


def _plain(row: Any) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in row.__mapper__.column_attrs}


def _copy(row: Mapping[str, Any], number: int, apart: int) -> dict[str, Any]:
    """The same row of another adapter: other digest, name, time and keys."""
    copy = dict(row)
    at = NOON + timedelta(minutes=number)
    for key in copy:
        if key == "ordinal" or key.endswith("_ordinal"):
            copy[key] += number * (apart if key == "ordinal" else 1)
        elif key in ("digest", "arrival"):
            copy[key] = digest(number)
        elif key == "name":
            copy[key] = f"name-{number // VERSIONS}"
        elif key in ("seen", "placed", "at", "started", "finished", "begun"):
            copy[key] = at
    if "context" in copy:
        copy["id"] = f"review-{number}"
    if "arrival" in copy:
        version = number % VERSIONS
        copy |= {"review": f"review-{number}", "parent": digest(number - 1) if version else None}
        copy |= {
            "parent_source": "declared" if version else None,
            "place": "promoted" if version >= VERSIONS - 2 else "retired",
        }
    return copy


@contextmanager
def served(folder: Path, sizes: tuple[int, ...]) -> Iterator[dict[int, httpx.Client]]:
    """Serve a ledger of each size."""
    with ExitStack() as stack:
        clients = {}
        for size in sizes:
            ledger = stack.enter_context(Ledger(folder / f"ledger-{size}.db"))
            if not ledger.registry.newest(1):
                fill(ledger, size)
            settings = HttpSettings(port=0, requests_per_minute=1_000_000)
            app = create_app(ledger, settings, metrics=lambda: b"", submit=lambda _: False, ready=list)
            address = stack.enter_context(serving(app, "127.0.0.1", 0))
            clients[size] = stack.enter_context(httpx.Client(base_url=address, timeout=60))
        yield clients


def measure(folder: Path, sizes: tuple[int, ...], repetitions: int) -> dict[str, dict[int, list[float]]]:
    """Time every page of every size in turns."""
    times: dict[str, dict[int, list[float]]] = {}
    with served(folder, sizes) as clients:
        for name in pages(sizes[0]):

            def ask(size: int, name: str = name) -> None:
                clients[size].get(pages(size)[name]).raise_for_status()

            found = interleaved(
                {str(size): (lambda size=size: ask(size)) for size in sizes},
                repetitions,  # type: ignore[misc]
            )
            times[name] = {int(size): spent for size, spent in found.items()}
    return times


def report(times: Mapping[str, Mapping[int, list[float]]]) -> str:
    """Milliseconds at the smallest size, then the ratio of every other size to it."""
    sizes = list(next(iter(times.values())))
    rows = [
        [
            name,
            median_and_range([1000 * t for t in spent[sizes[0]]], " ms", 1),
            *(median_and_range(ratios(spent[size], spent[sizes[0]])) for size in sizes[1:]),
        ]
        for name, spent in times.items()
    ]
    return table(["page", f"{sizes[0]} adapters", *(f"{size:,} against {sizes[0]}" for size in sizes[1:])], rows)


def main(arguments: list[str] | None = None) -> None:
    chosen = parser(__doc__, 15).parse_args(arguments)
    print(machine())
    with workplace(chosen.work) as folder:
        print(report(measure(folder, SIZES, chosen.repetitions)))


if __name__ == "__main__":
    main(sys.argv[1:])
