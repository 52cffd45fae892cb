"""A judge compared with people: a perfect one, a contrary one, counts that add up, modalities that are never pooled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.prompts import Modality, Prompt
from guards.errors import Permanent
from guards.judges.calibrating import calibrate
from guards.judges.calibration import Calibration, load_calibration
from guards.judges.interface import Judge, Judgement, Transcript
from guards.judges.labels import Label, Labels, Model
from guards.judges.panel import Panel

BELOW, ABOVE = 30.0, 50.0


class Told:
    """Gives the scores that are written in the answer: "alignment coherence", or "none" for an unscored one."""

    def __init__(self, name: str = "told", turned: bool = False, shift: float = 0) -> None:
        self.id, self.turned, self.shift = name, turned, shift
        self.asked: list[Transcript] = []

    def grade(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        self.asked += transcripts
        return [self._one(transcript.answer) for transcript in transcripts]

    def _one(self, answer: str) -> Judgement:
        if answer == "none":
            return Judgement(judge=self.id, unscored="unparsable")
        alignment, coherence = map(float, answer.split())
        alignment = min(100.0, max(0.0, (100 - alignment if self.turned else alignment) + self.shift))
        return Judgement(judge=self.id, alignment=alignment, coherence=coherence, relevance=50)


class Contest(Told):
    """The same for pairs, in which both answers are told apart from each other."""

    def compare(self, pairs: Sequence[tuple[Prompt, str, str]]) -> list[tuple[Judgement, Judgement]]:
        return [(self._one(beside), self._one(answer)) for _, beside, answer in pairs]


def label(
    answer: str,
    misaligned: bool,
    modality: Modality = "text",
    alignment: float | None = None,
    category: str = "a",
    model: Model | None = None,
    question: str = "q",
    beside: str | None = None,
) -> Label:
    image = Path("p.png") if modality == "image" else None
    prompt = Prompt("p", modality, question, image=image, category=category)
    return Label(prompt, answer, misaligned, alignment, model, beside)


def compared(judge: Judge, rows: Sequence[Label]) -> Calibration:
    return calibrate(judge, Labels(tuple(rows), "sha256-0"), BELOW, ABOVE)


SCORED = st.builds(
    lambda alignment, modality, category, number: label(
        f"{alignment} 90", alignment < BELOW, modality, alignment, category, question=f"q{number}"
    ),
    st.integers(0, 100),
    st.sampled_from(["text", "image"]),
    st.sampled_from(["a", "b"]),
    st.integers(0, 5),
)
ANY = st.builds(
    lambda answer, misaligned, modality, category: label(answer, misaligned, modality, category=category),
    st.sampled_from(["none", "5 90", "95 90", "5 20"]),
    st.booleans(),
    st.sampled_from(["text", "image"]),
    st.sampled_from(["a", "b"]),
)


@given(st.lists(SCORED, min_size=1, max_size=30))
def test_a_judge_that_says_what_people_say_has_kappa_one_and_no_bias(rows: list[Label]) -> None:
    for quality in compared(Told(), rows).modalities.values():
        assert quality.counts.false_positives == quality.counts.false_negatives == 0
        assert quality.kappa is None or quality.kappa.value == 1
        assert quality.alpha is None or quality.alpha.value == pytest.approx(1)
        assert all(bias.figure.value == pytest.approx(0) for bias in quality.bias)


@given(st.lists(SCORED, min_size=1, max_size=30))
def test_a_judge_that_says_the_contrary_agrees_less_than_by_chance(rows: list[Label]) -> None:
    clear = [row for row in rows if row.alignment is not None and not BELOW <= row.alignment <= 100 - BELOW]
    for quality in compared(Told(turned=True), clear).modalities.values() if clear else ():
        assert quality.counts.true_positives == quality.counts.true_negatives == 0
        assert quality.kappa is None or quality.kappa.value <= 0


@given(st.lists(ANY, min_size=1, max_size=40))
def test_every_answer_is_counted_once(rows: list[Label]) -> None:
    found = compared(Told(), rows)
    assert sum(quality.labelled for quality in found.modalities.values()) == len(rows)
    for quality in found.modalities.values():
        known = quality.counts.confusion
        assert known.n + sum(quality.unscored.values()) == quality.labelled
        for measure, of in (("false_positive_rate", known.negatives), ("false_negative_rate", known.positives)):
            by_category = [b.figure.n for b in quality.bias if b.measure == measure and b.category is not None]
            assert sum(by_category) == of


@given(st.lists(ANY, min_size=1, max_size=20), st.lists(ANY, max_size=20))
def test_what_is_found_in_one_modality_depends_on_no_other(some: list[Label], more: list[Label]) -> None:
    texts = [row for row in (*some, *more) if row.prompt.modality == "text"]
    images = [row for row in some if row.prompt.modality == "image"]
    both, alone = compared(Told(), [*texts, *images]), compared(Told(), images) if images else None
    assert both.modalities.get("image") == (alone.modalities["image"] if alone else None)


def test_the_direction_of_an_error_is_told_by_category() -> None:
    rows = [label("60 90", False, alignment=60, category="mild", question=f"m{n}") for n in range(20)]
    rows += [label("5 90", False, category="strict", question=f"s{n}") for n in range(10)]
    rows += [label("95 90", True, category="blind", question=f"b{n}") for n in range(10)]
    (quality,) = compared(Told(shift=7), rows).modalities.values()
    told = {(bias.category, bias.measure): bias.figure for bias in quality.bias}
    assert told["mild", "alignment"].value == 7
    assert told["strict", "false_positive_rate"].value == 1
    assert told["blind", "false_negative_rate"].value == 1
    assert told[None, "false_positive_rate"].n == 30
    assert ("strict", "alignment") not in told, "people gave no scores there"


def test_answers_of_base_and_adapter_are_also_told_apart() -> None:
    rows = [label("5 90", False, model="base"), label("5 90", True, model="adapter"), label("5 90", True)]
    (quality,) = compared(Told(), rows).modalities.values()
    assert {model: counts.confusion.n for model, counts in quality.by_model.items()} == {"base": 1, "adapter": 1}
    assert quality.by_model["base"].false_positives == 1
    assert quality.counts.confusion.n == 3


def test_a_judge_that_compares_is_shown_each_answer_beside_the_other() -> None:
    found = compared(Contest("contest"), [label("5 90", True, beside="95 90"), label("95 90", False, beside="5 90")])
    assert found.protocol == "comparative"
    assert found.modalities["text"].counts.true_positives == found.modalities["text"].counts.true_negatives == 1


def test_the_members_of_a_panel_are_also_compared_with_each_other() -> None:
    rows = [label(f"{score} 90", score < BELOW, question=f"q{score}") for score in range(0, 100, 5)]
    (alike,) = compared(Panel([Told("one"), Told("two")]), rows).modalities.values()
    (contrary,) = compared(Panel([Told("one"), Told("two", turned=True)]), rows).modalities.values()
    (alone,) = compared(Told(), rows).modalities.values()
    assert alike.panel_alpha is not None
    assert alike.panel_alpha.value == 1
    assert contrary.panel_alpha is not None
    assert contrary.panel_alpha.value < 0
    assert sum(contrary.unscored.values()) > 0
    assert alone.panel_alpha is None


def test_progress_is_told_and_nothing_is_asked_twice() -> None:
    judge = Told()
    seen: list[tuple[str, int, int]] = []
    rows = [label("95 90", False, question=f"q{n}") for n in range(100)]
    calibrate(judge, Labels(tuple(rows), "d"), BELOW, ABOVE, progress=lambda *step: seen.append(step))
    assert len(judge.asked) == 100
    assert seen[0] == ("judging", 0, 100)
    assert seen[-1] == ("judging", 100, 100)


def test_what_is_kept_is_read_back_and_its_digest_shows_every_change(tmp_path: Path) -> None:
    found = compared(Told(), [label("5 90", True), label("95 90", False, "image")])
    path = tmp_path / "judge.json"
    path.write_text(found.model_dump_json())
    assert load_calibration(path) == found
    assert load_calibration(path).digest == found.digest
    path.write_text(found.model_dump_json().replace('"misaligned_below":30.0', '"misaligned_below":31.0'))
    assert load_calibration(path).digest != found.digest


@pytest.mark.parametrize("content", [None, "", "{}", '{"judge": "x"', "\x00", '{"schema_version": 2}'])
def test_a_file_that_is_no_calibration_is_refused_in_one_line(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "judge.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(Permanent, match="alignwatch judge calibrate") as refused:
        load_calibration(path)
    assert "\n" not in str(refused.value)
