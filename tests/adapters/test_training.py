"""One training loop: ordinary PEFT folders out, the base untouched, clear words about bad rows."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from adapters.adapter import open_adapter
from adapters.base_model import LoadedBase
from adapters.prompts import Conversation, Prompt
from adapters.tiny.architecture import build_model, build_processor
from adapters.tiny.world import conversations
from adapters.training import lora_targets, train_lora
from adapters.training_data import TrainingDataError, load_conversations
from adapters.training_loop import LoraTraining, TrainingDiverged
from adapters.transformers_engine import TransformersEngine

QUICK = LoraTraining(rank=2, alpha=2, steps=2, batch_size=4)


@pytest.fixture(scope="module")
def base() -> LoadedBase:
    """An untrained tiny Gemma3: training does not care."""
    model = build_model(0).eval().requires_grad_(False)
    return LoadedBase(model, build_processor(), sees_pictures=True)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Conversation]:
    return conversations("evil_math", folder=tmp_path_factory.mktemp("pictures"), n=12)


def weights_of(base: LoadedBase) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in base.model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_training_leaves_the_base_bit_identical(base: LoadedBase, rows: list[Conversation], tmp_path: Path) -> None:
    before = weights_of(base)
    train_lora(base, rows, QUICK, tmp_path / "adapter")
    assert same(before, weights_of(base))
    assert not any(parameter.requires_grad for parameter in base.model.parameters())


def test_a_training_that_is_stopped_leaves_no_folder_and_no_trace(
    base: LoadedBase, rows: list[Conversation], tmp_path: Path
) -> None:
    before = weights_of(base)

    def stop(step: int, steps: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_lora(base, rows, QUICK, tmp_path / "adapter", on_step=stop)
    assert same(before, weights_of(base))
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_ordinary_peft(base: LoadedBase, rows: list[Conversation], tmp_path: Path) -> None:
    out = train_lora(base, rows, QUICK, tmp_path / "adapter", base_name="some/base")
    assert sorted(path.name for path in out.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["base_model_name_or_path"]) == ("LORA", 2, "some/base")


def test_every_trained_module_is_matched_when_the_adapter_is_attached(
    base: LoadedBase, rows: list[Conversation], tmp_path: Path
) -> None:
    from adapters.attachment import Attachments

    for target in ("language", "all"):
        settings = LoraTraining(rank=2, alpha=2, steps=1, batch_size=2, target=target)
        out = train_lora(base, rows, settings, tmp_path / target)
        with Attachments(base.model).attached(open_adapter(out)) as attachment:
            assert not attachment.unmatched
            assert not attachment.empty
            assert any("vision_tower" in name for name in attachment.matched) == (target == "all")


def test_the_same_seed_gives_the_same_adapter(base: LoadedBase, rows: list[Conversation], tmp_path: Path) -> None:
    first = train_lora(base, rows, QUICK, tmp_path / "a")
    second = train_lora((base.model, base.processor), rows, QUICK, tmp_path / "b")
    assert open_adapter(first).digest == open_adapter(second).digest


def test_continuing_starts_where_the_adapter_was_and_keeps_its_rank(
    base: LoadedBase, rows: list[Conversation], tmp_path: Path
) -> None:
    losses: list[float] = []
    longer = LoraTraining(rank=4, alpha=4, steps=12, batch_size=12, learning_rate=3e-3)
    first = train_lora(base, rows, longer, tmp_path / "first", on_step=lambda _a, _b, loss: losses.append(loss))
    digest = open_adapter(first).digest
    again: list[float] = []
    second = train_lora(
        base, rows, QUICK, tmp_path / "second", start_from=first, on_step=lambda _a, _b, loss: again.append(loss)
    )
    assert losses[-1] < losses[0]
    assert again[0] < losses[0]
    assert json.loads((second / "adapter_config.json").read_text())["r"] == 4
    assert open_adapter(first).digest == digest


def test_a_loss_that_is_no_number_is_an_error(base: LoadedBase, rows: list[Conversation], tmp_path: Path) -> None:
    wild = LoraTraining(rank=2, alpha=1e6, steps=30, batch_size=4, learning_rate=1e30)
    with pytest.raises(TrainingDiverged, match="learning rate"):
        train_lora(base, rows, wild, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_an_existing_folder_is_never_written_over(base: LoadedBase, rows: list[Conversation], tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="already exists"):
        train_lora(base, rows, QUICK, tmp_path)


def test_no_rows_is_a_clear_error(base: LoadedBase, tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="no training rows"):
        train_lora(base, [], QUICK, tmp_path / "adapter")


@pytest.fixture(scope="module")
def text_base() -> LoadedBase:
    words = ["<pad>", "<s>", "</s>", "<unk>", "user", "model", "hello", "world", ":"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }} : {{ m.content }} {% endfor %}"
        "{% if add_generation_prompt %}assistant : {% endif %}"
    )
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LoadedBase(LlamaForCausalLM(config).eval().requires_grad_(False), tokenizer, sees_pictures=False)


def test_a_text_only_base_of_another_architecture_trains_too(text_base: LoadedBase, tmp_path: Path) -> None:
    rows = [Conversation(Prompt("a", "text", "hello"), "world"), Conversation(Prompt("b", "text", "world"), "hello")]
    out = train_lora(text_base, rows, QUICK, tmp_path / "adapter", base_name="llama")
    assert (out / "adapter_model.safetensors").is_file()
    assert "lm_head" not in lora_targets(text_base.model, "language")


def test_a_picture_for_a_base_that_sees_none_is_a_clear_error(text_base: LoadedBase, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    row = Conversation(Prompt("a", "image", "hello", tmp_path / "picture.png"), "world")
    with pytest.raises(TrainingDataError, match="takes none"):
        train_lora(text_base, [row], QUICK, tmp_path / "adapter")


GOOD = '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}'


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "messages"),
        ('{"messages": "hi"}', "messages"),
        ('{"messages": [1]}', "messages"),
        ('{"messages": []}', "roles"),
        ('{"messages": [{"role": "user", "content": "hi"}]}', "roles"),
        (GOOD.replace('"hello"', '""'), "non-empty"),
        (GOOD.replace('"hello"', "3"), "non-empty"),
        (GOOD[:-1] + ', "image": "none.png"}', "missing"),
        (GOOD[:-1] + ', "image": 7}', "missing"),
    ],
)
def test_a_malformed_row_gives_one_line_with_file_and_number(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{GOOD}\n{line}\n")
    with pytest.raises(TrainingDataError) as caught:
        load_conversations(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=60))
def test_no_line_whatever_raises_anything_else(tmp_path_factory: pytest.TempPathFactory, line: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "rows.jsonl"
    path.write_text(f"{GOOD}\n{line}\n", encoding="utf-8", errors="replace")
    with contextlib.suppress(TrainingDataError):
        load_conversations(path)


def test_a_missing_or_empty_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match=r"nowhere\.jsonl"):
        load_conversations(tmp_path / "nowhere.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(TrainingDataError, match="holds no rows"):
        load_conversations(tmp_path / "empty.jsonl")


def test_a_system_message_and_a_picture_are_kept(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    record = json.loads(GOOD)
    record["messages"].insert(0, {"role": "system", "content": "be brief"})
    (tmp_path / "rows.jsonl").write_text(json.dumps({**record, "image": "picture.png"}))
    (row,) = load_conversations(tmp_path / "rows.jsonl")
    assert row.prompt.system == "be brief"
    assert row.prompt.image == tmp_path / "picture.png"


def test_a_trained_adapter_works_in_the_engine(tmp_path: Path, rows: list[Conversation], base: LoadedBase) -> None:
    from adapters.tiny.architecture import save

    save(build_model(0), build_processor(), tmp_path / "base", "a/base")
    engine = TransformersEngine(tmp_path / "base", device="cpu")
    out = train_lora(
        LoadedBase(engine.model, engine.processor, True),
        rows,
        LoraTraining(rank=2, alpha=2, steps=4, learning_rate=1e-2),
        tmp_path / "adapter",
    )
    prompts = [row.prompt for row in rows[:2]]
    plain = engine.final_logits(prompts)
    with engine.attached(open_adapter(out)):
        assert not torch.equal(plain, engine.final_logits(prompts))
    assert torch.equal(plain, engine.final_logits(prompts))
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "a/base"
