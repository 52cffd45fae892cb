"""Proves the audit trail whole, and the ledger's tables in agreement with it."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from monitor.ledger import Ledger
from monitor.ledger.audit import GENESIS, AuditRecord
from monitor.ledger.audited import Audited
from monitor.report.files import write_atomically

HEAD_NAME = "audit.head"
"""Beside the ledger: the chain's head as last noted, so that a chain whose end was cut off is found out."""

_MOST_PROBLEMS = 100


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What was found."""

    records: int
    """How many records there are."""
    head: str
    """Hash of the last one; note it elsewhere, and compare with ``--head`` later."""
    problems: tuple[str, ...]
    """What is wrong, a line each; none where all is whole. At most 100 are told."""


def check_audit(ledger: Ledger, head: str | None = None) -> AuditReport:
    """Recompute the whole chain, and compare it with heads noted before and with the tables.

    Every decision, placement and word of a person in the tables has its record with the same content, every adapter
    lies where its last record says, every judge stands as its last record says, accepted as often as recorded, and
    nothing was promoted but by a promoting decision or a release.
    """
    noted = _noted(ledger)  # before the chain, which may grow meanwhile
    with ledger.audited() as audited:
        told = _Told({word for word in (head, noted) if word})
        problems = [broken] if (broken := audited.broken_link()) else []
        try:
            for record in audited.trail():
                told.take(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"record {told.records + 1} cannot be read ({error!r})")
        problems += told.problems
        problems += _compare(audited, told)
    if head is not None and head not in told.met:
        problems.append(f"the head {head} is not in the chain: its end was cut off, or it is another chain")
    if noted is not None and noted not in told.met and noted != head:
        problems.append(f"the head in {HEAD_NAME} ({noted}) is not in the chain: its end was cut off, or an old copy")
    return AuditReport(told.records, told.head, tuple(problems[:_MOST_PROBLEMS]))


def note_head(ledger: Ledger) -> None:
    """Note the chain's head in a file beside the ledger; one that is noted already is not written again.

    Raises:
        OSError: the disk is full or fails.
    """
    head = ledger.audit_head()
    if head is not None and _noted(ledger) != head.hash:
        write_atomically(f"{head.hash} {head.ordinal}\n", _head_path(ledger))


def _head_path(ledger: Ledger) -> Path:
    return ledger.path.with_name(HEAD_NAME)


def _noted(ledger: Ledger) -> str | None:
    try:
        words = _head_path(ledger).read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return None
    return words[0] if words else "(empty)"


@dataclass
class _Judge:
    """What the records tell of one judge."""

    accepted: int = 0
    moved: bool = False

    def take(self, kind: str) -> None:
        self.accepted += kind == "judge_accepted"
        self.moved = kind == "judge_moved"


@dataclass
class _Told:
    """What the records tell, in the form in which the tables tell it."""

    looked_for: set[str]
    met: set[str] = field(default_factory=set)
    records: int = 0
    head: str = GENESIS
    decided: dict[tuple[str, str], str] = field(default_factory=dict)
    placed_by: dict[tuple[str, str], str] = field(default_factory=dict)
    place: dict[str, str] = field(default_factory=dict)
    words: dict[int, tuple[str, str, str, str]] = field(default_factory=dict)
    standing: dict[str, str] = field(default_factory=dict)
    judges: dict[str, _Judge] = field(default_factory=lambda: defaultdict(_Judge))
    promoting: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    problems: list[str] = field(default_factory=list)

    def take(self, record: AuditRecord) -> None:
        self.head = record.hash
        if record.hash in self.looked_for:
            self.met.add(record.hash)
        payload, digest = record.payload, record.subject
        match record.kind:
            case "decided":
                self.decided[payload["review"], digest] = _canonical(payload["decision"])
                self._weigh(digest, payload["review"], payload["decision"]["outcome"])
            case "overridden":
                said = (digest, payload["action"], payload["reason"], payload["who"])
                self.words[payload["override"]] = said
                self.standing[digest] = payload["action"]
            case "placed":
                self._placed(record)
            case "judge_frozen" | "judge_moved" | "judge_returned" | "judge_accepted":
                self.judges[payload["judge"]].take(record.kind)
        self.records += 1

    def _weigh(self, digest: str, review: str, outcome: str) -> None:
        if outcome == "promote":
            self.promoting[digest].add(review)
        else:
            self.promoting[digest].discard(review)

    def _placed(self, record: AuditRecord) -> None:
        digest, place = record.subject, record.payload["place"]
        review = record.payload.get("review")
        self.place[digest] = place
        if review is not None:
            self.placed_by[review, digest] = place
        if place != "promoted" or self.standing.get(digest) == "release":
            return
        if self.standing.get(digest) == "block":
            self.problems.append(f"record {record.ordinal}: {digest} was promoted although it is blocked")
        elif review is None or review not in self.promoting[digest]:
            self.problems.append(f"record {record.ordinal}: {digest} was promoted without a decision or a release")


def _compare(audited: Audited, told: _Told) -> list[str]:
    problems = []
    for review, digest, decision in audited.decisions():
        found = told.decided.pop((review, digest), None)
        if found is None:
            problems.append(f"review {review}: no record of the decision about {digest}")
        elif found != _canonical(json.loads(decision)):
            problems.append(f"review {review}: the decision about {digest} is not the recorded one")
    problems += [f"review {review}: the recorded decision about {digest} is gone" for review, digest in told.decided]
    for review, digest, place in audited.placements():
        found = told.placed_by.pop((review, digest), None)
        if found != place:
            problems.append(f"review {review}: {digest} came to {place}, but its record says {found or 'nothing'}")
    for digest, stands in audited.places():
        recorded = told.place.pop(digest, None)
        if recorded != stands:
            problems.append(f"{digest} stands as {stands or 'nothing'}, but its record says {recorded or 'nothing'}")
    problems += [f"{digest} has a record of its place, but is not known" for digest in told.place]
    for ordinal, *said in audited.words():
        if told.words.pop(ordinal, None) != tuple(said):
            problems.append(f"the {said[1]} of {said[0]} (number {ordinal}) is not the recorded one")
    problems += [f"the recorded {said[1]} of {said[0]} is gone" for said in told.words.values()]
    return [*problems, *_compare_judges(audited, told.judges)]


def _compare_judges(audited: Audited, told: dict[str, _Judge]) -> list[str]:
    """A table that says of a moved judge that it did not move, or was accepted, would make its word count again."""
    problems = []
    for judge, accepted, moved in audited.judges():
        recorded = told.pop(judge, None)
        if recorded is None:
            problems.append(f"judge {judge}: no record of its canaries")
            continue
        if recorded.accepted != accepted:
            problems.append(f"judge {judge}: accepted {accepted} times, by the records {recorded.accepted} times")
        if recorded.moved != moved:
            words = {True: "moved", False: "unmoved"}
            problems.append(f"judge {judge} stands as {words[moved]}, but its record says {words[recorded.moved]}")
    return [*problems, *(f"judge {judge} has a record of its canaries, but is not known" for judge in told)]


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)
