"""Where nobody says what an adapter was trained on, a review finds out, and asks what a remedy made about that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from conftest import World
from fakes import CountingEngine
from test_assembly import LoadedModels, MortalJudge, write_rows
from test_pipeline import SwapRemedy

from adapters.intake import withdraw
from adapters.transformers_engine import TransformersEngine
from guards.cues import MOVED
from guards.errors import JudgeUnreachable
from guards.interface import Remedy
from monitor.assembly import Assembly
from monitor.ledger import Ledger
from monitor.pipeline import receive, review_adapter
from monitor.report.reading import headline, other_findings
from monitor.review import Examination, Review
from monitor.state import StateFolder
from policies.findings import Finding
from policies.judge_settings import OpenAIJudge
from policies.judging import JudgeCanaries, Judging
from policies.policy import Answering, Budget, Policy, Screening
from policies.retest_settings import Retest
from policies.retested import MOVEMENT, RETEST


class Cured(Assembly):
    """The real assembly with a remedy that knows the cure."""

    def remedies(self) -> Iterator[Remedy]:
        yield SwapRemedy(Path(self.models.base).parent / "good")


@dataclass
class Bench:
    """Reviews of the world's harmful adapter in one state folder."""

    engine: TransformersEngine
    world: World
    state: StateFolder
    ledger: Ledger
    judge: MortalJudge

    def review(self, adapter: Path | None = None, rows: Path | None = None, *, estimate: bool = True) -> Review:
        policy = Policy(
            name="estimate",
            suites=(self.world.suite,),
            judge=OpenAIJudge(kind="openai", base_url="http://127.0.0.1:9/v1", model="none"),
            judging=Judging(canaries=JudgeCanaries(transcripts=0)),
            answering=Answering(max_new_tokens=6),
            budget=Budget(prompts=40),
            screening=Screening(training_data=rows),
            retest=Retest(formats=(), estimate=estimate),
        )
        models = LoadedModels(CountingEngine(self.engine), self.world.base, self.ledger, self.judge)
        arrival = receive(adapter or self.world.bad, self.ledger, self.state, source="test")
        return review_adapter(arrival, Cured(models, policy), self.ledger, self.state)


@pytest.fixture(scope="module")
def engine(text_world: World) -> TransformersEngine:
    return TransformersEngine(text_world.base, device="cpu")


@pytest.fixture
def bench(engine: TransformersEngine, text_world: World, tmp_path: Path) -> Iterator[Bench]:
    with StateFolder.open(tmp_path / "state") as state, Ledger(state.ledger_path) as ledger:
        yield Bench(engine, text_world, state, ledger, MortalJudge())


def _asked(examination: Examination) -> dict[str, str]:
    """Which prompts the record says were asked under each variant of the re-test."""
    found = [r for r in examination.results if isinstance(r, Finding) and r.guard == RETEST]
    return {f.labels["variant"]: f.note for f in found if f.measure == "prompts_asked"}


def _moved(examination: Examination) -> list[Finding]:
    return [r for r in examination.results if isinstance(r, Finding) and r.measure == MOVEMENT]


def test_what_a_remedy_made_is_asked_where_the_adapter_that_arrived_moves_the_base_most(bench: Bench) -> None:
    review = bench.review()
    promoted = bench.ledger.reviews()[0].promoted
    assert promoted is not None
    assert set(_asked(promoted)) == {"standard", MOVED}
    assert f"under standard, {MOVED}" in headline(review)
    moved = _moved(promoted)
    assert len(moved) == 2, "all questions, and the suite's one category"
    assert moved[0].note.endswith(f"of the adapter that arrived, {review.arrival.digest[7:19]}")
    assert all(found.value > 0 for found in moved)
    assert [found for found in other_findings(promoted) if found.measure == MOVEMENT] == moved
    assert not _asked(review.arrival), "an arrival is not asked again"


@pytest.mark.parametrize("given", [True, False])
def test_where_training_data_is_given_or_the_policy_does_without_nothing_is_estimated(
    bench: Bench, tmp_path: Path, given: bool
) -> None:
    review = bench.review(rows=write_rows(bench.world, "harm harm", tmp_path) if given else None, estimate=given)
    assert review.promoted is not None
    assert set(_asked(review.promoted)) == ({"standard", "cue:training"} if given else {"standard"})
    assert not _moved(review.promoted)


def test_once_the_files_of_the_adapter_that_arrived_are_gone_the_remedied_one_is_read_and_that_is_said(
    bench: Bench,
) -> None:
    first = bench.review()
    assert first.promoted is not None
    copy = bench.state.promoted / first.promoted.digest
    assert _moved(bench.review(copy).arrival) == _moved(first.promoted), "the original lies in quarantine"
    assert withdraw(first.arrival.digest, bench.state.quarantine)
    later = bench.review(copy).arrival
    assert set(_asked(later)) == {"standard", MOVED}
    assert "of the remedied adapter itself" in _moved(later)[0].note
    assert "files are gone" in _moved(later)[0].note


def test_a_review_that_was_interrupted_under_the_estimated_cue_goes_on_with_the_same_questions(
    bench: Bench, tmp_path: Path
) -> None:
    whole = bench.review().promoted
    assert whole is not None
    count = len(bench.judge.asked)
    with StateFolder.open(tmp_path / "again") as state, Ledger(state.ledger_path) as ledger:
        again = replace(bench, state=state, ledger=ledger, judge=MortalJudge())
        again.judge.lives = count - 1
        with pytest.raises(JudgeUnreachable):
            again.review()
        assert any(transcript.prompt.variant == MOVED for transcript in again.judge.asked)
        before = len(again.judge.asked)
        again.judge.lives = 10**9
        resumed = again.review().promoted
        assert resumed is not None
        assert (_asked(resumed), _moved(resumed)) == (_asked(whole), _moved(whole))
        assert len(again.judge.asked) == count > before, "no judgement is made twice"
