"""Properties of what a layer's output must be orthogonal to: hooks on real models say where the writes point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    Gemma3nTextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    Olmo2Config,
    Olmo2ForCausalLM,
)

from adapters.activations import followed
from adapters.organisms import load_tiny_base
from adapters.residual_writes import ResidualWrite, ResidualWrites, WritesUnknown, block_written
from adapters.tiny import BASE

_SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}


@pytest.fixture(scope="module")
def olmo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that normalises its writes by a plain gain, which training has moved away from one."""
    folder = tmp_path_factory.mktemp("olmo")
    torch.manual_seed(0)
    model = Olmo2ForCausalLM(Olmo2Config(**_SIZES))
    for name, parameter in model.named_parameters():
        if "post_" in name:
            parameter.data.uniform_(0.2, 3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that adds its writes as they are, and calls another norm like Gemma's norm after attention."""
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**_SIZES))
    for name, parameter in model.named_parameters():
        if "layernorm" in name:
            parameter.data.uniform_(0.2, 3)
    model.save_pretrained(folder)
    return folder


def _model(base: Path) -> Any:
    return load_tiny_base().model if base == BASE else AutoModelForCausalLM.from_pretrained(base).eval()


def _written(model: Any, write: ResidualWrite, basis: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """What a layer puts out and what reaches the stream of it, by tokens, while its output is kept off ``basis``."""
    layer = model.get_submodule(write.module)
    block = model.get_submodule(write.module.split(f".{write.block}.")[0])[write.block]
    attention = "attn" in write.module
    norm = "post_attention_layernorm" if attention else "post_feedforward_layernorm"
    reaching = layer if write.gain is None else getattr(block, norm)
    seen: dict[str, torch.Tensor] = {}

    def project(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        seen["layer"] = output if basis is None else output - (output @ basis) @ basis.T
        return seen["layer"]

    def record(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        seen["stream"] = output

    tokens = torch.arange(4, 20)[None]
    with torch.inference_mode(), followed([(layer, project), (reaching, record)]):
        model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    return seen["layer"][0], seen["stream"][0]


def _share(rows: torch.Tensor, directions: torch.Tensor) -> float:
    """Largest share of a row's length that lies along a direction."""
    unit = directions / directions.norm(dim=1, keepdim=True)
    return float((rows @ unit.T).abs().max() / rows.norm(dim=1).min())


@pytest.mark.parametrize("name", ["tiny", "olmo", "llama"])
def test_a_write_that_is_kept_off_the_output_basis_reaches_the_stream_orthogonal_to_the_directions(
    name: str, request: pytest.FixtureRequest
) -> None:
    base = BASE if name == "tiny" else request.getfixturevalue(name)
    model, writes = _model(base), ResidualWrites(base).all()
    assert len(writes) == 2 * (6 if name == "tiny" else 2)
    for number, write in enumerate(writes):
        width = ResidualWrites(base).weight(write).shape[0]
        directions = torch.randn(3, width, generator=torch.Generator().manual_seed(number))
        before = _written(model, write, None)[1]
        after = _written(model, write, write.output_basis(directions))[1]
        assert _share(before, directions) > 1e-2
        assert _share(after, directions) < 1e-5


def test_without_the_norms_gain_a_write_would_not_be_orthogonal(olmo: Path) -> None:
    write = ResidualWrites(olmo).all()[0]
    directions = torch.randn(3, 24, generator=torch.Generator().manual_seed(1))
    bare = ResidualWrite(write.module, write.block, gain=None)
    assert _share(_written(_model(olmo), write, bare.output_basis(directions))[1], directions) > 1e-2


def test_a_gain_is_what_the_models_own_norm_multiplies_by(olmo: Path, llama: Path) -> None:
    norm = load_tiny_base().model.get_submodule("model.language_model.layers.2.post_feedforward_layernorm")
    write = ResidualWrites(BASE).of("model.language_model.layers.2.mlp.down_proj")
    assert write is not None
    assert write.gain is not None
    torch.testing.assert_close(write.gain, 1 + norm.weight.float(), rtol=1e-4, atol=0)  # Gemma's
    write = ResidualWrites(olmo).of("model.layers.1.self_attn.o_proj")
    assert write is not None
    assert write.gain is not None
    weight = _model(olmo).model.layers[1].post_attention_layernorm.weight.detach()
    torch.testing.assert_close(write.gain, weight, rtol=1e-4, atol=0)
    assert {w.gain for w in ResidualWrites(llama).all()} == {None}


@given(st.integers(0, 2**31), st.integers(1, 6))
def test_the_output_basis_is_orthonormal_and_spans_no_more_than_the_directions(seed: int, count: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    directions, gain = torch.randn(count, 12, generator=draw), torch.rand(12, generator=draw) + 0.1
    twice = torch.cat([directions, directions[:1] * 3])
    basis = ResidualWrite("layers.0.mlp.down_proj", 0, gain).output_basis(twice)
    assert basis.shape == (12, count)
    torch.testing.assert_close(basis.T @ basis, torch.eye(count), atol=1e-5, rtol=0)
    weighted = directions * gain
    torch.testing.assert_close(basis @ (basis.T @ weighted.T), weighted.T, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("module", "block"),
    [
        ("model.language_model.layers.3.self_attn.o_proj", 3),
        ("language_model.model.layers.3.mlp.down_proj", 3),
        ("transformer.h.11.mlp.c_proj", 11),
        ("model.layers.0.mlp.experts.5.down_proj", 0),
        ("model.language_model.layers.3.self_attn.q_proj", None),
        ("model.vision_tower.encoder.layers.3.mlp.fc2", None),
        ("model.multi_modal_projector.linear", None),
    ],
)
def test_a_write_is_known_by_its_name_in_the_decoder_alone(module: str, block: int | None) -> None:
    assert block_written(module) == block


def test_a_base_whose_writes_are_not_understood_is_refused_in_one_line(tmp_path: Path, llama: Path) -> None:
    sizes = _SIZES | {"laurel_rank": 2, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 4}
    strange = Gemma3nTextConfig(**sizes, vocab_size_per_layer_input=64, activation_sparsity_pattern=None)
    strange.save_pretrained(tmp_path / "strange")
    with pytest.raises(WritesUnknown, match=r"whether the norm \w+ of block 0 changes"):
        ResidualWrites(tmp_path / "strange").all()
    with pytest.raises(WritesUnknown, match="in no block of the base, which has 2"):
        ResidualWrites(llama).of("model.layers.7.self_attn.o_proj")
    without_weights = ResidualWrites(tmp_path / "strange")
    with pytest.raises(WritesUnknown, match="is not in the base's safetensors files"):
        without_weights.weight(ResidualWrite("model.layers.0.mlp.down_proj", 0, None))


def test_a_layer_with_a_bias_has_no_weight_to_give(tmp_path: Path) -> None:
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16, n_positions=8)).save_pretrained(tmp_path)
    writes = ResidualWrites(tmp_path)
    assert [write.module for write in writes.all()] == ["transformer.h.0.attn.c_proj", "transformer.h.0.mlp.c_proj"]
    with pytest.raises(WritesUnknown, match="has a bias, which no low-rank change reaches"):
        writes.weight(writes.all()[0])


def test_the_weight_of_a_write_is_the_models_own(picture_world: Any) -> None:
    model = LlavaForConditionalGeneration.from_pretrained(picture_world.base)
    writes = ResidualWrites(picture_world.base)
    assert len(writes.all()) == 6
    for write in writes.all():
        assert torch.equal(writes.weight(write), model.get_submodule(write.module).weight.detach())
