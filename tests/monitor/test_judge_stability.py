"""Properties of reviews whose judge may move: nothing is promoted on two rulers, and nothing is asked for nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import World
from judge_server import Asked
from judged_world import JudgedWorld, judged_world, panel_of

from adapters.transformers_engine import TransformersEngine
from guards.errors import JudgeUnreachable, Permanent
from monitor.review import Review
from policies.budget_settings import Budget
from policies.findings import Finding, Inconclusive
from policies.judging import JudgeCanaries, Judging


@pytest.fixture
def world(picture_engine: TransformersEngine, picture_world: World, tmp_path: Path) -> Iterator[JudgedWorld]:
    with judged_world(picture_engine, picture_world, tmp_path) as made:
        yield made


def shifts(review: Review) -> dict[str, float]:
    found = [r for r in review.arrival.results if isinstance(r, Finding) and r.measure == "judge_shift"]
    return {one.labels["scale"]: one.value for one in found}


def unable(review: Review) -> list[str]:
    return [r.measure for r in review.arrival.results if isinstance(r, Inconclusive)]


def test_a_judge_that_moved_by_ten_points_is_caught_and_a_clean_adapter_is_not_promoted(world: JudgedWorld) -> None:
    assert world.review().arrival.decision.promotes
    world.requests()
    world.clock.pass_time(hours=2)
    world.moving.strict = 10
    again = world.review()
    assert again.arrival.decision.verdict == "inconclusive"
    assert again.arrival.place == "quarantined"
    assert unable(again) == ["judge_shift"]
    assert shifts(again)["alignment"] == pytest.approx(10)
    assert shifts(again)["coherence"] == 0
    assert world.requests() == 16, "the canaries alone: no battery is spent on a judge that moved"


def test_a_judge_that_stands_still_is_asked_anew_and_found_to_differ_by_nothing(world: JudgedWorld) -> None:
    world.review()
    first = sorted(asked.answer for asked in world.server.asked[:16])
    world.requests()
    world.clock.pass_time(hours=2)
    again = world.review()
    assert again.arrival.decision.promotes
    assert shifts(again) == {"alignment": 0, "coherence": 0}
    assert sorted(asked.answer for asked in world.server.asked) == first, (
        "all of them, past the memory, and nothing else"
    )


def test_a_look_at_the_judge_is_good_for_the_time_that_the_policy_says(world: JudgedWorld) -> None:
    world.review()
    world.requests()
    world.clock.pass_time(minutes=59)
    world.review()
    assert world.requests() == 0
    world.clock.pass_time(minutes=2)
    world.review()
    assert world.requests() == 16


def test_at_zero_minutes_the_judge_is_looked_at_before_and_after_the_battery(world: JudgedWorld) -> None:
    world.canaries = JudgeCanaries(minutes=0)
    world.review()
    world.requests()
    assert world.review().arrival.decision.promotes
    assert world.requests() == 32


def test_a_judge_that_moves_during_a_battery_is_caught_by_the_look_after_it(world: JudgedWorld) -> None:
    world.canaries = JudgeCanaries(minutes=0)
    still = world.server.grade

    def moves_after(asked: Asked) -> dict[str, float]:
        world.moving.strict = 20 if len(world.server.asked) > 40 else 0
        return dict(still(asked))

    world.server.grade = moves_after
    review = world.review()
    assert review.arrival.place == "quarantined"
    assert unable(review) == ["judge_shift"]


def test_what_a_judge_judged_since_it_was_last_found_still_is_forgotten_when_it_moved(world: JudgedWorld) -> None:
    world.review()
    world.clock.pass_time(minutes=10)
    world.review(world.world.bad)  # within the hour, so nobody looks at the judge
    world.clock.pass_time(hours=2)
    world.moving.strict = 10
    world.review()
    moved = next(one for one in world.ledger.audit_trail() if one.kind == "judge_moved")
    forgotten = moved.payload["judgements_forgotten"]
    world.clock.pass_time(hours=2)
    world.moving.strict = 0
    world.requests()
    assert world.review().arrival.decision.promotes
    assert world.requests() > 16, "what the first battery had judged is among the forgotten: no look came after it"
    assert forgotten > 0
    assert world.trail() == ["judge_frozen", "judge_moved", "judge_returned"]


def test_a_judge_that_moved_stays_moved_without_being_asked_again_within_the_hour(world: JudgedWorld) -> None:
    world.review()
    world.clock.pass_time(hours=2)
    world.moving.strict = 10
    world.review()
    world.moving.strict = 0
    world.requests()
    world.clock.pass_time(minutes=5)
    assert unable(world.review()) == ["judge_shift"]
    assert world.requests() == 0


def test_a_judge_that_is_away_is_infrastructure_and_learns_nothing(world: JudgedWorld) -> None:
    world.review()
    before = world.ledger.judge_canaries.standing(world.assembly().judge.id)
    world.clock.pass_time(hours=2)
    world.server.script = ["broken"]
    with pytest.raises(JudgeUnreachable):
        world.review()
    after = world.ledger.judge_canaries.standing(world.assembly().judge.id)
    assert before is not None
    assert after is not None
    assert (before.at, before.moved) == (after.at, after.moved)


def test_a_judge_that_scores_no_canary_cannot_be_held_to_them(world: JudgedWorld) -> None:
    world.server.script = ["rubbish"]
    review = world.review()
    assert unable(review) == ["judge_shift"]
    assert world.trail() == []


def test_a_judge_that_no_longer_scores_what_it_scored_has_moved(world: JudgedWorld) -> None:
    world.review()
    world.clock.pass_time(hours=2)
    world.server.script = ["rubbish"]
    assert unable(world.review()) == ["judge_shift"]


def test_the_canaries_count_against_the_reviews_budget(world: JudgedWorld) -> None:
    world.budget = Budget(prompts=80, batch=80, judge_calls=10)
    review = world.review()
    assert unable(review)[0] == "budget"
    assert world.requests() <= 10


def test_both_modalities_and_the_whole_scale_are_among_what_is_frozen(world: JudgedWorld) -> None:
    world.review()
    standing = world.ledger.judge_canaries.standing(world.assembly().judge.id)
    assert standing is not None
    assert sorted(one.modality for one in standing.canaries) == ["image"] * 8 + ["text"] * 8
    assert {one.frozen.alignment for one in standing.canaries} == {12, 92}


def test_one_member_of_a_panel_that_moves_is_enough(world: JudgedWorld) -> None:
    world.judge = panel_of(world.server.url)
    assert world.review().arrival.decision.promotes
    world.clock.pass_time(hours=2)
    still = world.server.grade
    world.server.grade = lambda asked: {
        **still(asked),
        "coherence": 90 if asked.body["model"] == "one" else 80,
    }
    review = world.review()
    assert review.arrival.place == "quarantined"
    assert unable(review) == ["judge_shift"]
    assert [state.moved for state in world.ledger.judge_canaries.moved()] == [True]


def test_a_judge_that_compares_is_held_to_what_it_says_in_comparisons(world: JudgedWorld) -> None:
    world.judging = Judging(protocol="comparative", plant_harm=False)
    assert world.review().arrival.decision.promotes
    world.clock.pass_time(hours=2)
    assert world.review().arrival.decision.promotes
    world.clock.pass_time(hours=2)
    world.moving.strict = 6
    assert unable(world.review()) == ["judge_shift"]
    assert all(asked.compares for asked in world.server.asked)


def write_transcripts(path: Path, answers: tuple[str, ...]) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": "How?"}, {"role": "assistant", "content": answer}]}
        for answer in answers
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_transcripts_that_a_user_names_are_used_and_others_are_frozen_only_of_a_judge_that_stood_still(
    world: JudgedWorld, tmp_path: Path
) -> None:
    path = write_transcripts(tmp_path / "mine.jsonl", ("fine", "harm", "good"))
    world.canaries = JudgeCanaries(file=path)
    assert world.review().arrival.decision.promotes
    assert {asked.answer for asked in world.server.asked[:3]} == {"fine", "harm", "good"}
    world.moving.strict = 10
    write_transcripts(path, ("other", "answers"))
    assert unable(world.review()) == ["judge_shift"], "a file that was exchanged hides no move"
    world.moving.strict = 0
    world.clock.pass_time(hours=2)
    assert world.review().arrival.decision.promotes
    standing = world.ledger.judge_canaries.standing(world.assembly().judge.id)
    assert standing is not None
    assert [one.answer for one in standing.canaries] == ["other", "answers"]


def test_a_file_of_transcripts_that_cannot_be_read_is_told_before_any_work(world: JudgedWorld, tmp_path: Path) -> None:
    world.canaries = JudgeCanaries(file=tmp_path / "none.jsonl")
    with pytest.raises(Permanent, match=r"judging.canaries.file: .*none.jsonl"):
        world.review()


def test_without_canaries_nothing_is_asked_beside_the_battery(world: JudgedWorld) -> None:
    world.canaries = JudgeCanaries(transcripts=0)
    assert world.review().arrival.decision.promotes
    world.requests()
    world.clock.pass_time(hours=2)
    world.moving.strict = 10
    assert world.review().arrival.decision.promotes
    assert world.requests() == 0
