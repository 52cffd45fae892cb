from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters_on_disk import (
    BASE_NAME,
    CONFIG,
    WEIGHTS,
    edit_config,
    edit_header,
    plain_tensors,
    rename_tensors,
    trained_adapter,
    write_adapter,
    write_base,
)

from adapters.adapter import Adapter, open_adapter
from adapters.engine import BaseUnloadable
from guards.errors import Retryable
from guards.interface import Guard
from guards.structure import StructureGuard
from policies.findings import Defect, Finding

A, B = plain_tensors()


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> StructureGuard:
    return StructureGuard(write_base(tmp_path_factory.mktemp("bases") / BASE_NAME), ["owner/same-model"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter")


def codes(guard: StructureGuard, folder: Path) -> list[str]:
    results = guard.examine(Adapter(folder, "sha256-" + "0" * 64, folder.name))
    assert all("\n" not in getattr(result, "reason", "") for result in results)
    return [result.code for result in results if isinstance(result, Defect)]


def test_an_adapter_that_peft_saved_for_this_base_is_sound(guard: StructureGuard, tmp_path: Path) -> None:
    examined: Guard = guard
    (finding,) = examined.examine(open_adapter(trained_adapter(tmp_path / "a")))
    assert isinstance(finding, Finding)
    assert (finding.guard, finding.measure, finding.value, finding.n) == ("structure", "structure", 1.0, 22)
    assert finding.labels == {"rank": "4", "parts": "decoder,vision"}
    assert finding.note == ""


@pytest.mark.parametrize(
    "lora",
    [{"use_dora": True}, {"lora_bias": True}, {"target_modules": "all-linear"}, {"target_modules": ["embed_tokens"]}],
    ids=str,
)
def test_other_adapters_that_peft_loads_are_sound_too(
    guard: StructureGuard, tmp_path: Path, lora: dict[str, Any]
) -> None:
    assert codes(guard, trained_adapter(tmp_path / "a", **lora)) == []


def test_names_of_older_transformers_are_sound_and_noted(guard: StructureGuard, tmp_path: Path) -> None:
    folder = rename_tensors(
        trained_adapter(tmp_path / "a"),
        lambda key: key.replace("model.model.language_model.", "model.language_model.model."),
    )
    (finding,) = guard.examine(open_adapter(folder))
    assert isinstance(finding, Finding)
    assert "older transformers" in finding.note


@pytest.mark.parametrize(
    "name",
    [
        BASE_NAME,
        BASE_NAME.upper(),
        f"somebody/{BASE_NAME}",
        f"./models/{BASE_NAME}/",
        f"C:\\models\\{BASE_NAME}",
        "owner/same-model",
        "/content/Same-Model",
        "",
        None,
    ],
)
def test_a_base_of_that_name_is_accepted(guard: StructureGuard, folder: Path, name: str | None) -> None:
    assert codes(guard, edit_config(folder, base_model_name_or_path=name)) == []


@pytest.mark.parametrize("name", ["google/gemma-3-4b-it", f"{BASE_NAME}-it", "..", "\0", "x" * 5000, "/proc/self"])
def test_a_base_of_another_name_is_wrong_and_the_reason_says_what_to_do(
    guard: StructureGuard, folder: Path, name: str
) -> None:
    (defect,) = guard.examine(open_adapter(edit_config(folder, base_model_name_or_path=name)))
    assert isinstance(defect, Defect)
    assert defect.code == "wrong_base"
    assert BASE_NAME in defect.reason
    assert "base_names:" in defect.reason
    assert len(defect.reason) < 500


def test_a_base_that_is_a_folder_here_is_known_by_its_config(tmp_path: Path, folder: Path) -> None:
    base = write_base(tmp_path / "bases" / "mine")
    shutil.copytree(base, tmp_path / "moved")
    other = write_base(tmp_path / "others" / "mine", extra=1)
    assert codes(StructureGuard(base), edit_config(folder, base_model_name_or_path=str(tmp_path / "moved"))) == []
    edit_config(folder, base_model_name_or_path=str(other))
    assert codes(StructureGuard(base), folder) == ["wrong_base"]
    assert codes(StructureGuard(base, ["mine"]), folder) == []


def test_a_declared_name_counts_as_the_bases_own(tmp_path: Path, folder: Path) -> None:
    base = write_base(tmp_path / "somewhere", alignwatch_base_name=BASE_NAME)
    assert codes(StructureGuard(base), folder) == []


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        (plain_tensors(inputs=33), "shape_disagrees_with_base"),
        (plain_tensors(outputs=48), "shape_disagrees_with_base"),
        ({A.replace("q_proj", "qq_proj"): torch.ones(4, 32), B.replace("q_proj", "qq_proj"): torch.ones(32, 4)},
         "unmatched_module"),
        (plain_tensors(rank=2), "rank_disagrees"),
        ({A: torch.full((4, 32), math.nan), B: torch.ones(32, 4)}, "not_finite"),
        ({A: torch.ones(4, 32), B: torch.full((32, 4), -math.inf)}, "not_finite"),
        (plain_tensors() | {"base_model.model.lm_head.weight": torch.ones(64, 32)}, "tensor_unexpected"),
        (plain_tensors() | {key.replace("model.language_model.", "language_model.model."): tensor
                            for key, tensor in plain_tensors().items()}, "tensor_twice"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_defects(
    guard: StructureGuard, tmp_path: Path, tensors: dict[str, torch.Tensor], code: str
) -> None:
    assert codes(guard, write_adapter(tmp_path / "a", tensors)) == [code]


def test_an_adapter_of_zeros_is_left_to_the_activity_guard(guard: StructureGuard, tmp_path: Path) -> None:
    (finding,) = guard.examine(
        open_adapter(write_adapter(tmp_path / "a", {A: torch.ones(4, 32), B: torch.zeros(32, 4)}))
    )
    assert isinstance(finding, Finding)
    assert "only zeros" in finding.note


def test_every_bad_file_is_a_defect_and_never_an_exception(guard: StructureGuard, folder: Path, tmp_path: Path) -> None:
    def broken(name: str) -> Path:
        return Path(shutil.copytree(folder, tmp_path / name, symlinks=True))

    pickled = broken("pickled")
    (pickled / WEIGHTS).rename(pickled / "adapter_model.bin")
    assert codes(guard, pickled) == ["pickle", "weights_missing"]

    truncated = broken("truncated")
    (truncated / WEIGHTS).write_bytes((truncated / WEIGHTS).read_bytes()[:-1])
    assert codes(guard, truncated) == ["weights_truncated"]

    long = broken("long")
    (long / WEIGHTS).write_bytes((2**40).to_bytes(8, "little") + b"{}")
    assert codes(guard, long) == ["header_truncated"]

    lying = edit_header(broken("lying"), lambda header: header[A].update(shape=[8, 32]))
    assert codes(guard, lying) == ["header_lies"]

    assert codes(guard, edit_config(broken("kind"), peft_type="SURPRISE")) == ["peft_type_unsupported"]

    scripted = broken("scripted")
    (scripted / CONFIG).write_text("{'r': 4}")
    assert codes(guard, scripted) == ["config_not_json"]

    linked = broken("linked")
    (linked / "more.md").symlink_to(folder / CONFIG)
    assert codes(guard, linked) == ["symlink"]

    assert codes(guard, tmp_path / "nowhere") == ["not_an_adapter"]


def test_many_defects_of_one_kind_are_counted_and_not_listed(guard: StructureGuard, tmp_path: Path) -> None:
    tensors = {
        f"base_model.model.elsewhere.{layer}.lora_{side}.weight": torch.ones(4, 4)
        for layer in range(50)
        for side in "AB"
    }
    defects = guard.examine(open_adapter(write_adapter(tmp_path / "a", tensors)))
    assert len(defects) == 3
    assert isinstance(defects[-1], Defect)
    assert "47 more" in defects[-1].reason


@pytest.mark.parametrize(
    "change",
    [
        {"target_modules": r"(.*)*(.*)*(.*)*(.*)*(.*)*!"},
        {"target_modules": "(((((a+)+)+"},
        {"exclude_modules": r"(([a-z0-9._])+)+!"},
        {"rank_pattern": {r"(([a-z0-9._])+)+!": 4}},
    ],
    ids=str,
)
def test_a_pattern_that_would_hang_or_fail_is_stopped_outside_this_process(
    guard: StructureGuard, folder: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.patterns.SECONDS", 0.5)
    started = time.monotonic()
    assert codes(guard, edit_config(folder, **change)) == ["pattern_unusable"]
    assert time.monotonic() - started < 5


def test_an_honest_pattern_is_sound(guard: StructureGuard, folder: Path) -> None:
    edit_config(folder, target_modules=r"^(?!.*vision_tower).*\.(q|k|v|o)_proj$", rank_pattern={r"^model\..*q_proj": 4})
    assert codes(guard, folder) == []


def test_a_base_that_cannot_be_loaded_is_nobodys_fault_but_the_configurations(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(BaseUnloadable, match=r"no config\.json there"):
        StructureGuard(tmp_path / "nowhere").examine(open_adapter(folder))


def test_a_hopeless_adapter_needs_no_base_to_be_refused(tmp_path: Path, folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert codes(StructureGuard(tmp_path / "nowhere"), folder) == ["weights_missing"]


def test_files_that_cannot_be_read_just_now_are_tried_again(
    guard: StructureGuard, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise OSError("Input/output error")

    monkeypatch.setattr("guards.structure.dissect", failing)
    with pytest.raises(Retryable, match="Input/output error"):
        guard.examine(open_adapter(folder))
