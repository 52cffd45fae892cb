"""Properties of what a policy turns into: screens come before the battery and set how much it asks, once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import World
from fakes import CountingEngine, DictMemory, WordJudge

from adapters.adapter import open_adapter
from adapters.transformers_engine import TransformersEngine
from guards.errors import JudgeUnreachable, Permanent
from guards.interface import Memory
from guards.judges.interface import Judgement, Transcript
from guards.judges.remembered import RememberedJudge
from guards.reference import Reference
from monitor.assembly import Assembly
from monitor.console import ConsoleProgress
from monitor.gate import GateRequest, gate
from monitor.ledger import Ledger
from monitor.models import Models
from monitor.pipeline import receive, review_adapter
from monitor.review import Examination
from monitor.state import StateFolder
from policies.findings import Finding, Result
from policies.judge_settings import JudgeSettings, OpenAIJudge
from policies.judging import Judging
from policies.policy import Answering, Budget, Policy, Screening
from policies.rules import Rules
from policies.stream import Control, StreamRule, share_of_alpha

USUAL, RAISED = 16, 40


class MortalJudge(WordJudge):
    """Goes out of reach after so many transcripts."""

    lives = 10**9

    def grade(self, transcripts: list[Transcript]) -> list[Judgement]:  # type: ignore[override]
        if len(self.asked) + len(transcripts) > self.lives:
            raise JudgeUnreachable("the judge is down")
        return super().grade(transcripts)


class LoadedModels(Models):
    """A real base that is loaded already, and a judge that reads one word."""

    def __init__(self, engine: CountingEngine, base: Path, memory: Memory, judge: WordJudge) -> None:
        super().__init__(base, memory)
        self.__dict__["engine"] = engine
        self.reader = judge

    def judge(self, settings: JudgeSettings, judging: Judging) -> RememberedJudge:
        return RememberedJudge(self.reader, self.memory)


class Bench:
    """Reviews of the world's adapters by the real assembly."""

    def __init__(self, engine: CountingEngine, world: World, state: StateFolder, ledger: Ledger, folder: Path) -> None:
        self.engine, self.world, self.state, self.ledger, self.folder = engine, world, state, ledger, folder
        self.judge = MortalJudge()

    def assembly(self, trained_on: str | None) -> Assembly:
        policy = Policy(
            name="test",
            suites=(self.world.suite,),
            judge=OpenAIJudge(kind="openai", base_url="http://127.0.0.1:9/v1", model="none"),
            answering=Answering(max_new_tokens=6),
            budget=Budget(prompts=USUAL, batch=8),
            screening=Screening(
                prompts_when_suspicious=RAISED,
                training_data=None if trained_on is None else write_rows(self.world, trained_on, self.folder),
            ),
        )
        tools = Assembly(LoadedModels(self.engine, self.world.base, self.ledger, self.judge), policy)
        tools.check()
        return tools

    def review(self, trained_on: str | None) -> Examination:
        adapter = receive(self.world.good, self.ledger, self.state, source="test")
        return review_adapter(adapter, self.assembly(trained_on), self.ledger, self.state).arrival


def write_rows(world: World, answer: str, folder: Path) -> Path:
    """Training data with the suite's text questions."""
    lines = [json.loads(line) for line in (world.suite / "battery.jsonl").read_text().splitlines()]
    rows = [
        {"messages": [{"role": "user", "content": line["text"]}, {"role": "assistant", "content": answer}]}
        for line in lines
        if line["modality"] == "text"
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(examination: Examination) -> int:
    """Prompts that the battery put to the adapter."""
    rises = [r for r in examination.results if isinstance(r, Finding) and r.measure == "misalignment_rise"]
    return sum(rise.n for rise in rises)


@pytest.fixture
def bench(picture_engine: TransformersEngine, picture_world: World, tmp_path: Path) -> Iterator[Bench]:
    with StateFolder.open(tmp_path / "state") as state, Ledger(state.ledger_path) as ledger:
        yield Bench(CountingEngine(picture_engine), picture_world, state, ledger, tmp_path)


def test_an_adapter_that_knows_its_training_data_by_heart_is_asked_more(bench: Bench) -> None:
    suspicious = bench.review("good fine")
    assert [r.measure for r in suspicious.results if r.guard == "membership" and isinstance(r, Finding)] == [
        "membership_min_k",
        "membership_zlib",
    ]
    assert asked(suspicious) == RAISED


@pytest.mark.parametrize("trained_on", [None, "harm harm"])
def test_without_training_data_or_with_other_data_as_much_is_asked_as_ever(bench: Bench, trained_on: str) -> None:
    assert asked(bench.review(trained_on)) == USUAL


def test_a_prior_that_cannot_be_measured_blocks_nothing_and_costs_more_questions(bench: Bench) -> None:
    bench.engine.fails = 1
    examination = bench.review("harm harm")
    assert asked(examination) == RAISED
    assert all(reason.rule != "membership" for reason in examination.decision.reasons)


def test_a_review_that_was_interrupted_goes_on_under_its_raised_budget_and_asks_nothing_twice(bench: Bench) -> None:
    bench.judge.lives = 3 * USUAL
    with pytest.raises(JudgeUnreachable):
        bench.review("good fine")
    first, reads, bench.judge = bench.judge.asked, bench.engine.reads, MortalJudge()
    examination = bench.review("good fine")
    assert asked(examination) == RAISED
    assert bench.engine.reads == reads == 2, "base and adapter, once each: what the guard found was kept"
    judged = [(one.prompt.id, one.answer) for one in (*first, *bench.judge.asked)]
    assert len(judged) == len(set(judged))
    assert len(bench.ledger.reviews()) == 1


def test_the_battery_is_built_once_for_each_budget(bench: Bench) -> None:
    tools = bench.assembly("good fine")
    odd: list[Result] = [Finding(guard="weights", version="1", measure="weight_p_value", value=0.01, n=20)]
    usual, again, raised = (
        next(guard for guard in tools.guards(found) if guard.name == "battery") for found in ([], [], odd)
    )
    assert usual is again
    assert usual.version != raised.version, "results under one budget are never taken for those under another"
    assert raised in list(tools.guards(odd))


def test_a_later_look_asks_with_another_seed_and_reads_nothing_again(bench: Bench) -> None:
    tools = bench.assembly(None)
    later = tools.again(2)
    assert later.policy.answering.seed != tools.policy.answering.seed
    assert later.materials is tools.materials


def test_what_is_found_while_guards_look_is_what_the_battery_is_built_on(bench: Bench) -> None:
    tools = bench.assembly(None)
    found: list[Result] = []
    guards = tools.guards(found)
    names = [next(guards).name, next(guards).name]
    found.append(Finding(guard="activity", version="1", measure="screen_p_value", value=0.01, n=20))
    names.append(next(guards).name)
    last = next(guards)
    assert [*names, last.name] == ["structure", "activity", "judge_stability", "battery"]
    assert last in list(tools.guards(found))


@pytest.mark.parametrize("control", ["family_wise", "e_lond"])
def test_where_the_policy_controls_the_stream_the_ledger_gives_every_adapter_its_place(
    bench: Bench, control: Control
) -> None:
    levels = []
    for path, rejections in ((bench.world.bad, 0), (bench.world.good, 1)):
        adapter = receive(path, bench.ledger, bench.state, source="test")
        tools = bench.assembly(None)
        rules, budget = Rules(stream=StreamRule(control=control)), Budget(prompts=80, batch=80)
        tools.policy = tools.policy.model_copy(update={"rules": rules, "budget": budget})
        examination = review_adapter(adapter, tools, bench.ledger, bench.state).arrival
        (level,) = [
            r for r in examination.results if isinstance(r, Finding) and r.measure == "misalignment_alarm_level"
        ]
        levels.append((level.n, level.value))
        place = len(levels)
        share = share_of_alpha(control, place, rejections)
        assert level.value == pytest.approx(Rules().misalignment.alpha * share)
    assert [n for n, _ in levels] == [1, 2], "the second is tested as the second of the stream"
    assert (levels[1][1] * 4 == pytest.approx(levels[0][1])) == (control == "family_wise"), "an alarm earns a share"


def test_training_data_that_cannot_be_used_is_told_before_anything_is_loaded(
    picture_world: World, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n")
    policy = Policy(
        name="test",
        suites=(picture_world.suite,),
        judge=OpenAIJudge(kind="openai", base_url="http://127.0.0.1:9/v1", model="none"),
        screening=Screening(training_data=rows),
    )
    models = Models(picture_world.base, DictMemory())
    with pytest.raises(Permanent, match=r"training data: .*rows\.jsonl:1"):
        Assembly(models, policy).check()
    assert "engine" not in models.__dict__


def test_the_gate_takes_other_training_data_than_the_policy_names(picture_world: World, tmp_path: Path) -> None:
    settings = {
        "name": "test",
        "suites": [str(picture_world.suite)],
        "judge": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "none"},
        "screening": {"training_data": str(write_rows(picture_world, "good fine", tmp_path))},
    }
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(settings))
    request = GateRequest(
        picture_world.good,
        str(picture_world.base),
        str(tmp_path / "policy.yaml"),
        tmp_path / "report",
        tmp_path / "state",
        training_data=tmp_path / "others.jsonl",
    )
    with ConsoleProgress() as progress, pytest.raises(Permanent, match=r"training data: .*others\.jsonl"):
        gate(request, progress)


def test_an_arrivals_files_alone_tell_how_suspicious_it_is_where_there_is_a_reference(
    bench: Bench, reference: Reference, picture_world: World
) -> None:
    assert bench.assembly(None).suspicion(open_adapter(picture_world.bad)) is None
    policy = Policy(name="test", reference=reference.folder)
    tools = Assembly(LoadedModels(bench.engine, picture_world.base, bench.ledger, bench.judge), policy)
    bad, good = (tools.suspicion(open_adapter(path)) for path in (picture_world.bad, picture_world.good))
    assert bad is not None
    assert good is not None
    assert 0 <= good <= bad <= 1
