"""The story: arrival, examination, decision, remedy, examination again, final place. Read it from the top."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from adapters.adapter import Adapter
from adapters.intake import PRIVATE, PUBLIC, stage, withdraw
from adapters.intake import place as publish
from guards.errors import Permanent
from guards.interface import Guard, Remedy
from guards.memory import within_memory
from monitor.ledger import Ledger, ReviewRecord
from monitor.lineage import trace_parent
from monitor.review import Context, Place, RemedyFailure, Review
from monitor.state import StateFolder
from policies.decide import Decision, decide, is_mendable, is_settled
from policies.findings import Result
from policies.merit import ranking
from policies.policy import Policy


class Tools(Protocol):
    """What a review works with; :mod:`monitor.assembly` builds it from a policy."""

    @property
    def policy(self) -> Policy:
        """The policy that decides."""
        ...

    @property
    def context(self) -> Context:
        """What adapters are examined against."""
        ...

    def guards(self, found: Sequence[Result], *, remedied: bool = False) -> Iterator[Guard]:
        """Every guard, the cheapest first; a model is loaded only when a guard that needs it is reached.

        ``found`` grows while they look, so that a later guard may be built on what the earlier ones saw. ``remedied``
        says that a remedy made the adapter, which is then asked again.
        """
        ...

    def remedies(self) -> Iterable[Remedy]:
        """The policy's remedies, in its order; asked for only when an adapter may need one."""
        ...

    def within_budget(self, record: ReviewRecord) -> AbstractContextManager[None]:
        """Hold one review to the policy's budget, what its earlier runs spent included."""
        ...


def receive(arrival: Path, ledger: Ledger, state: StateFolder, *, source: str, name: str | None = None) -> Adapter:
    """Stage an arrival under its digest, and record that it came, with its parent; a guessed one is not returned.

    Raises:
        NotAnAdapter: there is no adapter at ``arrival``.
        StillWritten: it changed meanwhile; try again later.
        AdapterError: it is too large, or holds what cannot be copied.
    """
    adapter = stage(arrival, state.staging, name)
    traced, parent_source = trace_parent(adapter, ledger)
    ledger.registry.arrived(traced, source, parent_source)
    return replace(traced, parent=None) if parent_source == "guessed" else traced


def review_adapter(adapter: Adapter, tools: Tools, ledger: Ledger, state: StateFolder) -> Review:
    """Carry one staged adapter to its final place, remedied versions included.

    Raises:
        Retryable: the surroundings failed; run it again, and it goes on where it was.
        Permanent: policy, suite or base have to change first.
    """
    record = ledger.open_review(adapter, tools.context)
    with tools.within_budget(record):
        results, decision = examine(adapter, None, tools, record)
        examined, found = [adapter], [results]
        for remedy in tools.remedies() if is_mendable(results, decision) else ():
            if decision.promotes:
                break
            best = ranking(found, tools.policy)[0]
            mended = mend(examined[best], remedy, record, state)
            if mended is None:
                continue
            results, decision = examine(mended, remedy.name, tools, record)
            examined, found = [*examined, mended], [*found, results]
    if tools.policy.mode == "enforce":
        settle(examined, record, state)
    review = record.close()
    for done in examined:  # what was promoted or quarantined is a copy
        withdraw(done.digest, state.staging)
        shutil.rmtree(done.path, ignore_errors=True)
    return review


def examine(adapter: Adapter, remedy: str | None, tools: Tools, record: ReviewRecord) -> tuple[list[Result], Decision]:
    """Let every guard look, the cheapest first, until one has settled it; then decide by the policy alone.

    A guard that finished in an earlier, interrupted run is not asked again. What a remedy made, in this review or in
    one before, is promoted only once it was asked again with fresh seeds and under the training's cues.
    """
    record.begin_examination(adapter, remedy)
    remedied = remedy is not None or record.is_remedied(adapter.digest)
    results: list[Result] = []
    for guard in tools.guards(results, remedied=remedied):
        found = record.recall(adapter.digest, guard.name, guard.version)
        if found is None:
            started = time.monotonic()
            found = guard.examine(adapter)
            record.keep(adapter.digest, guard.name, guard.version, found, time.monotonic() - started)
        results += found
        if is_settled(found):
            break
    # Once a placement has begun the recorded decision stands, and comes back here.
    decision = decide(results, tools.policy, remedied=remedied)
    return results, record.record_decision(adapter.digest, decision)


def mend(adapter: Adapter, remedy: Remedy, record: ReviewRecord, state: StateFolder) -> Adapter | None:
    """Apply one remedy, once; None where it cannot treat this adapter."""
    known = record.recall_remedy(remedy.name, adapter.digest)
    if isinstance(known, RemedyFailure):
        return None
    if known is not None and known.path.is_dir():
        return known
    record.begin_remedy(remedy.name, adapter.digest)
    try:
        with within_memory(remedy.name):
            mended = remedy.apply(adapter, state.remedied / f"{adapter.digest}+{remedy.name}")
    except Permanent as error:
        record.fail_remedy(remedy.name, adapter.digest, str(error))
        return None
    record.finish_remedy(remedy.name, adapter.digest, mended)
    return mended


def settle(examined: Iterable[Adapter], record: ReviewRecord, state: StateFolder) -> None:
    """Put every examined adapter where its decision says: intent first, then the files, then the fact."""
    for adapter in examined:
        with state.placing:
            put(adapter, record.begin_placement(adapter.digest), state)
            record.finish_placement(adapter.digest)


def put(adapter: Adapter, place: Place, state: StateFolder) -> None:
    """Put an adapter's files into a place. What lies elsewhere leaves first: the newest word stands alone."""
    if place == "promoted":
        withdraw(adapter.digest, state.quarantine)
        publish(adapter, state.promoted, PUBLIC)
    else:
        # What is held waits where no server can reach it, beside what is quarantined.
        withdraw(adapter.digest, state.promoted)
        publish(adapter, state.quarantine, PRIVATE)
    withdraw(adapter.digest, state.retired)
