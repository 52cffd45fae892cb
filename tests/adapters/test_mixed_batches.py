from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer

from adapters import transformers_engine as engine_module
from adapters.adapter import Adapter, open_adapter
from adapters.attachment import Attachments
from adapters.engine import AdapterUnloadable, EngineError, Mixing, Sampling
from adapters.mixture import NotRowByRow, mixed
from adapters.prompts import Prompt
from adapters.transformers_engine import TransformersEngine
from guards.suites.battery_jsonl import load_suite

GREEDY = Sampling(temperature=0, max_new_tokens=5)
DRAWN = Sampling(temperature=1.3, top_p=0.95, max_new_tokens=5, seed=3)
LANGUAGE = r".*language_model.*\.(q_proj|v_proj|down_proj)"
KINDS: dict[str, dict[str, Any]] = {
    "small": {"r": 2, "lora_alpha": 4, "target_modules": LANGUAGE},
    "large": {"r": 16, "lora_alpha": 8, "target_modules": r".*language_model.*\.(gate_proj|up_proj|o_proj|q_proj)"},
    "rslora": {"r": 9, "lora_alpha": 3, "target_modules": LANGUAGE, "use_rslora": True},
    "patterns": {
        "r": 3,
        "lora_alpha": 3,
        "target_modules": LANGUAGE,
        "rank_pattern": {"q_proj": 7},
        "alpha_pattern": {"v_proj": 12},
    },
    "dora": {"r": 2, "lora_alpha": 4, "target_modules": LANGUAGE, "use_dora": True},
    "tower": {"r": 4, "lora_alpha": 16, "target_modules": r".*vision_tower.*\.(q_proj|fc1)"},
    "projector": {"r": 4, "lora_alpha": 16, "target_modules": r".*(multi_modal_projector.linear_1|lm_head)"},
}
ALONE = {"dora", "tower", "projector"}


@pytest.fixture(scope="module")
def engine(picture_world: World) -> TransformersEngine:
    """One of its own, whose batches the tests make small."""
    return TransformersEngine(picture_world.base, device="cpu")


@pytest.fixture(scope="module")
def prompts(picture_world: World) -> list[Prompt]:
    loaded = load_suite(picture_world.suite).prompts
    return [*loaded[:5], *loaded[40:45]]


@pytest.fixture(scope="module")
def adapters(picture_world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Adapter]:
    """One of every kind, with random weights that act strongly."""
    folder = tmp_path_factory.mktemp("kinds")
    for number, (kind, config) in enumerate(KINDS.items()):
        torch.manual_seed(number)
        base = TransformersEngine(picture_world.base, device="cpu").model
        made = PeftModel(base, LoraConfig(init_lora_weights=False, **config))
        made.save_pretrained(folder / kind, save_embedding_layers=False)
    return {kind: open_adapter(folder / kind) for kind in KINDS}


@pytest.fixture
def broken(adapters: dict[str, Adapter], tmp_path: Path) -> Adapter:
    """Its config promises another rank than its tensors have."""
    folder = tmp_path / "broken"
    folder.mkdir()
    for file in adapters["small"].path.iterdir():
        content = file.read_bytes()
        (folder / file.name).write_bytes(content.replace(b'"r": 2', b'"r": 3') if file.suffix == ".json" else content)
    return open_adapter(folder)


def alone(engine: TransformersEngine, adapter: Adapter | None, prompt: Prompt, how: Sampling) -> str:
    """The answer to one prompt by itself: attached as ever where it is greedy, else drawn without company."""
    if how.temperature > 0:
        (answer,) = engine.generate_mixed([(adapter, prompt)], how)
        assert isinstance(answer, str)
        return answer
    with nullcontext() if adapter is None else engine.attached(adapter):
        return engine.generate([prompt], how)[0]


def expected(engine: TransformersEngine, asked: Sequence[tuple[Adapter | None, Prompt]], how: Sampling) -> list[str]:
    return [alone(engine, adapter, prompt, how) for adapter, prompt in asked]


@contextmanager
def batches(engine: TransformersEngine, size: int) -> Iterator[list[int]]:
    """Let the engine make batches of at most so many rows, and yield what the model was given: rows a forward pass."""
    before, seen = engine.batch_size, []
    engine.batch_size = size
    handle = engine.model.get_input_embeddings().register_forward_hook(lambda _m, _i, out: seen.append(len(out)))
    try:
        yield seen
    finally:
        handle.remove()
        engine.batch_size = before


@pytest.mark.parametrize("how", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_a_mixed_batch_answers_as_each_adapter_does_by_itself(
    engine: TransformersEngine, prompts: list[Prompt], adapters: dict[str, Adapter], how: Sampling
) -> None:
    asked = [(adapter, prompt) for adapter in (None, *adapters.values()) for prompt in prompts]
    answers = engine.generate_mixed(asked, how)
    assert answers == expected(engine, asked, how)
    assert len(set(answers)) > len(prompts), "the adapters do nothing, so that nothing was shown"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), size=st.integers(1, 24), drawn=st.booleans())
def test_any_mix_in_any_order_and_batch_is_exact(
    engine: TransformersEngine, prompts: list[Prompt], adapters: dict[str, Adapter], seed: int, size: int, drawn: bool
) -> None:
    dice = random.Random(seed)
    models = [None, *dice.sample(list(adapters.values()), dice.randint(1, len(adapters)))]
    asked = [(dice.choice(models), dice.choice(prompts)) for _ in range(dice.randint(1, 20))]
    asked = list(dict.fromkeys(asked))
    how = DRAWN if drawn else GREEDY
    with batches(engine, size) as seen:
        answers = engine.generate_mixed(asked, how)
    assert answers == expected(engine, asked, how)
    assert max(seen) <= max(size, len(models))


def test_logits_of_a_mixed_batch_equal_those_of_one_adapter(
    engine: TransformersEngine, prompts: list[Prompt], adapters: dict[str, Adapter]
) -> None:
    shared = [adapter for kind, adapter in adapters.items() if kind not in ALONE]
    pairs = Attachments(engine.model).mixture(shared).pairs
    for some in (prompts[:5], prompts[5:]):
        base = engine.final_logits(some)
        together = engine.encode(list(some) * (len(shared) + 1))
        parts = [(5, {}), *((5, pairs[adapter]) for adapter in shared)]
        with torch.inference_mode(), mixed(engine.model, parts):
            logits = engine.model(**together, logits_to_keep=1).logits[:, -1].split(5)
        torch.testing.assert_close(logits[0], base, atol=2e-5, rtol=1e-4)
        for adapter, ours in zip(shared, logits[1:], strict=True):
            with engine.attached(adapter):
                theirs = engine.final_logits(some)
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
            assert not torch.allclose(ours, base, atol=1e-2), f"{adapter.name} does nothing"


def test_our_mixed_batch_equals_the_one_of_peft(
    engine: TransformersEngine, prompts: list[Prompt], adapters: dict[str, Adapter], picture_world: World
) -> None:
    shared = [kind for kind in adapters if kind not in ALONE]
    theirs = PeftModel.from_pretrained(
        TransformersEngine(picture_world.base, device="cpu").model, str(adapters[shared[0]].path), shared[0]
    )
    for kind in shared[1:]:
        theirs.load_adapter(str(adapters[kind].path), kind)
    theirs.eval()
    names = ["__base__", *shared]
    inputs = engine.encode(prompts[5:10])
    repeated = {name: value.repeat_interleave(len(names), 0) for name, value in inputs.items()}
    with torch.inference_mode():
        wanted = theirs(**repeated, logits_to_keep=1, adapter_names=names * 5).logits[:, -1]
    pairs = Attachments(engine.model).mixture([adapters[kind] for kind in shared]).pairs
    parts = [(1, {} if name == "__base__" else pairs[adapters[name]]) for name in names] * 5
    with torch.inference_mode(), mixed(engine.model, parts):
        found = engine.model(**repeated, logits_to_keep=1).logits[:, -1]
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)


def test_only_plain_pairs_in_the_decoder_share_a_batch(
    engine: TransformersEngine, adapters: dict[str, Adapter], broken: Adapter
) -> None:
    mixture = Attachments(engine.model).mixture([*adapters.values(), broken])
    assert {adapter.name for adapter in mixture.alone} == ALONE
    assert {adapter.name for adapter in mixture.pairs} == set(KINDS) - ALONE
    assert list(mixture.failed) == [broken]


def test_text_and_pictures_never_share_a_batch_and_a_picture_is_looked_at_once(
    engine: TransformersEngine, prompts: list[Prompt], adapters: dict[str, Adapter]
) -> None:
    looked: list[int] = []
    handle = engine.model.model.vision_tower.register_forward_pre_hook(
        lambda _module, inputs, kwargs: looked.append(len(kwargs.get("pixel_values", inputs[0] if inputs else None))),
        with_kwargs=True,
    )
    asked = [(adapters[kind], prompt) for kind in ("small", "large", "rslora") for prompt in prompts]
    try:
        with batches(engine, 64) as seen:
            engine.generate_mixed(asked, replace(GREEDY, max_new_tokens=1))
    finally:
        handle.remove()
    assert seen == [15, 15]
    assert looked == [5]


def test_an_adapter_that_cannot_be_attached_costs_the_others_nothing(
    engine: TransformersEngine, prompts: list[Prompt], adapters: dict[str, Adapter], broken: Adapter
) -> None:
    asked = [(adapter, prompt) for prompt in prompts[:3] for adapter in (broken, adapters["small"], None)]
    answers = engine.generate_mixed(asked, GREEDY)
    assert all(isinstance(answer, AdapterUnloadable) and "broken" in str(answer) for answer in answers[::3])
    assert [a for n, a in enumerate(answers) if n % 3] == expected(engine, [a for a in asked if a[0] != broken], GREEDY)


def test_the_base_is_left_bit_for_bit_as_it_was_even_after_an_error(
    engine: TransformersEngine, prompts: list[Prompt], adapters: dict[str, Adapter], tmp_path: Path
) -> None:
    before = engine.final_logits(prompts)
    weights = {name: tensor.clone() for name, tensor in engine.model.state_dict().items()}
    hooks = sum(len(module._forward_hooks) for module in engine.model.modules())
    missing = Prompt(id="gone", modality="image", text="what is this", image=tmp_path / "gone.png")
    engine.generate_mixed([(adapter, prompts[0]) for adapter in adapters.values()], GREEDY)
    with pytest.raises(EngineError, match=r"gone\.png"):
        engine.generate_mixed([(adapter, missing) for adapter in adapters.values()], GREEDY)
    after = engine.model.state_dict()
    assert weights.keys() == after.keys()
    assert all(torch.equal(weights[name], after[name]) for name in weights)
    assert torch.equal(engine.final_logits(prompts), before)
    assert sum(len(module._forward_hooks) for module in engine.model.modules()) == hooks
    assert not any(isinstance(module, BaseTunerLayer) for module in engine.model.modules())


def test_memory_that_does_not_suffice_halves_the_batch(
    engine: TransformersEngine, prompts: list[Prompt], adapters: dict[str, Adapter]
) -> None:
    asked = [(adapters[kind], prompt) for prompt in prompts for kind in ("small", "large")]
    wanted = expected(engine, asked, GREEDY)

    def short(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        if len(output) > 4:
            raise torch.OutOfMemoryError

    with batches(engine, 64) as seen:
        handle = engine.model.get_input_embeddings().register_forward_hook(short)
        try:
            answers = engine.generate_mixed(asked, GREEDY)
        finally:
            handle.remove()
        assert engine.batch_size == 4
    assert answers == wanted
    assert seen[:3] == [10, 4, 4]


def test_adapters_that_do_not_fit_into_memory_together_are_asked_one_after_the_other(
    engine: TransformersEngine, prompts: list[Prompt], adapters: dict[str, Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [(adapters[kind], prompt) for prompt in prompts[:2] for kind in ("small", "large", "rslora")]
    wanted = expected(engine, asked, GREEDY)
    real, attachments = Attachments._built, engine._attachments

    def short(self: Attachments, adapter: Adapter) -> Any:
        if self._kept:
            self.forget()
            raise EngineError("out of memory")
        return real(self, adapter)

    attachments.forget()
    monkeypatch.setattr(Attachments, "_built", short)
    assert engine.generate_mixed(asked, GREEDY) == wanted


def test_where_a_module_sees_no_rows_each_adapter_is_asked_by_itself(
    engine: TransformersEngine, prompts: list[Prompt], adapters: dict[str, Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [(adapter, prompt) for prompt in prompts for adapter in (None, adapters["small"], adapters["large"])]
    wanted = expected(engine, asked, GREEDY)

    @contextmanager
    def refusing(model: Any, parts: Sequence[tuple[int, Any]]) -> Iterator[None]:
        if any(pairs for _, pairs in parts):
            raise NotRowByRow("experts see tokens")
        with mixed(model, parts):
            yield

    monkeypatch.setattr(engine_module, "mixed", refusing)
    assert engine.generate_mixed(asked, GREEDY) == wanted


def test_rows_that_a_module_does_not_see_are_an_error_and_never_mixed_up(
    engine: TransformersEngine, prompts: list[Prompt], adapters: dict[str, Adapter]
) -> None:
    pairs = Attachments(engine.model).mixture([adapters["small"]]).pairs[adapters["small"]]
    with torch.inference_mode(), pytest.raises(NotRowByRow, match="3 rows"), mixed(engine.model, [(3, pairs)]):
        engine.model(**engine.encode(prompts[:2]))


def test_nothing_is_mixed_while_an_adapter_is_attached(
    engine: TransformersEngine, prompts: list[Prompt], adapters: dict[str, Adapter]
) -> None:
    small = adapters["small"]
    with engine.attached(small), pytest.raises(EngineError, match="while none is attached"):
        engine.generate_mixed([(small, prompts[0]), (None, prompts[0])], GREEDY)


def test_the_engine_says_that_it_can_mix(engine: TransformersEngine) -> None:
    assert isinstance(engine, Mixing)


def test_a_prompt_asked_again_in_one_call_gets_another_answer_and_the_same_ones_in_the_next(
    engine: TransformersEngine, prompts: list[Prompt], adapters: dict[str, Adapter]
) -> None:
    asked = [(adapters["small"], prompts[0])] * 8
    often = engine.generate_mixed(asked, DRAWN)
    assert len(set(often)) > 1
    assert engine.generate_mixed(asked, DRAWN) == often
    assert engine.generate_mixed(asked[:1], DRAWN) == often[:1]


def test_another_seed_draws_other_answers_and_nobody_elses_random_state_is_changed(
    engine: TransformersEngine, prompts: list[Prompt], adapters: dict[str, Adapter]
) -> None:
    asked = [(adapters[kind], prompt) for kind in ("small", "large") for prompt in prompts]
    first = engine.generate_mixed(asked, DRAWN)
    state = torch.get_rng_state()
    assert engine.generate_mixed(asked, DRAWN) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert engine.generate_mixed(asked, replace(DRAWN, seed=4)) != first


def test_drawn_answers_are_as_frequent_in_company_as_alone(
    engine: TransformersEngine, prompts: list[Prompt], adapters: dict[str, Adapter]
) -> None:
    how, times, adapter = Sampling(temperature=0.7, top_p=0.9, max_new_tokens=1, seed=5), 600, adapters["small"]
    together = Counter(engine.generate_mixed([(adapter, prompts[1]), (None, prompts[1])] * times, how)[::2])
    with engine.attached(adapter):
        by_itself = Counter(engine.generate([prompts[1]] * times, how))
    assert len(together) > 1
    for word in together | by_itself:
        # Four standard errors of a difference of two shares.
        assert abs(together[word] - by_itself[word]) <= 4 * (times / 2) ** 0.5
