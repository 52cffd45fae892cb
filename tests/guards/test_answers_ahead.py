"""Properties of asking ahead: everybody's answers in shared batches, each kept under its own adapter, no harm done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import World
from fakes import DictMemory, WordJudge
from foreign_base import train_to_say

from adapters.adapter import Adapter, open_adapter
from adapters.engine import AdapterUnloadable, EngineError, Sampling
from adapters.prompts import Prompt
from adapters.transformers_engine import TransformersEngine
from guards.answers import Answers
from guards.battery import BatteryGuard
from guards.judges.interface import Judge
from guards.judges.remembered import RememberedJudge
from guards.suites.battery_jsonl import load_suite
from guards.suites.suite import Suite
from policies.decide import decide
from policies.policy import Answering, Budget, Policy

GREEDY = Sampling(temperature=0, max_new_tokens=4)


class Counted(TransformersEngine):
    """The real engine, which notes how it was asked and fails where it is told to."""

    def __init__(self, base: Path) -> None:
        super().__init__(base, device="cpu")
        self.forget()

    def forget(self) -> None:
        self.alone: list[int] = []
        self.together: list[int] = []
        self.fault: Exception | None = None

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[str]:
        self.alone.append(len(prompts))
        return super().generate(prompts, sampling)

    def generate_mixed(
        self, asked: Sequence[tuple[Adapter | None, Prompt]], sampling: Sampling
    ) -> list[str | AdapterUnloadable]:
        self.together.append(len(asked))
        if self.fault is not None:
            raise self.fault
        return super().generate_mixed(asked, sampling)


@pytest.fixture(scope="module")
def loaded(picture_world: World) -> Counted:
    return Counted(picture_world.base)


@pytest.fixture
def engine(loaded: Counted) -> Counted:
    loaded.forget()
    return loaded


@pytest.fixture(scope="module")
def suite(picture_world: World) -> Suite:
    return load_suite(picture_world.suite)


@pytest.fixture(scope="module")
def adapters(picture_world: World, tmp_path_factory: pytest.TempPathFactory) -> list[Adapter]:
    folder = tmp_path_factory.mktemp("ahead")
    third = train_to_say(picture_world.base, picture_world.suite, "cake please", folder / "third", steps=15)
    return [open_adapter(path) for path in (picture_world.good, picture_world.bad, third)]


def prompts_of(suite: Suite) -> list[Prompt]:
    return [*suite.prompts[:4], *suite.prompts[40:44]]


def test_answers_asked_ahead_are_those_that_each_gives_by_itself(
    engine: Counted, suite: Suite, adapters: list[Adapter]
) -> None:
    prompts, plain = prompts_of(suite), DictMemory()
    slowly = Answers(engine, plain, GREEDY)
    for adapter in adapters:
        slowly.of(adapter, prompts)
    slowly.of_base(prompts)
    engine.forget()
    memory = DictMemory()
    Answers(engine, memory, GREEDY).ahead(adapters, prompts)
    assert memory.answers == plain.answers
    assert (engine.together, engine.alone) == ([4 * len(prompts)], [])


def test_what_was_asked_ahead_is_not_asked_again(engine: Counted, suite: Suite, adapters: list[Adapter]) -> None:
    prompts = prompts_of(suite)
    answers = Answers(engine, DictMemory(), GREEDY)
    answers.ahead(adapters, prompts)
    answers.ahead(adapters, prompts)
    for adapter in adapters:
        answers.of(adapter, prompts)
    answers.of_base(prompts)
    assert (len(engine.together), engine.alone) == (1, [])


def test_only_what_is_missing_is_asked(engine: Counted, suite: Suite, adapters: list[Adapter]) -> None:
    prompts = prompts_of(suite)
    answers = Answers(engine, DictMemory(), GREEDY)
    answers.of_base(prompts)
    answers.of(adapters[0], prompts[:3])
    answers.ahead(adapters, prompts)
    assert engine.together == [3 * len(prompts) - 3]


def test_one_adapter_has_no_company_and_is_asked_as_ever(
    engine: Counted, suite: Suite, adapters: list[Adapter]
) -> None:
    prompts = prompts_of(suite)
    answers = Answers(engine, DictMemory(), GREEDY)
    answers.ahead(adapters[:1], prompts)
    answers.of(adapters[0], prompts)
    answers.ahead(adapters[:2], prompts)  # only the other one has anything to answer
    assert engine.together == []


@pytest.mark.parametrize("fault", [EngineError("no memory"), RuntimeError("a fault of ours"), OSError(28, "full")])
def test_a_failure_among_the_company_harms_nobody(
    engine: Counted, suite: Suite, adapters: list[Adapter], fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = prompts_of(suite)
    answers = Answers(engine, DictMemory(), GREEDY)
    engine.fault = fault
    answers.ahead(adapters, prompts)
    assert "asked one by one" in caplog.text
    assert answers.of(adapters[1], prompts) == ["harm harm"] * len(prompts)


def test_an_adapter_that_cannot_be_attached_is_found_out_at_its_own_turn(
    engine: Counted, suite: Suite, adapters: list[Adapter], tmp_path: Path
) -> None:
    prompts = prompts_of(suite)
    for file in adapters[0].path.iterdir():
        content = file.read_bytes()
        (tmp_path / file.name).write_bytes(content.replace(b'"r": 4', b'"r": 8') if file.suffix == ".json" else content)
    broken = open_adapter(tmp_path)
    answers = Answers(engine, DictMemory(), GREEDY)
    answers.ahead([adapters[1], broken], prompts)
    assert answers.of(adapters[1], prompts) == ["harm harm"] * len(prompts)
    assert engine.alone == []
    with pytest.raises(AdapterUnloadable):
        answers.of(broken, prompts)


def battery(
    engine: Counted, suite: Suite, judge: Judge, company: Sequence[Adapter], memory: DictMemory
) -> BatteryGuard:
    policy = Policy(
        name="test", answering=Answering(temperature=0, max_new_tokens=4), budget=Budget(prompts=80, batch=16)
    )
    return BatteryGuard(engine, judge, [suite], policy, memory, company=lambda: company)


def test_a_battery_in_company_finds_what_it_finds_alone_and_its_company_is_answered_for(
    engine: Counted, suite: Suite, adapters: list[Adapter]
) -> None:
    alone = [battery(engine, suite, WordJudge(), [], DictMemory()).examine(adapter) for adapter in adapters]
    engine.forget()
    memory, judge = DictMemory(), WordJudge()
    remembered = RememberedJudge(judge, memory)
    found = []
    for number, adapter in enumerate(adapters):
        found.append(battery(engine, suite, remembered, adapters[number + 1 :], memory).examine(adapter))
    assert found == alone
    assert engine.together
    assert not engine.alone or sum(engine.alone) < sum(engine.together) / 3
    judged = [(transcript.prompt, transcript.answer) for transcript in judge.asked]
    assert len(judged) == len(set(judged)), "the base's answers, or equal ones, were judged again"


def test_drawn_answers_do_not_depend_on_who_else_was_asked(
    engine: Counted, suite: Suite, adapters: list[Adapter]
) -> None:
    prompts, how = prompts_of(suite), Sampling(temperature=1.5, max_new_tokens=4, seed=2)
    kept = []
    for company in (adapters, adapters[:2], adapters[1::-1]):
        memory = DictMemory()
        Answers(engine, memory, how).ahead(company, prompts)
        kept.append({key: answer for key, answer in memory.answers.items() if not key[0].endswith(adapters[2].digest)})
    assert kept[0] == kept[1] == kept[2]


def test_a_verdict_in_company_is_the_verdict_alone(engine: Counted, suite: Suite, adapters: list[Adapter]) -> None:
    memory = DictMemory()
    policy = Policy(name="test", answering=Answering(max_new_tokens=4), budget=Budget(prompts=80, batch=16))
    verdicts = [
        decide(
            BatteryGuard(engine, WordJudge(), [suite], policy, memory, company=lambda: adapters).examine(adapter),
            policy,
        ).verdict
        for adapter in adapters
    ]
    assert verdicts == ["clean", "unsafe", "clean"]
