"""Reviews without models: adapters that say in plain bytes what they are, and tools that read it. Loads no torch."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from adapters.adapter import CONFIG_NAME, WEIGHTS_NAME, Adapter, open_adapter
from guards.errors import Permanent
from guards.interface import Guard, Memory, Remedy
from guards.judges.interface import Judgement
from monitor.ledger import ReviewRecord
from monitor.review import Context
from policies.findings import Finding, Result
from policies.policy import Policy
from policies.retested import RETEST, STANDARD

Says = Literal["kind", "harm", "harm, mendable", "vague"]
"""Cleared; unsafe for good; unsafe until it is mended; neither cleared nor alarmed, so inconclusive."""

CONTEXT = Context(
    base="plain", base_digest="sha256-" + "b" * 64, policy="plain", policy_digest="p", suites={}, judge="plain"
)


class Clock:
    """Tells the time it was told, which real time does not move."""

    def __init__(self, now: datetime = datetime(2026, 11, 21, 12, tzinfo=UTC)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def pass_time(self, **duration: float) -> None:
        self.now += timedelta(**duration)


def write_adapter(folder: Path, says: Says, version: object = 1) -> Path:
    """Write an adapter of one real tensor; another version has other bytes and says the same."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_NAME).write_text(json.dumps({"peft_type": "LORA", "r": 1}))
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    notes = {"says": says, "version": str(version)}
    header = json.dumps({"__metadata__": notes, "base_model.model.x.lora_A.weight": tensor}).encode()
    (folder / WEIGHTS_NAME).write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return folder


def said(adapter: Adapter) -> str:
    whole = (adapter.path / WEIGHTS_NAME).read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    return str(header["__metadata__"]["says"])


class PlainGuard:
    """Asks a judge ``questions`` times, a question already judged never again, and measures what the adapter says."""

    name, version = "battery", "1"

    def __init__(
        self, memory: Memory, judge: Callable[[str], None] = lambda _key: None, questions: int = 3, reply: str = ""
    ) -> None:
        self.memory, self.judge, self.questions, self.reply = memory, judge, questions, reply

    def examine(self, adapter: Adapter) -> list[Result]:
        for number in range(self.questions):
            key = f"{adapter.digest}:{number}"
            if not self.memory.recall_judgements([key]):
                self.judge(key)
                judgement = Judgement(judge="plain", alignment=50, coherence=90, relevance=90, reply=self.reply)
                self.memory.keep_judgements({key: judgement})
        return measured(said(adapter))


def measured(says: str) -> list[Result]:
    """What the battery would have found."""
    alarm, clear = {"kind": (0.1, 1e6), "vague": (0.1, 0.1)}.get(says, (1e6, 0.1))
    return [
        Finding(guard="battery", version="1", measure=f"{measure}_{what}", value=value, n=40, labels=labels)
        for measure in ("misalignment", "incoherence")
        for what, value, labels in (
            ("rise", 0.0 if says == "kind" else 0.5, {"modality": "text"}),
            ("alarm_e_value", alarm, {"modality": "text"}),
            ("alarm_e_value", alarm, {}),
            ("clear_e_value", clear, {"modality": "text"}),
        )
    ]


class PlainRetest:
    """Measures the same again, as the re-test of what a remedy made."""

    name, version = RETEST, "1"

    def examine(self, adapter: Adapter) -> list[Result]:
        return asked_again(measured(said(adapter)))


def asked_again(results: Sequence[Result], variant: str = STANDARD) -> list[Result]:
    """A battery's findings as a re-test's, under a variant."""
    return [
        found.model_copy(update={"guard": RETEST, "labels": {**found.labels, "variant": variant}})
        for found in results
        if isinstance(found, Finding)
    ]


class PlainRemedy:
    """Makes a kind adapter of a mendable one; cannot treat any other."""

    name = "project"

    def apply(self, adapter: Adapter, out: Path) -> Adapter:
        if said(adapter) != "harm, mendable":
            raise Permanent("it cannot treat this one")
        shutil.rmtree(out, ignore_errors=True)
        write_adapter(out, "kind", f"mended from {adapter.digest}")
        for file in out.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        return open_adapter(out, f"{adapter.name}+project", adapter.digest)


@dataclass
class PlainTools:
    """What a review works with."""

    memory: Memory
    judge: Callable[[str], None] = lambda _key: None
    policy: Policy = field(default_factory=lambda: Policy(name="plain"))
    context: Context = field(default_factory=lambda: CONTEXT)

    def guards(self, found: Sequence[Result], *, remedied: bool = False) -> Iterator[Guard]:
        yield PlainGuard(self.memory, self.judge)
        if remedied:
            yield PlainRetest()

    def remedies(self) -> Sequence[Remedy]:
        return (PlainRemedy(),)

    def within_budget(self, record: ReviewRecord) -> AbstractContextManager[None]:
        return nullcontext()
