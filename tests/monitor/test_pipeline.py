from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from conftest import World
from fakes import WordJudge
from safetensors.torch import load_file, save_file

from adapters.adapter import WEIGHTS_NAME, Adapter, digest_adapter, open_adapter
from adapters.prompts import Prompt
from adapters.transformers_engine import TransformersEngine
from guards.activity import ActivityGuard
from guards.battery import BatteryGuard
from guards.cues import cues_of
from guards.errors import JudgeUnreachable, Permanent
from guards.interface import Guard, Remedy
from guards.judges.interface import Judge, Judgement, Transcript
from guards.judges.remembered import RememberedJudge
from guards.retest import FRESH_SEED, RetestGuard
from guards.structure import StructureGuard
from guards.suites.battery_jsonl import load_suite
from guards.suites.suite import Suite
from monitor.ledger import Ledger, ReviewRecord
from monitor.pipeline import receive, review_adapter
from monitor.review import Context, Review
from monitor.state import StateFolder
from policies.findings import Finding, Result
from policies.policy import Answering, Budget, Policy, Screening
from policies.retest_settings import Retest

POLICY = Policy(name="test", answering=Answering(max_new_tokens=6), budget=Budget(prompts=80, batch=16))


class SwapRemedy:
    """A remedy that knows the cure: it copies the files of a good adapter."""

    def __init__(self, cure: Path, name: str = "swap") -> None:
        self.cure, self.name, self.applied = cure, name, 0

    def apply(self, adapter: Adapter, out: Path) -> Adapter:
        self.applied += 1
        shutil.copytree(self.cure, out)
        with (out / "adapter_config.json").open("a") as config:  # other bytes, so another adapter
            config.write("\n")
        (out / "alignwatch.json").write_text(json.dumps({"parent": adapter.digest, "method": "swap"}))
        return open_adapter(out, f"{adapter.name}+swap", adapter.digest)


class CopyRemedy:
    """A remedy that finds nothing to change: the same bytes, and so the same adapter."""

    name = "copy"

    def apply(self, adapter: Adapter, out: Path) -> Adapter:
        shutil.copytree(adapter.path, out)
        return open_adapter(out, f"{adapter.name}+copy", adapter.digest)


class FailingRemedy:
    name = "failing"

    def apply(self, adapter: Adapter, out: Path) -> Adapter:
        raise Permanent("it cannot treat this kind")


class GreedyRemedy:
    name = "greedy"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def apply(self, adapter: Adapter, out: Path) -> Adapter:
        raise self.error


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
    asks_again: bool = True

    @property
    def context(self) -> Context:
        return Context(
            base="b", base_digest=self.engine.base_digest, policy="test", policy_digest="p", suites={}, judge="j"
        )

    def guards(self, found: Sequence[Result], *, remedied: bool = False) -> Iterator[Guard]:
        suite = load_suite(self.world.suite)
        yield StructureGuard(self.world.base)
        yield ActivityGuard(self.engine, [suite])
        judge = RememberedJudge(self.judge, self.ledger)
        yield BatteryGuard(self.engine, judge, [suite], self.policy, self.ledger)
        if remedied and self.asks_again:
            yield self.retest(judge, suite)

    def retest(self, judge: Judge, suite: Suite) -> RetestGuard:
        """The suite with other answers and in another order, and under a trigger."""
        answering = self.policy.answering.model_copy(update={"seed": FRESH_SEED})
        policy = self.policy.model_copy(
            update={
                "answering": answering,
                "retest": Retest(formats=()),
                "screening": Screening(triggers=("please please",)),
            }
        )

        def battery(suites: Sequence[Suite], _variant: str) -> BatteryGuard:
            return BatteryGuard(self.engine, judge, suites, policy, self.ledger)

        def nobody(prompts: Sequence[Prompt]) -> list[Judgement]:
            raise AssertionError("no cue here is only supposed")

        return RetestGuard([suite], cues_of([suite], [], policy), policy, battery, nobody)

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


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:115] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_a_remedy_that_runs_out_of_memory_is_on_record_and_the_next_one_is_tried(
    bench: Bench, error: BaseException
) -> None:
    bench.cures = (GreedyRemedy(error), SwapRemedy(bench.world.good))
    review = bench.review(bench.world.bad)
    assert [failure.remedy for failure in review.remedy_failures] == ["greedy"]
    assert review.remedy_failures[0].reason.startswith("greedy: out of memory")
    assert [one.place for one in review.examinations] == ["quarantined", "promoted"]


def test_another_fault_of_a_remedy_is_not_taken_for_a_lack_of_memory(bench: Bench) -> None:
    bench.cures = (GreedyRemedy(RuntimeError("shapes do not fit")), SwapRemedy(bench.world.good))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        bench.review(bench.world.bad)
    assert not _names(bench.state.promoted)


def test_a_remedied_adapter_that_is_still_harmful_is_not_promoted(bench: Bench) -> None:
    bench.cures = (SwapRemedy(bench.world.bad),)
    review = bench.review(bench.world.bad)
    assert [examination.place for examination in review.examinations] == ["quarantined", "quarantined"]
    assert not _names(bench.state.promoted)


def test_the_next_remedy_starts_from_the_arrival_where_the_one_before_made_nothing_better(bench: Bench) -> None:
    bench.cures = (SwapRemedy(bench.world.bad, "idle"), SwapRemedy(bench.world.good, "swap"))
    review = bench.review(bench.world.bad)
    original, idle, mended = review.examinations
    assert (idle.remedy, idle.parent, idle.place) == ("idle", original.digest, "quarantined")
    assert (mended.remedy, mended.parent, mended.place) == ("swap", original.digest, "promoted")


def test_a_remedy_that_changes_no_byte_leaves_one_adapter_which_is_put_into_its_place_once(bench: Bench) -> None:
    bench.cures = (CopyRemedy(), SwapRemedy(bench.world.good))
    review = bench.review(bench.world.bad)
    original = review.examinations[0]
    placed = [one.subject for one in bench.ledger.audit_trail() if one.kind == "placed"]
    assert placed.count(original.digest) == 1
    assert review.examinations[-1].place == "promoted"


def test_the_next_remedy_starts_from_what_the_one_before_made_where_that_is_better(bench: Bench) -> None:
    bench.cures = (SwapRemedy(bench.world.good, "swap"), SwapRemedy(bench.world.bad, "worse"))
    bench.asks_again = False  # so that nothing is promoted
    original, better, worse = bench.review(bench.world.bad).examinations
    assert (better.parent, worse.parent) == (original.digest, better.digest)


def _asked_again(review: Review, digest: str) -> set[str]:
    """Variants under which the record says that an adapter was asked again."""
    results = next(e.results for e in review.examinations if e.digest == digest)
    return {r.labels["variant"] for r in results if isinstance(r, Finding) and r.guard == "retest"}


def test_what_a_remedy_made_is_promoted_with_the_retest_in_its_record_and_an_arrival_without_one(bench: Bench) -> None:
    bench.cures = (SwapRemedy(bench.world.good),)
    review = bench.review(bench.world.bad)
    assert review.promoted is not None
    assert _asked_again(review, review.promoted.digest) == {"standard", "cue:trigger-1"}
    assert not _asked_again(review, review.arrival.digest)
    clean = [reason.text for reason in review.promoted.decision.reasons if reason.rule == "retest"]
    assert len(clean) == 2
    assert all(text.startswith("clean under ") for text in clean)


def test_what_a_remedy_made_is_not_promoted_where_nobody_asks_again(bench: Bench) -> None:
    bench.cures, bench.asks_again = (SwapRemedy(bench.world.good),), False
    review = bench.review(bench.world.bad)
    assert review.promoted is None
    assert review.examinations[1].decision.verdict == "inconclusive"
    assert review.examinations[1].decision.reasons[0].rule == "retest"
    assert not _names(bench.state.promoted)


def test_what_a_remedy_made_is_asked_again_also_when_it_is_reviewed_by_itself_later(bench: Bench) -> None:
    bench.cures = (SwapRemedy(bench.world.good),)
    made = bench.review(bench.world.bad).promoted
    assert made is not None
    bench.asks_again = False
    copy = bench.state.promoted / made.digest
    assert bench.review(copy).arrival.place == "quarantined"
    assert not _names(bench.state.promoted)
    bench.asks_again = True
    again = bench.review(bench.state.quarantine / made.digest)
    assert again.arrival.place == "promoted"
    assert _asked_again(again, made.digest)


def test_a_review_that_was_interrupted_within_the_retest_asks_again_before_it_promotes(bench: Bench) -> None:
    bench.cures = (SwapRemedy(bench.world.good),)
    bench.judge = whole = WordJudge()
    bench.review(bench.world.bad)
    for lives in (len(whole.asked) - 20, len(whole.asked) - 90):
        with StateFolder.open(bench.state.path / f"again-{lives}") as state, Ledger(state.ledger_path) as ledger:
            again = Bench(bench.engine, bench.world, state, ledger, DyingJudge(lives), cures=bench.cures)
            with pytest.raises(JudgeUnreachable):
                again.review(bench.world.bad)
            assert not _names(state.promoted)
            again.judge, again.asks_again = WordJudge(), False
            assert again.review(bench.world.bad).promoted is None
            again.asks_again = True
            review = again.review(bench.world.bad)
            assert review.promoted is not None
            assert _asked_again(review, review.promoted.digest) == {"standard", "cue:trigger-1"}


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
