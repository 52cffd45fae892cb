from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters_on_disk import (
    BASE_NAME,
    CONFIG,
    MODULE,
    WEIGHTS,
    edit_config,
    edit_header,
    plain_tensors,
    trained_adapter,
    write_adapter,
    write_raw,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.adapter import NotAnAdapter
from adapters.anatomy import Anatomy, ModulePair, check_finite, dissect
from adapters.lora_config import _KNOWN, declare
from adapters.safetensors_header import read_header

A, B = plain_tensors()


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter")


def fatal(anatomy: Anatomy) -> list[str]:
    assert all("\n" not in str(problem) and len(str(problem)) < 500 for problem in anatomy.problems)
    return [problem.code for problem in anatomy.problems if problem.fatal]


def notes(anatomy: Anatomy) -> list[str]:
    return [problem.code for problem in anatomy.problems if not problem.fatal]


def test_what_peft_saves_is_sound_and_its_facts_are_read(tmp_path: Path) -> None:
    anatomy = dissect(trained_adapter(tmp_path / "a"))
    assert fatal(anatomy) == []
    assert (anatomy.peft_type, anatomy.base_model_name, anatomy.rank, anatomy.alpha) == ("LORA", BASE_NAME, 4, 8.0)
    assert sorted(anatomy.target_modules or ()) == ["fc1", "q_proj", "v_proj"]
    assert anatomy.modules[MODULE] == ModulePair(4, 32, 32, "F32")
    assert anatomy.parts == {"decoder", "vision"}
    assert anatomy.dtypes == {"F32"}
    assert {fact.path for fact in anatomy.files} == {CONFIG, WEIGHTS, "README.md"}
    assert anatomy.total_bytes == sum(path.stat().st_size for path in (tmp_path / "a").iterdir())
    assert check_finite(tmp_path / "a", anatomy) == []


@pytest.mark.parametrize(
    "lora",
    [
        {"use_dora": True},
        {"lora_bias": True},
        {"use_rslora": True, "rank_pattern": {"fc1": 2}, "alpha_pattern": {"fc1": 4}},
        {"target_modules": r".*language_model.*\.(q|o)_proj"},
        {"target_modules": "all-linear"},
        {"target_modules": ["embed_tokens", "patch_embedding"]},
        {"rank_pattern": {r".*layers\.1\.self_attn\.q_proj": 8}},
    ],
    ids=str,
)
def test_every_kind_of_pair_that_peft_saves_is_understood(tmp_path: Path, lora: dict[str, Any]) -> None:
    anatomy = dissect(trained_adapter(tmp_path / "a", **lora))
    assert fatal(anatomy) == []
    assert len(anatomy.modules) * 2 + len(anatomy.other_tensors) == len(anatomy.tensors)


def test_a_missing_folder_and_one_without_a_config_are_no_adapters(tmp_path: Path) -> None:
    with pytest.raises(NotAnAdapter, match="not a folder"):
        dissect(tmp_path / "nowhere")
    with pytest.raises(NotAnAdapter, match=CONFIG):
        dissect(tmp_path)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "config_not_json"),
        (b"{'r': 8, 'use_dora': False}", "config_not_json"),
        (b"\xef\xbb\xbf{}", "config_not_json"),
        (b'{"r": 8, "r": 16}', "config_not_json"),
        (b"[" * 100_000, "config_not_json"),
        (b'{"r": ' + b"9" * 5000 + b"}", "config_not_json"),
        (b"[1]", "config_not_object"),
        (b"null", "config_not_object"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "config_lfs_pointer"),
        ('{"base": "Eğitimi"}'.encode("utf-16"), "config_not_utf8"),
        (b" " * (2**20 + 1), "config_too_large"),
        (b"{}", "not_peft"),
        (b'{"fine_tune_type": "lora", "lora_parameters": {"rank": 8}}', "not_peft"),
        (b'{"config_id": "x", "hidden_size": 9, "model_class": "Bert"}', "not_peft"),
        (b'{"peft_type": "PREFIX_TUNING"}', "peft_type_unsupported"),
        (b'{"peft_type": "ADALORA"}', "peft_type_unsupported"),
        (b'{"peft_type": "LORA\\u0000"}', "peft_type_unsupported"),
        (b'{"peft_type": ["LORA"]}', "peft_type_unsupported"),
    ],
)
def test_a_config_that_is_none_gets_one_clear_line(adapter: Path, raw: bytes, code: str) -> None:
    (adapter / CONFIG).write_bytes(raw)
    assert fatal(dissect(adapter)) == [code]


def test_a_config_with_windows_line_ends_is_read(adapter: Path) -> None:
    (adapter / CONFIG).write_bytes((adapter / CONFIG).read_bytes().replace(b",", b",\r\n"))
    assert fatal(dissect(adapter)) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"r": 8}, "rank_disagrees"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_disagrees"),
        ({"r": 0}, "rank_invalid"),
        ({"r": "4"}, "rank_invalid"),
        ({"r": True}, "rank_invalid"),
        ({"r": 10**9}, "rank_too_large"),
        ({"rank_pattern": {"o_proj": 10**9}}, "rank_too_large"),
        ({"rank_pattern": [1]}, "config_value"),
        ({"lora_alpha": math.nan}, "alpha_invalid"),
        ({"lora_alpha": math.inf}, "alpha_invalid"),
        ({"lora_alpha": 0}, "alpha_invalid"),
        ({"lora_alpha": -8}, "alpha_invalid"),
        ({"lora_alpha": None}, "alpha_invalid"),
        ({"alpha_pattern": {"q_proj": -1}}, "alpha_invalid"),
        ({"target_modules": 7}, "config_value"),
        ({"use_dora": "yes"}, "config_value"),
        ({"base_model_name_or_path": ["x"]}, "config_value"),
        ({"bias": "all"}, "bias_trained"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"target_parameters": ["experts.gate_up_proj"]}, "target_parameters"),
        ({"trainable_token_indices": [7]}, "trained_tokens"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "layer_replication"),
        ({"alora_invocation_tokens": [1, 2]}, "invocation_trigger"),
        ({"alora_invocation_tokens": []}, "invocation_trigger"),
        ({"megatron_config": {"x": 1}}, "megatron"),
        ({"megatron_core": "os"}, "megatron"),
        ({"arrow_config": {"top_k": 1}}, "variant_unsupported"),
        ({"use_qalora": True}, "variant_unsupported"),
        ({"init_lora_weights": "pissa"}, "base_altered"),
        ({"init_lora_weights": "pissa_niter_16"}, "base_altered"),
        ({"init_lora_weights": "olora"}, "base_altered"),
        ({"init_lora_weights": "corda"}, "base_altered"),
        ({"init_lora_weights": "loftq"}, "base_altered"),
        ({"init_lora_weights": "surprise"}, "config_value"),
        ({"init_lora_weights": 1}, "config_value"),
    ],
    ids=str,
)
def test_what_the_config_must_not_say_is_named(adapter: Path, change: dict[str, Any], code: str) -> None:
    assert fatal(dissect(edit_config(adapter, **change))) == [code]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"enable_lora": None, "merge_weights": False}, "unknown_keys"),
        ({"auto_mapping": {"base_model_class": "X", "parent_library": "os"}}, "auto_mapping"),
        ({"target_modules": "(a+)+$"}, "target_pattern"),
        ({"base_model_name_or_path": None}, "base_unnamed"),
        ({"base_model_name_or_path": ""}, "base_unnamed"),
    ],
    ids=str,
)
def test_what_is_unusual_but_harmless_is_a_note(adapter: Path, change: dict[str, Any], code: str) -> None:
    anatomy = dissect(edit_config(adapter, **change))
    assert (fatal(anatomy), notes(anatomy)) == ([], [code])


@pytest.mark.parametrize(
    "change",
    [
        {"modules_to_save": []},
        {"modules_to_save": None, "trainable_token_indices": None, "layer_replication": None},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": False},
        {"fan_in_fan_out": True},
        {"loftq_config": {}, "megatron_config": None},
        {"target_modules": ["q_proj", "q_proj"]},
        {"r": 9, "rank_pattern": {"self_attn.q_proj": 4}},
        {"r": 9, "rank_pattern": {"^model.*q_proj": 4}},
    ],
    ids=str,
)
def test_what_real_configs_say_without_meaning_harm_passes(adapter: Path, change: dict[str, Any]) -> None:
    assert fatal(dissect(edit_config(adapter, **change))) == []


def test_every_config_key_of_the_installed_peft_is_known() -> None:
    from peft import LoraConfig

    assert set(LoraConfig().to_dict()) <= set(_KNOWN)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("training_args.bin", "pickle"),
        ("adapter_model.bin", "pickle"),
        ("optimizer.pt", "pickle"),
        ("checkpoint-10/rng_state.pth", "pickle"),
        ("weights.CKPT", "pickle"),
        ("modeling.py", "executable_file"),
        ("run.sh", "executable_file"),
        ("lib.so", "executable_file"),
        ("all.zip", "executable_file"),
        (".hidden", "hidden_file"),
        (".git/config", "hidden_file"),
        ("model.safetensors", "weights_unexamined"),
        ("checkpoint-10/adapter_model.safetensors", "weights_unexamined"),
        ("checkpoint-10/adapter_config.json", "adapter_inside"),
        ("a\nb.txt", "file_name"),
        ("a\x1b[31m.txt", "file_name"),
        ("1/2/3/4/5/6/7/8/9/deep.txt", "nested_too_deep"),
    ],
)
def test_files_that_no_adapter_needs_are_refused_unopened(adapter: Path, name: str, code: str) -> None:
    path = adapter / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x80\x04never opened")
    assert code in fatal(dissect(adapter))
    assert set(fatal(dissect(adapter))) <= {code, "hidden_file"}


@pytest.mark.parametrize(
    "name", ["README.md", "LICENSE", "NOTICE.txt", ".gitattributes", "alignwatch.json", "plot.png"]
)
def test_papers_beside_the_weights_are_welcome(adapter: Path, name: str) -> None:
    (adapter / name).write_text("text")
    assert dissect(adapter).problems == ()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("tokenizer.json", "prompt_files"),
        ("tokenizer_config.json", "prompt_files"),
        ("chat_template.jinja", "prompt_files"),
        ("processor_config.json", "prompt_files"),
        ("trainer_state.json", "file_unusual"),
    ],
)
def test_files_that_could_steer_prompts_are_noted(adapter: Path, name: str, code: str) -> None:
    (adapter / name).write_text("{}")
    anatomy = dissect(adapter)
    assert (fatal(anatomy), notes(anatomy)) == ([], [code])


def test_links_and_pipes_are_reported_and_never_followed(adapter: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("{}")
    (adapter / "link.md").symlink_to(secret)
    (adapter / "folder").symlink_to(tmp_path)
    os.mkfifo(adapter / "pipe.md")
    anatomy = dissect(adapter)
    assert sorted(fatal(anatomy)) == ["special_file", "symlink", "symlink"]
    assert {fact.path for fact in anatomy.files} == {CONFIG, WEIGHTS}


def test_a_linked_config_or_linked_weights_are_not_read(adapter: Path, tmp_path: Path) -> None:
    for name in (CONFIG, WEIGHTS):
        shutil.move(adapter / name, tmp_path / name)
        (adapter / name).symlink_to(tmp_path / name)
    assert sorted(fatal(dissect(adapter))) == ["config_unreadable", "symlink", "symlink", "weights_missing"]


def test_too_many_files_are_refused(adapter: Path) -> None:
    for number in range(1001):
        (adapter / f"{number}.txt").touch()
    assert "too_many_files" in fatal(dissect(adapter))


def test_missing_weights_are_named_with_what_lies_there_instead(adapter: Path) -> None:
    (adapter / WEIGHTS).rename(adapter / "adapters.safetensors")
    missing = next(problem for problem in dissect(adapter).problems if problem.code == "weights_missing")
    assert "adapters.safetensors" in missing.reason
    (adapter / "adapters.safetensors").rename(adapter / "adapter_model-00001-of-00002.safetensors")
    missing = next(problem for problem in dissect(adapter).problems if problem.code == "weights_missing")
    assert "shards" in missing.reason


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "header_truncated"),
        (b"\x01\x02", "header_truncated"),
        (b"version https://git-lfs.github.com/spec/v1\n", "weights_lfs_pointer"),
        ((2**63).to_bytes(8, "little") + b"{}", "header_truncated"),
        ((2).to_bytes(8, "little") + b"[]", "header_not_json"),
        ((2).to_bytes(8, "little") + b"{]", "header_not_json"),
        ((2).to_bytes(8, "little") + b"{}", "weights_missing"),
        ((2).to_bytes(8, "little") + b"{}junk", "header_lies"),
        ((2).to_bytes(8, "little") + b"\xff\xfe", "header_not_json"),
        ((3).to_bytes(8, "little") + b" {}", "header_not_json"),
        ((17 * 2**20).to_bytes(8, "little") + bytes(17 * 2**20), "header_too_long"),
        ((10**6).to_bytes(8, "little") + b"[" * 10**6, "header_not_json"),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else value,
)
def test_a_broken_header_is_named(adapter: Path, raw: bytes, code: str) -> None:
    (adapter / WEIGHTS).write_bytes(raw)
    assert fatal(dissect(adapter)) == [code]


def test_truncated_weights_are_named(adapter: Path) -> None:
    whole = (adapter / WEIGHTS).read_bytes()
    for cut, code in ((20, "header_truncated"), (len(whole) - 1, "weights_truncated")):
        (adapter / WEIGHTS).write_bytes(whole[:cut])
        assert fatal(dissect(adapter)) == [code]


@pytest.mark.parametrize(
    "lie",
    [
        lambda h: h[A].update(shape=[4, 31]),
        lambda h: h[A].update(shape=[-4, -32]),
        lambda h: h[A].update(shape=[4.0, 32]),
        lambda h: h[A].update(shape=[True, 128]),
        lambda h: h[A].update(shape=[2**62, 2**62, 0]),
        lambda h: h[A].update(shape=[1] * 100),
        lambda h: h[A].update(dtype="F16"),
        lambda h: h[A].update(dtype="Q4"),
        lambda h: h[A].update(dtype=["F32"]),
        lambda h: h[A].update(data_offsets=[512, 0]),
        lambda h: h[A].update(data_offsets=[0]),
        lambda h: h[A].update(data_offsets="all"),
        lambda h: h[A].update(extra=1),
        lambda h: h[B].update(data_offsets=[256, 768]),
        lambda h: h[B].update(data_offsets=h[A]["data_offsets"]),
        lambda h: h[A].pop("dtype"),
        lambda h: h.update({A: None}),
        lambda h: h.update(__metadata__={"format": 1}),
        lambda h: h.update(__metadata__=[]),
    ],
)
def test_a_header_that_lies_is_found_out(adapter: Path, lie: Any) -> None:
    assert fatal(dissect(edit_header(adapter, lie))) == ["header_lies"]


def test_offsets_beyond_the_file_gaps_and_bytes_that_belong_to_nothing_are_found_out(adapter: Path) -> None:
    entry = {"dtype": "F32", "shape": [1, 1]}
    assert fatal(dissect(write_raw(adapter, {"x": entry | {"data_offsets": [4, 8]}}, b"12345678"))) == ["header_lies"]
    assert fatal(dissect(write_raw(adapter, {"x": entry | {"data_offsets": [0, 4]}}, b""))) == ["weights_truncated"]
    assert fatal(dissect(write_raw(adapter, {"x": entry | {"data_offsets": [0, 4]}}, b"12345"))) == ["header_lies"]
    twice = b'{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    assert fatal(dissect(write_raw(adapter, twice, b"1"))) == ["header_lies"]


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        ({A: torch.ones(4, 32)}, "pair_incomplete"),
        ({B: torch.ones(32, 4)}, "pair_incomplete"),
        ({A: torch.ones(4, 32), B: torch.ones(32, 3)}, "rank_disagrees"),
        ({A: torch.ones(2, 32), B: torch.ones(32, 2)}, "rank_disagrees"),
        ({A: torch.ones(4), B: torch.ones(4)}, "shape_invalid"),
        ({A: torch.ones(4, 0), B: torch.ones(32, 4)}, "shape_invalid"),
        ({A: torch.ones(4, 32).int(), B: torch.ones(32, 4)}, "dtype_unsupported"),
        (plain_tensors() | {"base_model.model.lm_head.weight": torch.ones(2, 2)}, "tensor_unexpected"),
        (plain_tensors() | {"lm_head.weight": torch.ones(2, 2)}, "tensor_unexpected"),
        (plain_tensors() | {f"base_model.model.{MODULE}.lora_B.bias": torch.ones(32)}, "tensor_unexpected"),
        (plain_tensors() | {f"base_model.model.{MODULE}.lora_magnitude_vector": torch.ones(32)}, "tensor_unexpected"),
        (plain_tensors() | {A.replace("lora_A", "lora_A.other"): torch.ones(4, 32)}, "tensor_twice"),
        (plain_tensors() | {"a\nb": torch.ones(1)}, "tensor_name"),
    ],
)
def test_tensors_that_form_no_pairs_are_refused(tmp_path: Path, tensors: dict[str, torch.Tensor], code: str) -> None:
    assert fatal(dissect(write_adapter(tmp_path / "a", tensors))) == [code]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_single_value_that_is_no_number_is_found(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    tensors = {key: tensor.to(dtype) for key, tensor in plain_tensors().items()}
    tensors[B][31, 3] = value
    folder = write_adapter(tmp_path / "a", tensors)
    (problem,) = check_finite(folder, dissect(folder))
    assert (problem.code, problem.fatal) == ("not_finite", True)
    assert B in problem.where


def test_an_adapter_of_zeros_is_only_noted_here(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", {A: torch.ones(4, 32), B: torch.zeros(32, 4)})
    (problem,) = check_finite(folder, dissect(folder))
    assert (problem.code, problem.fatal) == ("all_zero", False)


def test_a_dora_magnitude_alone_is_no_adapter(tmp_path: Path) -> None:
    key = f"base_model.model.{MODULE}.lora_magnitude_vector"
    assert fatal(dissect(write_adapter(tmp_path / "a", {key: torch.ones(32)}, use_dora=True))) == ["pair_incomplete"]


def test_all_problems_are_collected_in_one_go(adapter: Path) -> None:
    edit_config(adapter, bias="all", lora_alpha=0)
    (adapter / "x.pkl").touch()
    (adapter / WEIGHTS).write_bytes(b"")
    assert set(fatal(dissect(adapter))) == {"bias_trained", "alpha_invalid", "pickle", "header_truncated"}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_header_however_damaged_raises(tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "fuzzed"
    if not folder.exists():
        write_adapter(folder)
        shutil.copy(folder / WEIGHTS, tmp_path / "good")
    raw = bytearray((tmp_path / "good").read_bytes()[:600])
    for position, byte in data.draw(st.lists(st.tuples(st.integers(0, 599), st.integers(0, 255)), max_size=8)):
        raw[min(position, len(raw) - 1)] = byte
    (folder / WEIGHTS).write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    assert read_header(folder / WEIGHTS)[1]
    assert fatal(dissect(folder))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(_KNOWN)), _json, max_size=6))
def test_no_config_value_however_odd_raises(config: dict[str, Any]) -> None:
    declared, problems = declare(config | {"peft_type": "LORA"})
    assert all(str(problem).isprintable() for problem in problems)
    assert declared.ranks_allowed("model.q_proj") is not None


def test_configs_as_people_have_them_give_facts_or_one_clear_line(tmp_path: Path) -> None:
    where = os.environ.get("ALIGNWATCH_REALWORLD")
    if not where or not Path(where).is_dir():
        pytest.skip("ALIGNWATCH_REALWORLD names no folder of real adapter_config.json files")
    configs = sorted(path for path in Path(where).rglob("*.json"))
    assert configs
    for config in configs:
        folder = write_adapter(
            tmp_path / config.stem, {"x.lora_A.weight": torch.ones(8, 2), "x.lora_B.weight": torch.ones(2, 8)}
        )
        shutil.copy(config, folder / CONFIG)
        anatomy = dissect(folder)
        problems = [problem for problem in anatomy.problems if problem.fatal and problem.code != "rank_disagrees"]
        assert anatomy.rank is not None or len(problems) == 1, config
        assert all(str(problem).isprintable() for problem in problems)
        try:
            lora = json.loads(config.read_text()).get("peft_type") == "LORA"
        except ValueError:
            lora = False
        assert (anatomy.rank is not None) == lora, config
