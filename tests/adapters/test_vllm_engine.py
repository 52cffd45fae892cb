"""The engine on a server: base and adapters apart, each proved, nothing answered that is not theirs."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_vllm import BASE, BASE_WEIGHTS, FakeVllm, canaries_of, says
from fleet_world import make_adapter
from PIL import Image

from adapters.adapter import WEIGHTS_NAME, Adapter
from adapters.canary import Canary
from adapters.engine import AdapterUnloadable, EngineError, EngineUnavailable, Sampling
from adapters.prompts import Prompt
from adapters.review_server import ReviewServer
from adapters.vllm_engine import VllmEngine

SAMPLING = Sampling(max_new_tokens=8, seed=3)


class Desk:
    """A server, an engine on it, two adapters, one of them with a part that only pictures reach, and questions."""

    def __init__(self, server: FakeVllm, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.plain, self.seeing = (self._adapter(number) for number in (1, 2))
        Image.new("RGB", (8, 8), "red").save(folder / "red.png")
        self.texts = [Prompt(f"t{n}", "text", f"question {n}") for n in range(20)]
        self.pictures = [Prompt("p", "image", "what is it", image=folder / "red.png", system="be kind")]
        self.paused: list[float] = []
        self.on_pause: Callable[[], None] = lambda: None
        self.now = 0.0
        self.base_canaries: tuple[Canary, ...] = tuple(
            replace(one, adapter=one.base, distance=0.0) for one in canaries_of(self.plain.path)
        )
        self.engine = self.make()

    def _adapter(self, number: int) -> Adapter:
        made = make_adapter(self.folder / "staging", number)
        return Adapter(made.path, made.digest, made.name)

    def make(self, mounts: dict[Path, Path] | None = None) -> VllmEngine:
        return VllmEngine(
            ReviewServer(self.server.url, timeout_seconds=5, at_once=4, mounts=mounts),
            base_digest="sha256-base",
            sees_pictures=True,
            base_canaries=lambda: self.base_canaries,
            canaries=lambda adapter: canaries_of(adapter.path, vision=adapter == self.seeing),
            patience_seconds=60,
            clock=lambda: self.now,
            sleep=self.pause,
        )

    def pause(self, seconds: float) -> None:
        self.paused.append(seconds)
        self.now += seconds
        self.on_pause()

    def expected(self, weights: bytes, prompt: Prompt) -> str:
        picture = None
        if prompt.image is not None:
            out = io.BytesIO()
            Image.open(prompt.image).convert("RGB").save(out, format="PNG")
            picture = out.getvalue()
        return f"says {next(iter(says(weights, prompt.asked, picture)))}"

    def of(self, adapter: Adapter, prompts: list[Prompt]) -> list[str]:
        weights = (adapter.path / WEIGHTS_NAME).read_bytes()
        return [self.expected(weights, prompt) for prompt in prompts]

    def of_base(self, prompts: list[Prompt]) -> list[str]:
        return [self.expected(BASE_WEIGHTS, prompt) for prompt in prompts]

    def ask(self, adapter: Adapter, prompts: list[Prompt] | None = None) -> list[str]:
        with self.engine.attached(adapter):
            return self.engine.generate(prompts or self.texts, SAMPLING)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeVllm]:
    with FakeVllm() as fake:
        yield fake


@pytest.fixture
def desk(server: FakeVllm, tmp_path: Path) -> Iterator[Desk]:
    server.reset()
    yield Desk(server, tmp_path)
    server.heal()


def test_base_and_adapters_answer_for_themselves_in_text_and_about_pictures(desk: Desk) -> None:
    asked = [*desk.texts, *desk.pictures]
    assert desk.engine.generate(asked, SAMPLING) == desk.of_base(asked)
    for adapter in (desk.plain, desk.seeing):
        assert desk.ask(adapter, asked) == desk.of(adapter, asked)
    assert desk.engine.generate(asked, SAMPLING) == desk.of_base(asked)
    assert not desk.paused
    assert desk.engine.generate([], SAMPLING) == []


def test_base_and_adapter_never_answer_at_the_same_time(desk: Desk) -> None:
    for adapter in (desk.plain, desk.seeing):
        desk.engine.generate(desk.texts, SAMPLING)
        desk.ask(adapter)
    assert all(len(company) == 1 for company in desk.server.company)


def test_an_adapter_is_held_from_its_own_folder_under_its_digest_and_only_while_it_is_attached(desk: Desk) -> None:
    with desk.engine.attached(desk.plain):
        assert desk.server.adapters == {desk.plain.digest: str(desk.plain.path)}
    assert desk.server.adapters == {}
    with pytest.raises(KeyboardInterrupt), desk.engine.attached(desk.plain):
        raise KeyboardInterrupt
    assert desk.server.adapters == {}


def test_what_is_drawn_depends_on_the_seed_the_prompt_and_how_often_it_was_asked(desk: Desk) -> None:
    def seeds(sampling: Sampling, *prompts: Prompt) -> list[int]:
        desk.server.bodies.clear()
        desk.engine.generate(prompts, sampling)
        bodies = [body for body in desk.server.bodies if "seed" in body]
        assert all((body["temperature"], body["top_k"], body["max_tokens"]) == (0.7, 0, 8) for body in bodies)
        return sorted(body["seed"] for body in bodies)

    one, other = desk.texts[:2]
    assert seeds(SAMPLING, one) == seeds(SAMPLING, one)
    several = {tuple(seeds(s, p)) for s in (SAMPLING, replace(SAMPLING, seed=4)) for p in (one, other)}
    assert len(several) == 4
    assert len(set(seeds(SAMPLING, one, one))) == 2


def test_nothing_kept_by_the_server_is_used_from_one_phase_to_the_next(desk: Desk) -> None:
    salts, pictures = [], []
    for _ in range(2):
        desk.server.bodies.clear()
        desk.engine.generate([*desk.texts, *desk.pictures], SAMPLING)
        asked = [body for body in desk.server.bodies if "seed" in body]
        salts.append({body["cache_salt"] for body in asked})
        pictures.append({part["uuid"] for body in asked for part in body["messages"][-1]["content"] if "uuid" in part})
    assert [len(each) for each in (*salts, *pictures)] == [1, 1, 1, 1]
    assert salts[0] != salts[1]
    assert pictures[0] != pictures[1]


@pytest.mark.parametrize(
    ("fault", "vision", "told"),
    [
        ("no_op", False, "the base answers under the adapter's name"),
        ("blind", True, r"image: 0\.\d+ from the adapter"),
    ],
)
def test_an_adapter_that_the_server_does_not_apply_is_not_judged(
    desk: Desk, fault: str, vision: bool, told: str
) -> None:
    desk.server.break_(fault)
    with pytest.raises(EngineError, match=told) as raised:
        desk.ask(desk.seeing if vision else desk.plain)
    assert not isinstance(raised.value, AdapterUnloadable | EngineUnavailable)
    assert not [body for body in desk.server.bodies if "seed" in body]
    assert desk.server.adapters == {}


def test_an_adapter_that_nothing_tells_from_the_base_is_not_judged(desk: Desk) -> None:
    (desk.plain.path / WEIGHTS_NAME).write_bytes(BASE_WEIGHTS)
    with pytest.raises(EngineError, match="cannot be proved active"):
        desk.ask(desk.plain)
    assert not desk.server.bodies


def test_what_the_server_refuses_is_the_adapters_fault_in_the_servers_words(desk: Desk) -> None:
    desk.server.break_("refuse_load")
    with pytest.raises(AdapterUnloadable, match="does not yet support DoRA"):
        desk.ask(desk.plain)
    assert not desk.paused


def test_a_folder_that_the_server_cannot_see_is_not_the_adapters_fault(desk: Desk) -> None:
    desk.engine = desk.make(mounts={desk.folder: Path("/mnt/state")})
    with pytest.raises(EngineUnavailable, match=f"see /mnt/state/staging/{desk.plain.digest} .generation.mounts"):
        desk.ask(desk.plain)


def test_a_servers_mounts_are_taken_the_deepest_first(desk: Desk) -> None:
    server = ReviewServer("http://127.0.0.1:1", mounts={Path("/a"): Path("/x"), Path("/a/b"): Path("/y")})
    assert [server.there(Path(path)) for path in ("/a/c", "/a/b/c", "/ab/c")] == ["/x/c", "/y/c", "/ab/c"]
    assert server.there(Path("relative")) == str(Path("relative").absolute())


def test_files_that_have_changed_are_not_loaded(desk: Desk) -> None:
    (desk.plain.path / "adapter_config.json").write_text('{"r": 2}')
    with pytest.raises(EngineError, match="have changed"):
        desk.ask(desk.plain)
    assert desk.server.adapters == {}


def test_a_server_of_another_base_is_told_at_once_and_is_nobodys_verdict(desk: Desk) -> None:
    desk.base_canaries = tuple(
        replace(one, base=one.adapter, adapter=one.adapter) for one in canaries_of(desk.plain.path)
    )
    for ask in (lambda: desk.engine.generate(desk.texts, SAMPLING), lambda: desk.ask(desk.plain)):
        with pytest.raises(EngineUnavailable, match="its base does not answer as the base here does"):
            ask()
    assert not desk.paused
    assert not [body for body in desk.server.bodies if "seed" in body]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("crowded", "keep it for reviews"),
        ("uncounted", "do not say how many"),
        ("error", "answered 500"),
        ("hang_up", "/v1/models"),
        ("no_logprobs", "without log-probabilities"),
    ],
)
def test_a_server_that_cannot_be_used_is_waited_for_and_then_given_up(desk: Desk, fault: str, told: str) -> None:
    desk.server.break_(fault)
    with pytest.raises(EngineUnavailable, match=told):
        desk.engine.generate(desk.texts, SAMPLING)
    assert 40 < sum(desk.paused) <= 60
    assert max(desk.paused) == 10


@pytest.mark.parametrize("fault", ["deaf", "wrong_root"])
def test_an_adapter_that_is_not_listed_from_its_folder_is_not_asked(desk: Desk, fault: str) -> None:
    desk.server.break_(fault)
    with pytest.raises(EngineUnavailable, match="after it was loaded from"):
        desk.ask(desk.plain)
    assert desk.plain.digest not in {body["model"] for body in desk.server.bodies}


@pytest.mark.parametrize("fault", ["crowded", "error", "uncounted"])
def test_a_server_that_recovers_delays_and_loses_nothing(desk: Desk, fault: str) -> None:
    desk.server.break_(fault)
    desk.on_pause = desk.server.heal if fault != "crowded" else lambda: len(desk.paused) > 2 and desk.server.heal()
    assert desk.engine.generate(desk.texts, SAMPLING) == desk.of_base(desk.texts)
    desk.server.break_(fault)
    assert desk.ask(desk.plain) == desk.of(desk.plain, desk.texts)
    assert desk.paused


def test_answers_that_were_given_beside_somebody_elses_are_thrown_away(desk: Desk) -> None:
    desk.engine.generate(desk.texts[:1], SAMPLING)  # the base is proved
    desk.server.before_answer = lambda model: desk.server.faults.add("crowded")
    desk.on_pause = lambda: (setattr(desk.server, "before_answer", lambda model: None), desk.server.heal())[0]
    desk.server.bodies.clear()
    assert desk.engine.generate(desk.texts, SAMPLING) == desk.of_base(desk.texts)
    assert len(desk.server.bodies) == 2 * len(desk.texts)


def test_while_somebody_else_is_being_answered_nothing_is_asked(desk: Desk) -> None:
    desk.server.answering.append("somebody's")
    with pytest.raises(EngineUnavailable, match="answers 1 requests of somebody else"):
        desk.engine.generate(desk.texts, SAMPLING)
    assert not desk.server.bodies
    desk.server.answering.clear()


def test_after_a_restart_the_adapter_is_loaded_and_proved_anew(desk: Desk) -> None:
    with desk.engine.attached(desk.plain):
        assert desk.engine.generate(desk.texts, SAMPLING) == desk.of(desk.plain, desk.texts)
        desk.server.break_("forgetful")
        assert desk.engine.generate(desk.texts, SAMPLING) == desk.of(desk.plain, desk.texts)
        assert desk.paused == [0.5]
        desk.server.restart()
        desk.server.break_("no_op")
        with pytest.raises(EngineError, match="the base answers under the adapter's name"):
            desk.engine.generate(desk.texts, SAMPLING)


def test_a_name_that_was_left_with_another_folder_is_loaded_anew(desk: Desk) -> None:
    desk.server.adapters[desk.plain.digest] = str(desk.seeing.path)
    assert desk.ask(desk.plain) == desk.of(desk.plain, desk.texts)
    assert desk.server.adapters == {}


def test_a_name_that_was_left_with_its_own_folder_is_proved_like_any_other(desk: Desk) -> None:
    desk.server.adapters[desk.plain.digest] = str(desk.plain.path)
    assert desk.ask(desk.plain) == desk.of(desk.plain, desk.texts)
    assert ("POST", "/v1/load_lora_adapter") not in desk.server.asked


def test_a_question_that_the_server_refuses_is_told_in_its_words(desk: Desk) -> None:
    desk.server.break_("too_long")
    with pytest.raises(EngineError, match=r"prompt 't\d+' answered 400: This model's maximum context length") as raised:
        desk.engine.generate(desk.texts, SAMPLING)
    assert not isinstance(raised.value, EngineUnavailable)
    assert not desk.paused


def test_a_server_that_is_gone_when_the_adapter_is_taken_off_changes_nothing(desk: Desk) -> None:
    with desk.engine.attached(desk.plain):
        desk.server.break_("error")


def test_answers_are_kept_apart_from_those_made_in_process(desk: Desk) -> None:
    assert desk.engine.answers_key != desk.engine.base_digest == "sha256-base"


def test_the_base_is_asked_under_the_name_that_it_is_served_under(desk: Desk) -> None:
    desk.engine.generate(desk.texts, SAMPLING)
    assert {body["model"] for body in desk.server.bodies} == {BASE}
