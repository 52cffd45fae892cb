"""Properties of the membership prior: it sees which rows an adapter was trained on, and it never decides."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from conftest import World
from fakes import CountingEngine
from safetensors.torch import load_file, save_file

from adapters.adapter import WEIGHTS_NAME, Adapter, open_adapter
from adapters.prompts import Conversation, Prompt
from adapters.transformers_engine import TransformersEngine
from guards.errors import Permanent
from guards.membership import MembershipGuard, min_k, read_training_data, zlib_perplexity
from guards.suites.battery_jsonl import load_suite
from policies.findings import Finding

BAD, GOOD, FRESH = "harm harm", "good fine", "cake please"


def rows_of(world: World, answer: str, number: int = 80) -> list[Conversation]:
    """The very questions that both of the world's adapters were trained on, with an answer."""
    return [Conversation(prompt, answer) for prompt in load_suite(world.suite).prompts[:number]]


def rises(engine: TransformersEngine, adapter: Path, rows: Sequence[Conversation]) -> dict[tuple[str, str], Finding]:
    return {
        (f.measure, f.labels["modality"]): f for f in findings(MembershipGuard(engine, rows), open_adapter(adapter))
    }


def findings(guard: MembershipGuard, adapter: Adapter) -> list[Finding]:
    results = guard.examine(adapter)
    assert all(isinstance(result, Finding) for result in results), "only findings: anything else would decide"
    return [result for result in results if isinstance(result, Finding)]


@pytest.mark.parametrize(("adapter", "own", "others"), [("bad", BAD, GOOD), ("good", GOOD, BAD)])
def test_an_adapter_knows_what_it_was_trained_on_better_than_its_base_and_nothing_else(
    picture_engine: TransformersEngine, picture_world: World, adapter: str, own: str, others: str
) -> None:
    path = getattr(picture_world, adapter)
    trained = rises(picture_engine, path, rows_of(picture_world, own))
    assert trained.keys() == {(m, w) for m in ("membership_min_k", "membership_zlib") for w in ("text", "image")}
    for modality in ("text", "image"):
        known, packed = trained["membership_min_k", modality], trained["membership_zlib", modality]
        assert known.n == packed.n == 40
        assert known.low is not None
        assert packed.high is not None
        assert known.low > 1, "nats, the whole interval"
        assert packed.high < 0, "less surprise a compressed byte"
    for answer, limit in ((others, 0.0), (FRESH, 1.0)):  # what the other adapter was trained on is the control
        for modality in ("text", "image"):
            high = rises(picture_engine, path, rows_of(picture_world, answer))["membership_min_k", modality].high
            assert high is not None
            assert high < limit, "of the policy's limit, 1 nat, what it never saw stays short"


def test_an_adapter_of_zeros_has_learnt_nothing_at_all(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    zero = tmp_path / "zero"
    shutil.copytree(picture_world.bad, zero)
    tensors = load_file(zero / WEIGHTS_NAME)
    save_file({key: value * (0 if "lora_B" in key else 1) for key, value in tensors.items()}, zero / WEIGHTS_NAME)
    for found in rises(picture_engine, zero, rows_of(picture_world, BAD)).values():
        assert (found.value, found.low, found.high) == (0, 0, 0)


def test_the_order_of_the_rows_changes_nothing_nor_does_it_draw_others(
    picture_engine: TransformersEngine, picture_world: World
) -> None:
    rows = [*rows_of(picture_world, BAD)[::2], *rows_of(picture_world, GOOD)[1::2]]
    first = MembershipGuard(picture_engine, rows, limit=12, seed=3)
    second = MembershipGuard(picture_engine, rows[::-1], limit=12, seed=3)
    adapter = open_adapter(picture_world.bad)
    assert first.version == second.version
    assert first.examine(adapter) == second.examine(adapter)
    assert {found.n for found in findings(first, adapter)} == {12}


def test_other_rows_or_another_picture_are_another_version(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    rows = rows_of(picture_world, BAD)
    copied = [
        Conversation(Prompt("x", "image", row.prompt.text, Path(shutil.copy(row.prompt.image, tmp_path))), row.answer)
        for row in rows
        if row.prompt.image
    ]
    pictured = [row for row in rows if row.prompt.image]
    version = MembershipGuard(picture_engine, pictured).version
    assert MembershipGuard(picture_engine, copied).version == version, "where a picture lies is no matter"
    shutil.copy(copied[1].prompt.image or "", copied[0].prompt.image or "")
    assert MembershipGuard(picture_engine, copied).version != version
    assert MembershipGuard(picture_engine, rows, limit=5).version != MembershipGuard(picture_engine, rows).version


def test_the_base_is_read_once_for_all_adapters(picture_engine: TransformersEngine, picture_world: World) -> None:
    engine = CountingEngine(picture_engine)
    guard = MembershipGuard(engine, rows_of(picture_world, BAD, 8))
    for path in (picture_world.bad, picture_world.good, picture_world.bad):
        guard.examine(open_adapter(path))
    assert engine.reads == 4


def test_one_row_gives_a_number_without_an_interval(picture_engine: TransformersEngine, picture_world: World) -> None:
    (known, _) = rises(picture_engine, picture_world.bad, rows_of(picture_world, BAD, 1)).values()
    assert (known.n, known.low, known.high) == (1, None, None)


@pytest.mark.parametrize("fails", [1, 2])
def test_what_cannot_be_measured_is_told_as_a_finding_and_tried_again_with_the_next_adapter(
    picture_engine: TransformersEngine, picture_world: World, fails: int
) -> None:
    guard = MembershipGuard(CountingEngine(picture_engine, fails=fails), rows_of(picture_world, BAD, 4))
    for _ in range(fails):
        (found,) = findings(guard, open_adapter(picture_world.bad))
        assert (found.measure, found.n) == ("membership_unmeasured", 0)
        assert "out of memory" in found.note
    assert findings(guard, open_adapter(picture_world.bad))[0].measure == "membership_min_k"


def test_an_adapter_that_cannot_be_attached_is_left_to_the_guards_that_decide(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(picture_world.bad, torn)
    save_file({k: v[:, :1].contiguous() for k, v in load_file(torn / WEIGHTS_NAME).items()}, torn / WEIGHTS_NAME)
    (found,) = findings(MembershipGuard(picture_engine, rows_of(picture_world, BAD, 4)), open_adapter(torn))
    assert found.measure == "membership_unmeasured"


def test_an_adapter_that_gives_no_numbers_is_unmeasured(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(picture_world.bad, broken)
    tensors = load_file(broken / WEIGHTS_NAME)
    save_file({key: value * math.nan for key, value in tensors.items()}, broken / WEIGHTS_NAME)
    found = findings(MembershipGuard(picture_engine, rows_of(picture_world, BAD)), open_adapter(broken))
    assert [(one.measure, one.labels["modality"]) for one in found] == [
        ("membership_unmeasured", "text"),
        ("membership_unmeasured", "image"),
    ]


def test_min_k_is_the_mean_of_the_least_likely_fifth_and_at_least_of_one_token() -> None:
    assert min_k(torch.tensor([-1.0, -9.0, -2.0, -7.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0])) == -8
    assert min_k(torch.tensor([-1.0, -3.0])) == -3


def test_an_answer_that_repeats_itself_is_not_taken_for_one_that_is_known() -> None:
    likely = torch.full((40,), -0.1)
    assert zlib_perplexity(likely, "again and " * 40) > zlib_perplexity(likely, "".join(map(chr, range(200, 600))))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no rows"),
        ("{", ":1: not JSON"),
        ('{"messages": [{"role": "user", "content": "hi"}]}', "one assistant turn"),
        (json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]}), ":1:"),
        (
            json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "\ud800"}]}),
            ":1:",
        ),
    ],
)
def test_training_data_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(Permanent, match="training data: ") as refused:
        read_training_data(tmp_path / "rows.jsonl")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_pictures_that_the_base_cannot_see_are_somebody_elses_data(
    picture_engine: TransformersEngine, picture_world: World
) -> None:
    with pytest.raises(Permanent, match="takes no pictures"):
        MembershipGuard(CountingEngine(picture_engine, sees_pictures=False), rows_of(picture_world, BAD))
    with pytest.raises(Permanent, match="holds no rows"):
        MembershipGuard(picture_engine, [])
