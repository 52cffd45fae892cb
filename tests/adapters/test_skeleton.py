from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from adapters_on_disk import MODULE, random_gemma, rename_tensors, trained_adapter, write_base
from safetensors.torch import load_file

from adapters.anatomy import ModulePair, dissect
from adapters.engine import BaseUnloadable
from adapters.skeleton import Skeleton, skeleton


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Skeleton:
    return skeleton(write_base(tmp_path_factory.mktemp("bases") / "tiny"))


def old_decoder(key: str) -> str:
    return key.replace("model.model.language_model.", "model.language_model.model.")


def old_tower(key: str) -> str:
    return key.replace("model.model.vision_tower.", "model.vision_tower.vision_model.")


def test_a_skeleton_has_the_real_models_modules_and_shapes_and_no_storage(base: Skeleton) -> None:
    real = {
        name: tuple(module.weight.shape)
        for name, module in random_gemma().named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert {name: base.modules[name] for name in real} == real
    assert base.modules["model.language_model.embed_tokens"] == (32, 64)
    assert base.modules["model.vision_tower.embeddings.patch_embedding"] == (32, 3)
    assert all(parameter.is_meta for parameter in base.model.parameters())


def test_a_text_only_base_and_one_with_transposed_linears_are_understood(tmp_path: Path) -> None:
    gpt2 = {"model_type": "gpt2", "n_embd": 8, "n_head": 2, "n_layer": 1, "vocab_size": 11, "n_positions": 16}
    (tmp_path / "config.json").write_text(json.dumps(gpt2))
    assert skeleton(tmp_path).modules["transformer.h.0.attn.c_attn"] == (24, 8)


def test_a_base_is_called_what_it_declares_and_what_its_folder_is_called(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "folder", alignwatch_base_name="ours", _name_or_path="owner/theirs")
    assert skeleton(folder).names == ("ours", "owner/theirs", "folder")
    cached = write_base(tmp_path / "models--google--gemma-3-4b-it" / "snapshots" / "abc123")
    assert skeleton(cached).names[-1] == "google/gemma-3-4b-it"


def test_a_hub_id_is_looked_up_in_the_local_cache_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "models--owner--tiny"
    write_base(cache / "snapshots" / ("0" * 40))
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert "owner/tiny" in skeleton(Path("owner/tiny")).names
    with pytest.raises(BaseUnloadable, match=r"no config\.json there"):
        skeleton(Path("owner/never-downloaded"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "no config.json there"),
        ("{", "Expecting"),
        ("[]", "base "),
        ("{}", "model_type"),
        ('{"model_type": "unheard-of"}', "unheard-of"),
        ('{"model_type": "x", "auto_map": {"AutoConfig": "evil.Config"}}', "base "),
        ('{"model_type": "gpt2", "n_embd": 7, "n_head": 2}', "base "),
    ],
)
def test_a_base_that_cannot_be_built_is_named_in_one_line(tmp_path: Path, config: str | None, message: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(BaseUnloadable, match=message) as raised:
        skeleton(tmp_path)
    assert "\n" not in str(raised.value)
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize(
    ("rename", "renamed"),
    [
        (lambda key: key, 0),
        (old_decoder, 4),
        (old_tower, 7),
        (lambda key: old_tower(old_decoder(key)), 11),
        (lambda key: key.replace("q_proj", "qq_proj"), 0),
        (lambda key: key.replace("model.model.language_model.", "model.language_model."), 0),
        (lambda key: key.replace("model.model.language_model.", "model.model.elsewhere."), 0),
    ],
    ids=["today", "old decoder", "old tower", "both old", "misspelt", "half old", "elsewhere"],
)
def test_a_fit_says_exactly_what_peft_does_with_the_same_names(
    base: Skeleton, tmp_path: Path, rename: Callable[[str], str], renamed: int
) -> None:
    from peft import PeftModel

    folder = trained_adapter(tmp_path / "a")
    before = load_file(folder / "adapter_model.safetensors")
    rename_tensors(folder, rename)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PeftModel.from_pretrained(random_gemma(seed=1), str(folder))
    loaded = {key.replace(".default", ""): tensor for key, tensor in model.state_dict().items() if ".lora_" in key}
    took = {key for key in before if ".lora_A." in key and torch.equal(loaded[key], before[key])}

    fit = base.fit(dissect(folder).modules)
    assert {f"base_model.model.{name}.lora_A.weight" for name in fit.matched} == took
    assert len(fit.matched) + len(fit.unmatched) == len(before) // 2
    assert (fit.renamed, fit.misshapen, fit.unchecked, fit.clashing) == (renamed, {}, (), False)


def test_a_pair_of_another_width_is_misshapen_whatever_it_is_called(base: Skeleton) -> None:
    old = "language_model.model.layers.0.self_attn.k_proj"
    fit = base.fit({MODULE: ModulePair(4, 33, 32, "F32"), old: ModulePair(4, 32, 48, "F32")})
    assert fit.matched == ()
    assert set(fit.misshapen) == {MODULE, MODULE.replace("q_proj", "k_proj")}
    assert "33 → 32 in the adapter and 32 → 32 in the base" in fit.misshapen[MODULE]


def test_one_module_under_an_old_and_a_new_name_clashes(base: Skeleton) -> None:
    pair = ModulePair(4, 32, 32, "F32")
    assert base.fit({MODULE: pair, "language_model.model.layers.0.self_attn.q_proj": pair}).clashing


def test_fused_experts_that_peft_converts_are_unchecked_and_other_containers_unmatched(tmp_path: Path) -> None:
    from transformers import MixtralConfig

    config = MixtralConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, num_local_experts=2
    )
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    widths = {"w1": (32, 48), "w2": (48, 32), "w3": (32, 48)}
    old = {
        f"model.layers.0.block_sparse_moe.experts.{expert}.{name}": ModulePair(4, *width, "F32")
        for expert in range(2)
        for name, width in widths.items()
    }
    fit = skeleton(tmp_path).fit(old | {"model.layers.0.mlp": ModulePair(4, 32, 32, "F32")})
    assert len(fit.unchecked) == 2
    assert fit.unmatched == ("model.layers.0.mlp",)


def test_an_embedding_fits_by_rows_and_width(base: Skeleton, tmp_path: Path) -> None:
    folder = trained_adapter(tmp_path / "a", target_modules=["embed_tokens", "patch_embedding"])
    fit = base.fit(dissect(folder).modules)
    assert fit.unmatched == ()
    assert fit.misshapen == {}
