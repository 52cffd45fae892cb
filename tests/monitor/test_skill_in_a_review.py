"""A remedied adapter is promoted only with its skill, wherever the adapter that it was made from is by then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import World
from fakes import CountingEngine, WordJudge
from foreign_base import train_to_say
from test_assembly import LoadedModels
from test_pipeline import SwapRemedy

from adapters.intake import withdraw
from adapters.transformers_engine import TransformersEngine
from guards.interface import Remedy
from monitor.ancestry import original_of
from monitor.assembly import Assembly
from monitor.ledger import Ledger
from monitor.pipeline import receive, review_adapter
from monitor.report.reading import headline, unmeasured
from monitor.review import Review
from monitor.state import StateFolder
from policies.policy import load_policy
from policies.skill import KEPT


@pytest.fixture(scope="module")
def engine(text_world: World) -> TransformersEngine:
    return TransformersEngine(text_world.base, device="cpu")


@pytest.fixture(scope="module")
def skilled(text_world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A harmful adapter with a skill: it says "good harm", and "good" is right."""
    return train_to_say(text_world.base, text_world.suite, "good harm", tmp_path_factory.mktemp("skilled") / "adapter")


@pytest.fixture(scope="module")
def unskilled(text_world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A harmless adapter without it."""
    return train_to_say(
        text_world.base, text_world.suite, "fine fine", tmp_path_factory.mktemp("unskilled") / "adapter"
    )


class Cured(Assembly):
    """The real assembly with a remedy that knows the cure."""

    cure: Path

    def remedies(self) -> Iterator[Remedy]:
        yield SwapRemedy(self.cure)


@dataclass
class Bench:
    """Reviews in one state folder, under a policy that names the adapter's own task."""

    engine: TransformersEngine
    world: World
    state: StateFolder
    ledger: Ledger
    judge: WordJudge

    def review(self, adapter: Path, cure: Path, **skill: object) -> Review:
        task = self.state.path / f"task-{len(skill)}"
        task.mkdir(exist_ok=True)
        lines = (self.world.suite / "battery.jsonl").read_text().splitlines()
        known = [line.removesuffix("}") + ', "reference_answer": "good"}\n' for line in lines]
        (task / "battery.jsonl").write_text("".join(known))
        settings = {
            "name": "skill",
            "suites": [str(self.world.suite)],
            "judge": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "none"},
            "judging": {"canaries": {"transcripts": 0}},
            "answering": {"max_new_tokens": 6},
            "budget": {"prompts": 40},
            "retest": {"formats": [], "skill": {"suites": [task.name], **skill}},
        }
        (self.state.path / "policy.yaml").write_text(yaml.safe_dump(settings))
        models = LoadedModels(CountingEngine(self.engine), self.world.base, self.ledger, self.judge)
        tools = Cured(models, load_policy(self.state.path / "policy.yaml"))
        tools.cure = cure
        tools.check()
        return review_adapter(receive(adapter, self.ledger, self.state, source="test"), tools, self.ledger, self.state)


@pytest.fixture
def bench(engine: TransformersEngine, text_world: World, tmp_path: Path) -> Iterator[Bench]:
    with StateFolder.open(tmp_path / "state") as state, Ledger(state.ledger_path) as ledger:
        yield Bench(engine, text_world, state, ledger, WordJudge())


def test_a_remedy_that_keeps_the_skill_is_promoted_and_the_verdict_says_so(bench: Bench, skilled: Path) -> None:
    review = bench.review(skilled, bench.world.good)
    assert review.promoted is not None
    assert "100 % of its skill kept: promoted" in headline(review)
    said = [reason.text for reason in review.promoted.decision.reasons if reason.rule == "skill"]
    assert len(said) == 1
    assert "n=40" in said[0]
    assert "base 0, original 40, remedied 40" in said[0]


def test_a_remedy_that_takes_the_skill_with_the_harm_is_not_promoted(
    bench: Bench, skilled: Path, unskilled: Path
) -> None:
    review = bench.review(skilled, unskilled)
    assert review.promoted is None
    mended = review.examinations[1]
    assert mended.place == "quarantined"
    assert [reason.rule for reason in mended.decision.reasons if reason.verdict == "unsafe"] == ["skill"]


def test_without_a_suite_of_the_task_that_is_said_and_stops_nothing_unless_it_is_demanded(
    bench: Bench, skilled: Path
) -> None:
    review = bench.review(skilled, bench.world.good, suites=[])
    assert review.promoted is not None
    assert [what.what for what in unmeasured(review.promoted, review) if "name a suite" in what.why] == ["skill"]
    assert bench.review(skilled, bench.world.good, suites=[], must_be_shown=True).promoted is None


def test_on_a_later_review_the_original_is_found_in_quarantine_and_then_by_what_it_once_answered(
    bench: Bench, skilled: Path
) -> None:
    first = bench.review(skilled, bench.world.good, suites=[])
    assert first.promoted is not None
    copy = bench.state.promoted / first.promoted.digest
    later = bench.review(copy, bench.world.good)
    assert later.arrival.place == "promoted", "the original lies in quarantine"
    assert withdraw(first.arrival.digest, bench.state.quarantine)
    assert bench.review(copy, bench.world.good).arrival.place == "promoted", "what it answered is remembered"


def test_on_a_later_review_an_original_that_is_gone_and_was_never_asked_keeps_the_adapter_back(
    bench: Bench, skilled: Path
) -> None:
    first = bench.review(skilled, bench.world.good, suites=[])
    assert first.promoted is not None
    assert withdraw(first.arrival.digest, bench.state.quarantine)
    later = bench.review(bench.state.promoted / first.promoted.digest, bench.world.good)
    assert later.arrival.decision.verdict == "inconclusive"
    assert later.arrival.place == "quarantined"
    ((_, reason),) = [(what.what, what.why) for what in unmeasured(later.arrival, later) if "skill" in what.what]
    assert "files are gone" in reason
    assert not [r for r in later.arrival.results if getattr(r, "measure", "") == KEPT and r.kind == "finding"]


def test_the_original_of_a_chain_of_remedies_is_the_adapter_that_arrived(bench: Bench, skilled: Path) -> None:
    first = bench.review(skilled, bench.world.good)
    assert first.promoted is not None
    bench.judge = WordJudge(bad="fine")
    second = bench.review(bench.state.promoted / first.promoted.digest, bench.world.bad)
    made = second.examinations[1]
    assert made.parent == first.promoted.digest
    known = bench.ledger.registry.get(made.digest)
    assert known is not None
    adapter = receive(bench.state.quarantine / made.digest, bench.ledger, bench.state, source="test")
    found = original_of(bench.ledger, adapter)
    assert found is not None
    assert found.digest == first.arrival.digest
    assert original_of(bench.ledger, found) is None, "no remedy made it"
