from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import World
from fakes import WordJudge
from safetensors.torch import load_file, save_file

from adapters.adapter import WEIGHTS_NAME, Adapter, digest_adapter, open_adapter
from adapters.transformers_engine import TransformersEngine
from guards.activity import ActivityGuard
from guards.battery import BatteryGuard
from guards.errors import JudgeUnreachable, Permanent
from guards.interface import Guard, Remedy
from guards.judges.interface import Judge, Judgement, Transcript
from guards.judges.remembered import RememberedJudge
from guards.structure import StructureGuard
from guards.suites.battery_jsonl import load_suite
from monitor.ledger import Ledger, ReviewRecord
from monitor.pipeline import receive, review_adapter
from monitor.review import Context, Review
from monitor.state import StateFolder
from policies.findings import Result
from policies.policy import Answering, Budget, Policy

POLICY = Policy(name="test", answering=Answering(max_new_tokens=6), budget=Budget(prompts=80, batch=16))


class SwapRemedy:
    """A remedy that knows the cure: it copies the files of a good adapter."""

    name = "swap"

    def __init__(self, cure: Path) -> None:
        self.cure, self.applied = cure, 0

    def apply(self, adapter: Adapter, out: Path) -> Adapter:
        self.applied += 1
        shutil.copytree(self.cure, out)
        with (out / "adapter_config.json").open("a") as config:  # other bytes, so another adapter
            config.write("\n")
        (out / "alignwatch.json").write_text(json.dumps({"parent": adapter.digest, "method": "swap"}))
        return open_adapter(out, f"{adapter.name}+swap", adapter.digest)


class FailingRemedy:
    name = "failing"

    def apply(self, adapter: Adapter, out: Path) -> Adapter:
        raise Permanent("it cannot treat this kind")


class DyingJudge(WordJudge):
    """Goes out of reach after so many transcripts."""

    def __init__(self, lives: int) -> None:
        super().__init__()
        self.lives = lives

    def grade(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        if len(self.asked) + len(transcripts) > self.lives:
            raise JudgeUnreachable("the judge is down")
        return super().grade(transcripts)


@dataclass
class Bench:
    """The pipeline's tools on the tiny foreign world."""

    engine: TransformersEngine
    world: World
    state: StateFolder
    ledger: Ledger
    judge: Judge = field(default_factory=WordJudge)
    policy: Policy = POLICY
    cures: tuple[Remedy, ...] = ()

    @property
    def context(self) -> Context:
        return Context(
            base="b", base_digest=self.engine.base_digest, policy="test", policy_digest="p", suites={}, judge="j"
        )

    def guards(self, found: Sequence[Result]) -> Iterator[Guard]:
        suite = load_suite(self.world.suite)
        yield StructureGuard(self.world.base)
        yield ActivityGuard(self.engine, [suite])
        judge = RememberedJudge(self.judge, self.ledger)
        yield BatteryGuard(self.engine, judge, [suite], self.policy, self.ledger)

    def remedies(self) -> Sequence[Remedy]:
        return self.cures

    def within_budget(self, record: ReviewRecord) -> AbstractContextManager[None]:
        return nullcontext()

    def review(self, arrival: Path) -> Review:
        return review_adapter(receive(arrival, self.ledger, self.state, source="test"), self, self.ledger, self.state)


@pytest.fixture
def bench(picture_engine: TransformersEngine, picture_world: World, tmp_path: Path) -> Iterator[Bench]:
    with StateFolder.open(tmp_path / "state") as state, Ledger(state.ledger_path) as ledger:
        yield Bench(picture_engine, picture_world, state, ledger)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.startswith("sha256-")}


def test_a_benign_adapter_is_promoted_byte_for_byte_and_nothing_else_is_kept(bench: Bench) -> None:
    review = bench.review(bench.world.good)
    assert review.arrival.place == "promoted"
    assert _names(bench.state.promoted) == {review.arrival.digest}
    assert digest_adapter(bench.state.promoted / review.arrival.digest) == digest_adapter(bench.world.good)
    assert not _names(bench.state.quarantine)
    assert not _names(bench.state.staging)


def test_a_harmful_adapter_is_quarantined_where_no_server_reaches(bench: Bench) -> None:
    review = bench.review(bench.world.bad)
    assert review.arrival.place == "quarantined"
    assert not _names(bench.state.promoted)
    assert _names(bench.state.quarantine) == {review.arrival.digest}
    assert bench.state.quarantine.stat().st_mode & 0o777 == 0o700


def test_a_remedy_makes_a_new_digest_that_is_examined_and_promoted_while_the_original_is_quarantined(
    bench: Bench,
) -> None:
    bench.cures = (FailingRemedy(), SwapRemedy(bench.world.good))
    review = bench.review(bench.world.bad)
    original, mended = review.examinations
    assert original.place == "quarantined"
    assert mended.place == "promoted"
    assert mended.parent == original.digest
    assert mended.remedy == "swap"
    assert _names(bench.state.promoted) == {mended.digest}
    assert [failure.remedy for failure in review.remedy_failures] == ["failing"]


def test_a_remedied_adapter_that_is_still_harmful_is_not_promoted(bench: Bench) -> None:
    bench.cures = (SwapRemedy(bench.world.bad),)
    review = bench.review(bench.world.bad)
    assert [examination.place for examination in review.examinations] == ["quarantined", "quarantined"]
    assert not _names(bench.state.promoted)


def test_a_no_op_is_quarantined_unjudged(bench: Bench, tmp_path: Path) -> None:
    zero = tmp_path / "zero"
    shutil.copytree(bench.world.good, zero)
    tensors = load_file(zero / WEIGHTS_NAME)
    save_file({key: value * (0 if "lora_B" in key else 1) for key, value in tensors.items()}, zero / WEIGHTS_NAME)
    bench.cures = (SwapRemedy(bench.world.good),)
    review = bench.review(zero)
    assert review.arrival.place == "quarantined"
    assert review.arrival.decision.reasons[0].text.startswith("no_op")
    assert len(review.examinations) == 1, "what is broken is not mended"
    assert isinstance(bench.judge, WordJudge)
    assert not bench.judge.asked


def test_a_judge_that_dies_promotes_nothing_and_a_second_run_repeats_no_finished_judgement(bench: Bench) -> None:
    bench.judge = first = DyingJudge(lives=40)
    with pytest.raises(JudgeUnreachable):
        bench.review(bench.world.good)
    assert not _names(bench.state.promoted)
    bench.judge = second = WordJudge()
    review = bench.review(bench.world.good)
    assert review.arrival.place == "promoted"
    asked = {(t.prompt.id, t.answer) for t in first.asked}
    assert asked
    assert not asked & {(t.prompt.id, t.answer) for t in second.asked}
    assert len(bench.ledger.reviews()) == 1, "the unfinished review was resumed, not begun again"


def test_observing_decides_and_records_but_moves_nothing(bench: Bench) -> None:
    bench.policy = POLICY.model_copy(update={"mode": "observe"})
    review = bench.review(bench.world.bad)
    assert review.arrival.decision.verdict == "unsafe"
    assert review.arrival.place is None
    assert not _names(bench.state.promoted) | _names(bench.state.quarantine)


def test_a_later_unsafe_verdict_takes_an_adapter_out_of_the_promoted_folder(bench: Bench) -> None:
    digest = bench.review(bench.world.good).arrival.digest
    assert _names(bench.state.promoted) == {digest}
    bench.judge = WordJudge(bad="good fine")
    assert bench.review(bench.world.good).arrival.place == "quarantined"
    assert not _names(bench.state.promoted)
    assert _names(bench.state.quarantine) == {digest}
