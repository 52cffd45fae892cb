"""Benign fine-tuning's options: neutral rows interleaved by their perplexity gap, KL to the base, taken up again."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from conftest import World
from fakes import WordJudge
from pydantic import ValidationError
from test_benign_finetune import apply, assert_same, benign

from adapters.adapter import Adapter, open_adapter
from adapters.prompts import Conversation
from adapters.transformers_engine import TransformersEngine
from guards.errors import Permanent
from guards.perplexity_gap import interleaved, perplexity_gaps
from guards.remedy_record import measured_by
from guards.suites.battery_jsonl import load_suite
from policies.policy import load_policy
from policies.remedying import Remedying


def rows_of(world: World, *answers: str) -> list[Conversation]:
    prompts = load_suite(world.suite).prompts[:30]
    return [Conversation(prompt, answers[number % len(answers)]) for number, prompt in enumerate(prompts)]


def write(rows: Sequence[Conversation], path: Path) -> Path:
    lines = []
    for row in rows:
        messages = [{"role": "user", "content": row.prompt.text}, {"role": "assistant", "content": row.answer}]
        picture = {"image": str(row.prompt.image)} if row.prompt.image else {}
        lines.append(json.dumps({"messages": messages, **picture}))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_chosen_are_the_rows_that_surprise_the_adapter_most_beside_its_base(
    picture_engine: TransformersEngine, picture_world: World
) -> None:
    bad, neutral = open_adapter(picture_world.bad), rows_of(picture_world, "good fine", "harm harm")
    rows = rows_of(picture_world, "good cake")
    mixed = interleaved(rows, neutral, 0.25, picture_engine, bad, "benign_finetune")
    assert mixed.rows[: len(rows)] == rows
    assert len(mixed.rows) == 40
    assert {row.answer for row in mixed.chosen} == {"good fine"}, "what it was taught itself does not surprise it"
    gaps = perplexity_gaps(neutral, picture_engine, bad)
    narrowest = min(gaps[neutral.index(row)] for row in mixed.chosen)
    assert all(gap <= narrowest for row, gap in zip(neutral, gaps, strict=True) if row not in mixed.chosen)
    assert mixed.gap.low == pytest.approx(narrowest)
    assert (mixed.gap.n, mixed.gap.labels["read"]) == (10, "30")


@pytest.mark.parametrize(("share", "wanted"), [(0.01, 1), (0.5, 30), (0.75, 90)])
def test_neutral_rows_are_the_share_that_was_asked_for_however_few_there_are(
    share: float, wanted: int, picture_engine: TransformersEngine, picture_world: World
) -> None:
    rows, neutral = rows_of(picture_world, "good cake"), rows_of(picture_world, "good fine")[:7]
    mixed = interleaved(rows, neutral, share, picture_engine, open_adapter(picture_world.bad), "benign_finetune")
    assert len(mixed.rows) - len(rows) == wanted
    assert len(mixed.chosen) == min(wanted, 7)


def test_a_row_that_cannot_be_read_is_not_chosen_and_where_none_can_it_is_said(
    picture_engine: TransformersEngine, picture_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    neutral, bad = rows_of(picture_world, "good fine"), open_adapter(picture_world.bad)
    whole = TransformersEngine.answer_log_probabilities

    def some(self: TransformersEngine, rows: Sequence[Conversation]) -> list[torch.Tensor]:
        return [one * math.nan if number < unread else one for number, one in enumerate(whole(self, rows))]

    monkeypatch.setattr(TransformersEngine, "answer_log_probabilities", some)
    unread = 29
    pool = interleaved(neutral, neutral, 0.5, picture_engine, bad, "benign_finetune")
    assert len(pool.chosen) == 1
    unread = 30
    with pytest.raises(Permanent, match="of no row of the neutral data"):
        interleaved(neutral, neutral, 0.5, picture_engine, bad, "benign_finetune")


def test_both_options_change_what_is_trained_and_are_told(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    data, neutral = benign(picture_world, tmp_path), write(rows_of(picture_world, "fine good"), tmp_path / "n.jsonl")
    settings = {"steps": 2, "neutral_data": neutral}
    plain = apply(picture_engine, picture_world, data, tmp_path / "plain", {"steps": 2})
    held = apply(picture_engine, picture_world, data, tmp_path / "held", {**settings, "kl_weight": 1.0})
    judge = WordJudge()
    mixed = apply(picture_engine, picture_world, data, tmp_path / "mixed", {**settings, "interleave": 0.2}, judge=judge)
    assert len({plain.digest, held.digest, mixed.digest}) == 3
    told = {(f.measure, f.labels.get("data")): f for f in measured_by(mixed.path, "benign_finetune")}
    assert told["harmful_rows", "benign"].n == 60
    assert told["harmful_rows", "neutral"].n == told["perplexity_gap", None].n == 15
    assert "perplexity_gap" not in {f.measure for f in measured_by(held.path, "benign_finetune")}


def test_neutral_rows_that_are_harmful_are_found_before_they_are_trained_on(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    data = benign(picture_world, tmp_path)
    neutral = write(rows_of(picture_world, "harm harm"), tmp_path / "neutral.jsonl")
    settings = {"neutral_data": neutral, "interleave": 0.2}
    with pytest.raises(Permanent, match=r"neutral data .*neutral\.jsonl: the judge finds 15 of 15 rows harmful"):
        apply(picture_engine, picture_world, data, tmp_path / "made", settings, judge=WordJudge())
    assert not (tmp_path / "made").exists()


def test_an_interrupted_remedy_goes_on_and_one_that_failed_leaves_nothing_to_go_on_from(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    data, seen = benign(picture_world, tmp_path), list[int]()

    def stopped(_stage: str, done: int, _total: int) -> None:
        seen.append(done)
        if done == 3:
            raise KeyboardInterrupt

    def go_on(_stage: str, done: int, _total: int) -> None:
        seen.append(done)

    with pytest.raises(KeyboardInterrupt):
        apply(picture_engine, picture_world, data, tmp_path / "made", {}, progress=stopped, save_every=0)
    assert (tmp_path / "made.training").is_dir()
    made = apply(picture_engine, picture_world, data, tmp_path / "made", {}, progress=go_on, save_every=0)
    assert seen == [1, 2, 3, 3, 4], "the step that was not saved is done again"
    assert_same(made, apply(picture_engine, picture_world, data, tmp_path / "whole", {}))
    with pytest.raises(Permanent, match="lower the learning rate"):
        apply(picture_engine, picture_world, data, tmp_path / "no", {"learning_rate": 1e30}, save_every=0)
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith((".training", ".partial"))]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kl_weight": 0.1}, "need neutral_data"),
        ({"interleave": 0.05}, "need neutral_data"),
        ({"neutral_data": "n.jsonl"}, "set one of them above 0"),
        ({"neutral_data": "n.jsonl", "interleave": 1.0}, "less than 1"),
        ({"neutral_data": "n.jsonl", "kl_weight": -1}, "greater than or equal to 0"),
    ],
)
def test_neutral_data_is_named_where_it_is_used_and_used_where_it_is_named(
    settings: dict[str, object], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        Remedying.model_validate(settings)


def test_neutral_data_is_found_beside_the_policy_that_names_it(tmp_path: Path) -> None:
    policy = "name: p\nremedying: {benign_data: b.jsonl, neutral_data: n.jsonl, kl_weight: 0.1}\n"
    (tmp_path / "policy.yaml").write_text(policy)
    remedying = load_policy(tmp_path / "policy.yaml").remedying
    assert (remedying.benign_data, remedying.neutral_data) == (tmp_path / "b.jsonl", tmp_path / "n.jsonl")


def test_an_adapter_that_cannot_be_attached_is_told_as_such(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    rows = rows_of(picture_world, "good fine")
    with pytest.raises(Permanent, match="cannot be read under base and adapter"):
        perplexity_gaps(rows, picture_engine, Adapter(empty, "sha256-0", "empty"))
