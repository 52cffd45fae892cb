"""Answers from a server that a policy names: what is wrong there is told, and ends nowhere as a verdict."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import World
from fake_vllm import FakeVllm
from fakes import DictMemory, WordJudge
from safetensors.torch import load_file, save_file

from adapters.adapter import WEIGHTS_NAME, Adapter, open_adapter
from adapters.engine import EngineError, EngineUnavailable, Sampling
from adapters.prompts import Prompt
from adapters.transformers_engine import TransformersEngine
from guards.battery import BatteryGuard
from guards.errors import Permanent
from guards.judges.remembered import RememberedJudge
from guards.suites.battery_jsonl import load_suite
from monitor.assembly import Assembly
from monitor.exit_codes import ExitCode, run_and_explain
from monitor.generation import build_generator
from monitor.ledger import Ledger
from monitor.models import Models
from monitor.pipeline import receive, review_adapter
from monitor.state import StateFolder
from policies.decide import decide
from policies.findings import Inconclusive
from policies.generation import InProcess, OnVllm
from policies.judge_settings import OpenAIJudge
from policies.policy import Answering, Budget, Policy

JUDGE = OpenAIJudge(kind="openai", base_url="http://127.0.0.1:9/v1", model="none")


@pytest.fixture(scope="module")
def server() -> Iterator[FakeVllm]:
    with FakeVllm() as fake:
        yield fake


def on_vllm(url: str, **settings: object) -> OnVllm:
    return OnVllm.model_validate({"kind": "vllm", "url": url, "patience_seconds": 0, **settings})


class Unproved:
    """The base of a real engine, whose server shows no adapter to be active, or is gone."""

    def __init__(self, engine: TransformersEngine, error: EngineError) -> None:
        self.base_digest, self.answers_key, self.sees_pictures = engine.base_digest, "elsewhere", True
        self._engine, self._error = engine, error

    @contextmanager
    def attached(self, adapter: Adapter) -> Iterator[None]:
        raise self._error
        yield

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[str]:
        return self._engine.generate(prompts, sampling)


def test_in_process_the_engine_itself_answers(picture_engine: TransformersEngine) -> None:
    assert build_generator(InProcess(), picture_engine, []) is picture_engine


@pytest.mark.parametrize("value", ["", "  ", "grün"])
def test_a_key_that_is_not_there_is_told_before_any_work(
    picture_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("REVIEW_KEY", value)
    generation = on_vllm("http://127.0.0.1:9", api_key_env="REVIEW_KEY")
    policy = Policy(name="p", suites=(picture_world.suite,), judge=JUDGE, generation=generation)
    with Ledger(tmp_path / "ledger.db") as ledger, pytest.raises(Permanent, match="REVIEW_KEY holds no usable key"):
        Assembly(Models(picture_world.base, ledger), policy).check()


def test_where_the_server_is_makes_no_other_policy_and_that_it_is_one_does(
    picture_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest(generation: InProcess | OnVllm) -> str:
        policy = Policy(name="p", suites=(picture_world.suite,), judge=JUDGE, generation=generation)
        return Assembly(Models(picture_world.base, ledger), policy).context.policy_digest

    monkeypatch.setenv("REVIEW_KEY", "secret")
    with Ledger(tmp_path / "ledger.db") as ledger:
        there = digest(on_vllm("http://127.0.0.1:9"))
        moved = on_vllm("https://elsewhere:9", api_key_env="REVIEW_KEY", mounts={"/a": "/b"}, concurrency=3)
        assert digest(moved) == there
        assert digest(on_vllm("http://127.0.0.1:9", model="base")) != there
        assert digest(InProcess()) != there


def test_a_server_of_another_base_ends_a_review_as_infrastructure_and_decides_nothing(
    server: FakeVllm, picture_world: World, picture_engine: TransformersEngine, tmp_path: Path
) -> None:
    server.reset()
    policy = Policy(
        name="p",
        suites=(picture_world.suite,),
        judge=JUDGE,
        answering=Answering(max_new_tokens=4),
        generation=on_vllm(server.url),
    )
    with StateFolder.open(tmp_path / "state") as state, Ledger(state.ledger_path) as ledger:
        models = Models(picture_world.base, ledger)
        models.__dict__["engine"] = picture_engine
        judge = RememberedJudge(WordJudge(), DictMemory())
        models.judge = lambda *_: judge  # type: ignore[method-assign,assignment,return-value]
        tools = Assembly(models, policy)

        def review() -> int:
            review_adapter(receive(picture_world.good, ledger, state, source="test"), tools, ledger, state)
            return 0

        assert run_and_explain(review) == ExitCode.INFRASTRUCTURE
        with pytest.raises(EngineUnavailable, match="serve the very base that is reviewed"):
            review()
        assert not list(state.promoted.iterdir())
        assert not list(state.quarantine.iterdir())


def test_an_adapter_that_is_not_seen_to_be_active_on_the_server_is_not_decided(
    picture_world: World, picture_engine: TransformersEngine
) -> None:
    suite = load_suite(picture_world.suite)
    policy = Policy(name="p", answering=Answering(max_new_tokens=4), budget=Budget(prompts=8))
    good = open_adapter(picture_world.good)
    unproved = Unproved(picture_engine, EngineError("good is not served as it is here"))
    results = BatteryGuard(unproved, WordJudge(), [suite], policy, DictMemory()).examine(good)
    assert [type(result) for result in results] == [Inconclusive]
    assert decide(results, policy).verdict == "inconclusive"
    gone = Unproved(picture_engine, EngineUnavailable("nobody there"))
    with pytest.raises(EngineUnavailable, match="nobody there"):
        BatteryGuard(gone, WordJudge(), [suite], policy, DictMemory()).examine(good)


def test_answers_from_a_server_are_not_taken_for_those_made_in_process(
    picture_world: World, picture_engine: TransformersEngine
) -> None:
    class Elsewhere(Unproved):
        @contextmanager
        def attached(self, adapter: Adapter) -> Iterator[None]:
            yield

        def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[str]:
            return ["good elsewhere" for _ in prompts]

    suite, memory = load_suite(picture_world.suite), DictMemory()
    policy = Policy(name="p", answering=Answering(max_new_tokens=4), budget=Budget(prompts=8))
    good = open_adapter(picture_world.good)
    BatteryGuard(picture_engine, WordJudge(), [suite], policy, memory).examine(good)
    before = dict(memory.answers)
    elsewhere = Elsewhere(picture_engine, EngineError(""))
    BatteryGuard(elsewhere, WordJudge(), [suite], policy, memory).examine(good)
    new = {key: answer for key, answer in memory.answers.items() if key not in before}
    assert len(new) == 16
    assert set(new.values()) == {"good elsewhere"}


def test_a_part_that_no_suite_can_prove_is_about_the_adapter_and_not_the_policy(
    server: FakeVllm, picture_world: World, picture_engine: TransformersEngine, tmp_path: Path
) -> None:
    server.reset()
    folder = Path(shutil.copytree(picture_world.good, tmp_path / "seeing"))
    tensors = load_file(folder / WEIGHTS_NAME)
    seeing = {f"base_model.model.model.vision_tower.x.{n}": tensor for n, tensor in enumerate(tensors.values())}
    save_file(seeing, folder / WEIGHTS_NAME)
    suite = load_suite(picture_world.suite)
    texts = replace(suite, prompts=tuple(prompt for prompt in suite.prompts if prompt.image is None))
    generator = build_generator(on_vllm(server.url), picture_engine, [texts])
    with pytest.raises(EngineError, match="no suite shows a picture"), generator.attached(open_adapter(folder)):
        pass
