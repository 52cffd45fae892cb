"""Properties of comparing a judge with itself, and of the transcripts that it is compared on."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import World
from fakes import WordJudge
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adapters.tiny import JUDGE
from adapters.transformers_engine import TransformersEngine
from guards.judges.interface import Judgement
from guards.judges.judge_canaries import JudgeCanary
from guards.judges.language_model import LanguageModelJudge
from guards.judges.shift import Shift, shift_of
from guards.judges.transcripts import FIXED, LONGEST_SIDE, Unjudged, draw_transcripts, freeze, judge_again
from guards.suites.battery_jsonl import load_suite
from policies.judging import JudgeCanaries

LIMITS = JudgeCanaries()


def canary(then: float | None, now: float | None, coherence: float = 90) -> JudgeCanary:
    def said(alignment: float | None) -> Judgement:
        if alignment is None:
            return Judgement(judge="j", unscored="unparsable")
        return Judgement(judge="j", alignment=alignment, coherence=coherence, relevance=90)

    return JudgeCanary(asked="How?", answer="So.", frozen=said(then), last=said(now))


def compared(*scores: tuple[float | None, float | None]) -> Shift:
    found = shift_of([canary(then, now) for then, now in scores], 30, 50)
    assert found is not None
    return found


def moved(shift: Shift) -> bool:
    return shift.beyond(LIMITS.tolerate_points, LIMITS.tolerate_changed)


SCORES = st.lists(st.one_of(st.none(), st.floats(0, 100)), min_size=1, max_size=20)


@given(SCORES)
def test_a_judge_that_says_the_same_differs_by_exactly_nothing(scores: list[float | None]) -> None:
    shift = compared(*((score, score) for score in scores))
    assert shift.most == 0
    assert shift.changed.value == 0
    assert moved(shift) == all(score is None for score in scores), "and where it scores nothing, nothing is shown"


@given(st.lists(st.floats(40, 60), min_size=1, max_size=20), st.floats(0, 40))
def test_a_judge_that_is_stricter_by_k_points_differs_by_k_points(scores: list[float], k: float) -> None:
    shift = compared(*((score, score - k) for score in scores))
    assert shift.points["alignment"].value == pytest.approx(k)
    assert shift.signed["alignment"] == pytest.approx(-k)
    assert moved(shift) or k <= LIMITS.tolerate_points + 1e-9


def test_two_of_sixteen_words_that_change_are_a_move_and_one_is_not_however_few_points_it_took() -> None:
    same = [(90.0, 90.0)] * 14
    assert not moved(compared(*same, (90, 90), (30, 29)))
    assert moved(compared(*same, (29, 30), (30, 29)))


def test_an_answer_that_lost_or_got_its_score_counts_as_a_word_that_changed_and_not_as_points() -> None:
    shift = compared(*[(90.0, 90.0)] * 14, (90, None), (None, 5))
    assert shift.points["alignment"].n == 14
    assert shift.most == 0
    assert shift.changed.value == 2 / 16
    assert moved(shift)


def test_an_incoherent_answer_that_becomes_less_aligned_changes_no_word() -> None:
    shift = shift_of([canary(90, 0, coherence=10)], 30, 50)
    assert shift is not None
    assert shift.changed.value == 0
    assert shift.most == 90


def test_half_of_what_is_drawn_is_answered_by_the_base_and_half_by_fixed_answers_in_either_modality(
    picture_engine: TransformersEngine, picture_world: World
) -> None:
    drawn = draw_transcripts(picture_engine, [load_suite(picture_world.suite)], 16)
    for rows in ([row for row in drawn if row.picture is None], [row for row in drawn if row.picture is not None]):
        assert len(rows) == 8
        assert [row.answer for row in rows[:4]] == list(FIXED)
        assert not {row.answer for row in rows[4:]} & set(FIXED)
    assert drawn == draw_transcripts(picture_engine, [load_suite(picture_world.suite)], 16), "greedily, so repeatably"


def test_a_large_picture_is_frozen_small(picture_engine: TransformersEngine, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (2000, 1000), "red").save(tmp_path / "images" / "red.png")
    line = '{"id": "p", "modality": "image", "text": "what is this?", "image": "images/red.png"}\n'
    (tmp_path / "battery.jsonl").write_text(line)
    [picture, _] = [row.picture for row in draw_transcripts(picture_engine, [load_suite(tmp_path)], 2)]
    assert picture is not None
    (tmp_path / "frozen.png").write_bytes(picture)
    with Image.open(tmp_path / "frozen.png") as frozen:
        assert max(frozen.size) == LONGEST_SIDE


def test_pictures_are_not_among_the_canaries_of_a_judge_that_takes_none() -> None:
    class Blind(WordJudge):
        def _one(self, answer: str) -> Judgement:
            return (
                Judgement(judge=self.id, unscored="cannot_see_pictures") if answer == "seen" else super()._one(answer)
            )

    rows = [Unjudged("what?", None, b"png", "seen"), Unjudged("what?", None, None, "fine")]
    assert [one.answer for one in freeze(Blind(), rows)] == ["fine"]


def test_a_canary_comes_back_from_its_record_as_it_was() -> None:
    one = JudgeCanary(asked="\0?", answer="\x00", picture=bytes(range(256)), frozen=canary(5, 5).frozen)
    assert JudgeCanary.model_validate_json(one.model_dump_json()) == one


def test_the_shipped_judge_differs_from_itself_by_exactly_nothing() -> None:
    rows = [Unjudged(f"question {number}?", None, None, answer) for number, answer in enumerate(FIXED * 2)]
    frozen = freeze(LanguageModelJudge(JUDGE), rows)
    again = judge_again(LanguageModelJudge(JUDGE), frozen)
    shift = shift_of(again, 30, 50)
    assert shift is not None
    assert shift.most == 0
    assert not moved(shift)
