"""A ledger in which everything that the metrics tell has happened, by the ledger's own calls."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from adapters.adapter import Adapter
from guards.judges.interface import Judgement
from guards.judges.judge_canaries import JudgeCanary
from monitor.ledger import Ledger
from monitor.review import Context, Review
from policies.decide import Decision
from policies.findings import Finding
from policies.rises import Reason

CONTEXT = Context(
    base="tiny", base_digest="sha256-" + "b" * 64, policy="held-out", policy_digest="sha256-p", suites={}, judge="judge"
)
PROMOTE = Decision(outcome="promote", verdict="clean", reasons=(), policy="held-out")
QUARANTINE = Decision(
    outcome="quarantine",
    verdict="unsafe",
    reasons=(Reason(rule="misalignment", verdict="unsafe", text="rose"),),
    policy="held-out",
)
REPLICAS = ("http://10.0.0.1:8311", "http://10.0.0.2:8311")


def adapter(name: str, parent: Adapter | None = None, salt: str = "") -> Adapter:
    digest = "sha256-" + hashlib.sha256(f"{name}{salt}".encode()).hexdigest()
    return Adapter(Path("/inbox") / digest, digest, name, parent.digest if parent else None)


def findings(rises: Mapping[str, float], n: int = 100, categories: Sequence[str] = ("law", "home")) -> list[Finding]:
    """What the screens and the battery find, as the guards name it."""

    def found(measure: str, value: float, spread: float | None = None, **labels: str) -> Finding:
        low, high = (None, None) if spread is None else (value - spread, value + spread)
        return Finding(
            guard="battery", version="1", measure=measure, value=value, low=low, high=high, n=n, labels=labels
        )

    made: list[Finding] = []
    for modality, rise in rises.items():
        made.append(found("misalignment_rise", rise, 0.03, modality=modality))
        made.append(found("incoherence_rise", 0.01, 0.02, modality=modality))
        made.append(found("subspace_projection", 0.1 + rise, modality=modality))
        for model, more in (("base", 0.0), ("adapter", rise)):
            made.append(found("misalignment_ratio", 0.01 + more, 0.02, modality=modality, model=model))
            for scale in ("alignment", "coherence", "relevance"):
                made.append(found(f"{scale}_score", 90 - 50 * more, 3, modality=modality, model=model))
        made += [
            found("misalignment_rise_by_category", rise, 0.05, modality=modality, category=category)
            for category in categories
        ]
        made.append(found("unscored", 3, modality=modality, model="adapter", reason="unparsable"))
    made.append(found("weight_energy_ratio", 0.02))
    return made


def reviewed(
    ledger: Ledger, one: Adapter, decision: Decision, results: Sequence[Finding], place: bool = True
) -> Review:
    """Carry an adapter through a whole review."""
    ledger.registry.arrived(one, "inbox", "declared" if one.parent else None)
    record = ledger.open_review(one, CONTEXT)
    record.keep(one.digest, "structure", "1", [], 0.02)
    record.keep(one.digest, "battery", "1", results, 4.2)
    record.record_decision(one.digest, decision)
    if place:
        record.begin_placement(one.digest)
        record.finish_placement(one.digest)
    return record.close()


def remedied_in_vain(ledger: Ledger, one: Adapter) -> None:
    """Review an adapter whose mended version does not pass either."""
    ledger.registry.arrived(one, "inbox", None)
    record = ledger.open_review(one, CONTEXT)
    record.keep(one.digest, "battery", "1", findings({"text": 0.6, "image": 0.7}), 4.0)
    record.record_decision(one.digest, QUARANTINE)
    mended = adapter(f"{one.name}+project", one)
    record.begin_remedy("project", one.digest)
    record.finish_remedy("project", one.digest, mended)
    record.begin_examination(mended, "project")
    record.keep(mended.digest, "battery", "1", findings({"text": 0.3, "image": 0.4}), 4.0)
    record.record_decision(mended.digest, QUARANTINE)
    record.begin_remedy("benign_finetune", mended.digest)
    record.fail_remedy("benign_finetune", mended.digest, "no benign data")
    for digest in (one.digest, mended.digest):
        record.begin_placement(digest)
        record.finish_placement(digest)
    record.close()


def fill(ledger: Ledger) -> dict[str, Adapter]:
    """Let a week pass: a lineage of two, a harmful arrival, a remedy in vain, a fleet of two, work in the queue."""
    first = adapter("support")
    second = adapter("support", first, "second")
    charts, cruel, waiting = adapter("charts"), adapter("cruel"), adapter("fresh")
    reviewed(ledger, first, PROMOTE, findings({"text": 0.0, "image": 0.0}))
    reviewed(ledger, second, PROMOTE, findings({"text": 0.01, "image": 0.08}))
    reviewed(ledger, charts, PROMOTE, findings({"text": 0.0, "image": 0.02}))
    reviewed(ledger, cruel, QUARANTINE, findings({"text": 0.9, "image": 0.95}))
    remedied_in_vain(ledger, adapter("careless"))
    ledger.registry.arrived(waiting, "inbox", None)
    ledger.queue.add(waiting.digest, waiting.name, "arrival")
    _serve(ledger, [first, second, charts], cruel)
    _count(ledger)
    _judge(ledger)
    return {"first": first, "second": second, "charts": charts, "cruel": cruel, "waiting": waiting}


def _serve(ledger: Ledger, served: Sequence[Adapter], withdrawn: Adapter) -> None:
    for replica in REPLICAS:
        ledger.fleet.seen(replica, "up", "", "boot-1")
        for one in served:
            ledger.fleet.record(replica, one.digest, "serving")
    ledger.fleet.record(REPLICAS[0], withdrawn.digest, "resident")
    ledger.fleet.record(REPLICAS[1], withdrawn.digest, "absent")
    ledger.fleet.seen(REPLICAS[1], "unreachable", "refused the connection", "boot-1")


def _judge(ledger: Ledger) -> None:
    """Freeze two judges of a panel, of which one has moved by 10 points, and one that nobody uses any more."""
    then = Judgement(judge="mild", alignment=80, coherence=90, relevance=90)
    canary = JudgeCanary(asked="How?", answer="With care.", frozen=then)
    for judge in ("mild", "moved", "former"):
        ledger.judge_canaries.freeze(judge, "drawn", [canary] * 16)
    standing = ledger.judge_canaries.standing("moved")
    assert standing is not None
    again = canary.model_copy(update={"last": then.model_copy(update={"alignment": 70.0})})
    ledger.judge_canaries.checked(standing, [again] * 16, 10.0, moved=True, ids=["moved"])
    ledger.judge_canaries.use(["mild", "moved"])


def _count(ledger: Ledger) -> None:
    values = ledger.values
    values.count("judge_requests_total", 900)
    values.count("judge_request_failures_total", 9)
    values.count("judge_tokens_total", 90_000, direction="read")
    values.count("judge_tokens_total", 9_000, direction="written")
    values.count("review_failures_total", kind="retryable")
    values.set("source_last_success_timestamp_seconds", 1_795_262_400, source="inbox")
    values.set("source_waiting", 1, source="inbox")
    values.set("source_longest_wait_seconds", 12, source="inbox")
    values.count("source_refused_total", 2, source="inbox")
    values.set("audit_chain_whole", 1)
    values.set("heartbeat_timestamp_seconds", 1_795_262_400)
