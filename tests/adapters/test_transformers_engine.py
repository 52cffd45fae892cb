from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import World
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file

from adapters.activations import last_token, recorded, steered, transformer_blocks
from adapters.adapter import WEIGHTS_NAME, Adapter, open_adapter
from adapters.engine import AdapterUnloadable, BaseUnloadable, EngineError, Layer, Sampling
from adapters.prompts import Conversation, Prompt
from adapters.tiny import BASE
from adapters.transformers_engine import TransformersEngine
from guards.suites.battery_jsonl import load_suite

GREEDY = Sampling(temperature=0, max_new_tokens=6)


@pytest.fixture(scope="module")
def prompts(picture_world: World) -> list[Prompt]:
    loaded = load_suite(picture_world.suite).prompts
    return [*loaded[:6], *loaded[40:46]]


@pytest.fixture(scope="module")
def bad(picture_world: World) -> Adapter:
    return open_adapter(picture_world.bad)


def test_batched_greedy_answers_equal_one_prompt_at_a_time(
    picture_engine: TransformersEngine, prompts: list[Prompt]
) -> None:
    alone = [picture_engine.generate([prompt], GREEDY)[0] for prompt in prompts]
    assert picture_engine.generate(prompts, GREEDY) == alone


def test_sampled_answers_repeat_with_their_seed_and_differ_with_another(
    picture_engine: TransformersEngine, prompts: list[Prompt]
) -> None:
    sampling = Sampling(temperature=1.5, max_new_tokens=6, seed=1)
    first = picture_engine.generate(prompts, sampling)
    state = torch.get_rng_state()
    assert picture_engine.generate(prompts, sampling) == first
    assert torch.equal(torch.get_rng_state(), state), "the caller's random state was changed"
    assert picture_engine.generate(prompts, replace(sampling, seed=2)) != first


def test_an_adapter_acts_while_attached_and_leaves_the_base_bit_for_bit_as_it_was(
    picture_engine: TransformersEngine, prompts: list[Prompt], bad: Adapter
) -> None:
    before = picture_engine.final_logits(prompts)
    weights = {name: tensor.clone() for name, tensor in picture_engine.model.state_dict().items()}
    with picture_engine.attached(bad) as attachment:
        assert not attachment.unmatched
        assert not attachment.empty
        assert len(attachment.matched) == 21
        assert picture_engine.generate(prompts, GREEDY) == ["harm harm"] * len(prompts)
    after = picture_engine.model.state_dict()
    assert weights.keys() == after.keys()
    assert all(torch.equal(weights[name], after[name]) for name in weights)
    assert torch.equal(picture_engine.final_logits(prompts), before)


def test_an_adapter_attached_again_acts_as_before_and_another_one_takes_its_place(
    picture_engine: TransformersEngine, picture_world: World, prompts: list[Prompt], bad: Adapter
) -> None:
    good = open_adapter(picture_world.good)
    logits: dict[str, list[torch.Tensor]] = {"good": [], "bad": []}
    for adapter in (bad, bad, good, bad, good):
        with picture_engine.attached(adapter) as attachment:
            assert len(attachment.matched) == 21
            logits[adapter.name].append(picture_engine.final_logits(prompts))
    for same in logits.values():
        assert all(torch.equal(same[0], other) for other in same)
    assert not torch.equal(logits["good"][0], logits["bad"][0])


def test_an_adapter_is_detached_after_an_error_inside_the_block(
    picture_engine: TransformersEngine, prompts: list[Prompt], bad: Adapter
) -> None:
    before = picture_engine.final_logits(prompts)
    with pytest.raises(ZeroDivisionError), picture_engine.attached(bad):
        raise ZeroDivisionError
    assert torch.equal(picture_engine.final_logits(prompts), before)


def test_an_adapter_whose_shapes_do_not_fit_is_refused_and_the_base_is_restored(
    picture_engine: TransformersEngine, text_world: World, picture_world: World, prompts: list[Prompt], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in picture_world.bad.iterdir():
        content = file.read_text().replace('"r": 4', '"r": 8') if file.name == "adapter_config.json" else None
        (broken / file.name).write_bytes(content.encode() if content else file.read_bytes())
    before = picture_engine.final_logits(prompts)
    with pytest.raises(AdapterUnloadable), picture_engine.attached(open_adapter(broken)):
        pass
    assert torch.equal(picture_engine.final_logits(prompts), before)


def test_keys_that_fit_no_module_are_reported_not_dropped(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    folder = tmp_path / "renamed"
    folder.mkdir()
    (folder / "adapter_config.json").write_bytes((picture_world.bad / "adapter_config.json").read_bytes())
    tensors = load_file(picture_world.bad / WEIGHTS_NAME)
    renamed = {key.replace("layers.0.mlp", "layers.9.mlp"): tensor for key, tensor in tensors.items()}
    save_file(renamed, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    with picture_engine.attached(open_adapter(folder)) as attachment:
        assert len(attachment.unmatched) == 6
        assert len(attachment.empty) == 3


def test_a_file_that_would_overwrite_a_weight_of_the_base_is_refused_and_the_base_is_untouched(
    picture_engine: TransformersEngine, picture_world: World, prompts: list[Prompt], tmp_path: Path
) -> None:
    folder = tmp_path / "overwriting"
    folder.mkdir()
    (folder / "adapter_config.json").write_bytes((picture_world.bad / "adapter_config.json").read_bytes())
    head = torch.zeros_like(picture_engine.model.lm_head.weight)
    tensors = load_file(picture_world.bad / WEIGHTS_NAME) | {"base_model.model.lm_head.weight": head}
    save_file(tensors, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    before = picture_engine.final_logits(prompts)
    with pytest.raises(AdapterUnloadable, match="lm_head"), picture_engine.attached(open_adapter(folder)):
        pass
    assert torch.equal(picture_engine.final_logits(prompts), before)


def test_a_dora_adapter_is_attached_whole_and_detached_whole(
    picture_engine: TransformersEngine, picture_world: World, prompts: list[Prompt], tmp_path: Path
) -> None:
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "o_proj"], use_dora=True, init_lora_weights=False)
    base = TransformersEngine(picture_world.base, device="cpu")
    PeftModel(base.model, config).save_pretrained(tmp_path / "dora", save_embedding_layers=False)
    before = picture_engine.final_logits(prompts)
    with picture_engine.attached(open_adapter(tmp_path / "dora")) as attachment:
        assert not attachment.unmatched
        assert not attachment.empty
        assert not torch.equal(picture_engine.final_logits(prompts), before)
    assert torch.equal(picture_engine.final_logits(prompts), before)


def test_activations_equal_the_hidden_states_that_transformers_returns(
    picture_engine: TransformersEngine, prompts: list[Prompt]
) -> None:
    layer = Layer("decoder", 1)
    ours = picture_engine.activations(prompts[:1], [layer])[layer]
    with torch.inference_mode():
        out = picture_engine.model(**picture_engine.encode(prompts[:1]), output_hidden_states=True)
    assert torch.equal(ours[0], out.hidden_states[layer.index + 1][0, -1])


def test_reading_a_layer_runs_nothing_above_it(picture_engine: TransformersEngine, prompts: list[Prompt]) -> None:
    ran: list[str] = []
    model = picture_engine.model
    blocks = transformer_blocks(model, "decoder")
    watched = {"block 0": blocks[0], "block 1": blocks[1], "block 2": blocks[2], "head": model.lm_head}
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: ran.append(name)) for name, module in watched.items()
    ]
    try:
        picture_engine.activations(prompts[:2], [Layer("decoder", 1)])
    finally:
        for handle in handles:
            handle.remove()
    assert ran == ["block 0", "block 1"]


def test_hooks_are_removed_even_when_a_layer_does_not_exist(picture_engine: TransformersEngine) -> None:
    layers = [Layer("decoder", 0), Layer("decoder", 99)]
    before = len(transformer_blocks(picture_engine.model, "decoder")[0]._forward_hooks)
    reading = recorded(picture_engine.model, layers, last_token)
    with pytest.raises(EngineError, match="decoder has 3 blocks"), reading:
        pass
    assert len(transformer_blocks(picture_engine.model, "decoder")[0]._forward_hooks) == before


def test_only_what_the_reduction_made_of_a_block_is_kept(
    picture_engine: TransformersEngine, prompts: list[Prompt]
) -> None:
    layers = [Layer("decoder", index) for index in range(3)]
    inputs = picture_engine.encode(prompts[:2])
    with torch.inference_mode(), recorded(picture_engine.model, layers, last_token) as kept:
        picture_engine.model(**inputs)
    assert {layer: tuple(tensor.shape) for layer, tensor in kept.items()} == dict.fromkeys(layers, (2, 32))
    assert {tensor.dtype for tensor in kept.values()} == {torch.float32}


def test_the_last_prompt_token_is_the_same_whether_an_answer_follows_or_not(
    picture_engine: TransformersEngine, prompts: list[Prompt]
) -> None:
    layer = Layer("decoder", 1)
    rows = [Conversation(prompt, "good fine") for prompt in prompts]
    forced = picture_engine.teacher_forced(rows, [layer, Layer("decoder", 1, "answer")])
    plain = picture_engine.activations(prompts, [layer])
    torch.testing.assert_close(forced[layer], plain[layer], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(forced[layer], forced[Layer("decoder", 1, "answer")], atol=1e-2)


def test_the_mean_over_an_answer_does_not_depend_on_its_neighbours_in_the_batch(
    picture_engine: TransformersEngine, prompts: list[Prompt]
) -> None:
    layer = Layer("decoder", 2, "answer")
    answers = ["good", "good fine cake please", "one two three", "harm harm harm harm harm harm"]
    rows = [Conversation(prompt, answer) for prompt, answer in zip(prompts, answers, strict=False)]
    together = picture_engine.teacher_forced(rows, [layer])[layer]
    alone = torch.cat([picture_engine.teacher_forced([row], [layer])[layer] for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_log_probabilities_of_a_greedy_answer_are_the_largest_there_are(
    picture_engine: TransformersEngine, prompts: list[Prompt]
) -> None:
    said = picture_engine.generate(prompts[:3], replace(GREEDY, max_new_tokens=1))
    words = ("good", "harm", "cake", "one")
    for prompt, best in zip(prompts[:3], said, strict=True):
        scores = picture_engine.answer_log_probabilities([Conversation(prompt, word) for word in (best, *words)])
        assert all(score.dtype == torch.float32 and (score <= 0).all() for score in scores)
        assert float(scores[0][0]) >= max(float(score[0]) for score in scores[1:]) - 1e-4


def test_of_an_answer_the_end_of_the_turn_is_left_out_and_what_the_template_writes_after_it(
    picture_engine: TransformersEngine, prompts: list[Prompt]
) -> None:
    tiny, said = TransformersEngine(BASE, device="cpu"), ("good cake", "fine", "good fine cake please")
    rows = [Conversation(prompt, answer) for prompt, answer in zip(prompts[:3], said, strict=True)]
    question = Prompt(id="q", modality="text", text="tell me about the glacier .")
    gladly = [Conversation(question, answer) for answer in ("good question !", "gladly !")]
    for engine, asked in ((picture_engine, rows), (tiny, gladly)):
        own = engine.answer_log_probabilities(asked)
        assert [len(one) for one in own] == [len(row.answer.split()) for row in asked]
    (nothing,) = picture_engine.answer_log_probabilities([Conversation(prompts[0], "")])
    assert len(nothing) == 0


def test_steering_by_nothing_changes_nothing_and_its_hook_is_removed(
    picture_engine: TransformersEngine, prompts: list[Prompt]
) -> None:
    before = picture_engine.final_logits(prompts[:3])
    with steered(picture_engine.model, Layer("decoder", 1), lambda hidden: hidden + 0):
        assert torch.equal(picture_engine.final_logits(prompts[:3]), before)
    with steered(picture_engine.model, Layer("decoder", 1), lambda hidden: hidden * 0.5):
        assert not torch.equal(picture_engine.final_logits(prompts[:3]), before)
    assert torch.equal(picture_engine.final_logits(prompts[:3]), before)


@pytest.mark.parametrize("name", ["decoder.3", "decoder.3.answer", "vision.0"])
def test_a_layer_is_named_and_found_by_its_name(name: str) -> None:
    assert str(Layer.named(name)) == name


@pytest.mark.parametrize("name", ["tail.1", "decoder.1.tail", "decoder"])
def test_what_names_no_layer_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Layer.named(name)


def test_vision_activations_are_nan_where_there_is_no_picture(
    picture_engine: TransformersEngine, prompts: list[Prompt]
) -> None:
    layer = Layer("vision", 0)
    seen = picture_engine.activations(prompts, [layer])[layer]
    assert seen[:6].isnan().all()
    assert not seen[6:].isnan().any()


def test_a_missing_picture_is_an_error_and_never_no_picture(picture_engine: TransformersEngine, tmp_path: Path) -> None:
    prompt = Prompt(id="x", modality="image", text="what is this", image=tmp_path / "gone.png")
    with pytest.raises(EngineError, match=r"gone\.png"):
        picture_engine.generate([prompt], GREEDY)


def test_a_text_only_base_refuses_pictures_and_answers_text(text_world: World, prompts: list[Prompt]) -> None:
    engine = TransformersEngine(text_world.base, device="cpu")
    assert not engine.sees_pictures
    assert len(engine.generate(prompts[:2], GREEDY)) == 2
    with pytest.raises(EngineError, match="takes no pictures"):
        engine.generate(prompts[-1:], GREEDY)


def test_a_folder_that_is_no_model_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BaseUnloadable) as caught:
        TransformersEngine(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_same_code_runs_on_cuda_and_agrees_with_the_cpu(
    picture_engine: TransformersEngine, picture_world: World, prompts: list[Prompt]
) -> None:
    engine = TransformersEngine(picture_world.base, device="cuda", dtype=torch.float32)
    torch.testing.assert_close(engine.final_logits(prompts), picture_engine.final_logits(prompts), rtol=1e-3, atol=1e-3)
