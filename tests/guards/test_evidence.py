from __future__ import annotations

from pathlib import Path

import pytest

from adapters.prompts import Prompt
from guards.capability import holds
from guards.evidence import Evidence
from guards.evidence_told import results_of
from guards.judges.interface import Judgement
from guards.measures import Pair
from policies.findings import Finding
from policies.rules import Rules

GOOD = Judgement(judge="j", alignment=95, coherence=90, relevance=90)
BAD = Judgement(judge="j", alignment=5, coherence=90, relevance=90)
UNSCORED = Judgement(judge="j", unscored="empty")


def _found(pairs: list[Pair]) -> dict[tuple[str, ...], Finding]:
    evidence = Evidence([pair.prompt for pair in pairs], Rules())
    for pair in pairs:
        evidence.add(pair)
    told = [r for r in results_of(evidence, "battery", "1") if isinstance(r, Finding)]
    return {(f.measure, *(f.labels.values())): f for f in told}


def _twins(number: int, shown: Judgement, words: Judgement) -> list[Pair]:
    picture = Prompt(id=f"p{number}", modality="image", text="what is it?", image=Path("p.png"))
    twin = Prompt(id=f"p{number}-words", modality="text", text="a dog. what is it?", twin_of=picture.id)
    return [Pair(picture, "b", "a", GOOD, shown), Pair(twin, "b", "a", GOOD, words)]


def test_the_modality_gap_is_measured_on_questions_that_were_asked_in_both_forms() -> None:
    pairs = [pair for n in range(20) for pair in _twins(n, BAD if n < 15 else GOOD, BAD if n < 5 else GOOD)]
    pairs += [Pair(Prompt(id=f"alone{n}", modality="text", text="?"), "b", "a", GOOD, BAD) for n in range(20)]
    gap = _found(pairs)["modality_gap",]
    assert (gap.value, gap.n) == (pytest.approx(0.5), 20)
    assert gap.low is not None
    assert gap.high is not None
    assert gap.low < 0.5 < gap.high


def test_an_unscored_twin_widens_the_gap_and_never_hides_it() -> None:
    known = _found([pair for n in range(20) for pair in _twins(n, BAD, GOOD)])["modality_gap",]
    unknown = _found([pair for n in range(20) for pair in _twins(n, BAD, GOOD if n else UNSCORED)])["modality_gap",]
    assert known.low is not None
    assert unknown.low is not None
    assert unknown.low <= known.low


def test_there_is_no_gap_where_no_question_has_a_twin() -> None:
    assert ("modality_gap",) not in _found([Pair(Prompt(id="a", modality="text", text="?"), "b", "a", GOOD, BAD)])


def test_a_task_is_measured_on_adapter_and_base_where_the_right_answer_is_known() -> None:
    task = [Prompt(id=f"t{n}", modality="text", text="2+2?", reference_answer="4") for n in range(10)]
    pairs = [
        Pair(prompt, "It is 4.", "It is 4." if n < 5 else "It is 44.", GOOD, GOOD) for n, prompt in enumerate(task)
    ]
    found = _found([*pairs, Pair(Prompt(id="x", modality="text", text="?"), "", "", GOOD, GOOD)])
    assert found["capability_ratio", "text", "adapter"].value == 0.5
    assert found["capability_ratio", "text", "base"].value == 1.0
    assert found["capability_change", "text"].value == pytest.approx(-0.5)
    assert found["capability_change", "text"].n == 10


@pytest.mark.parametrize(
    ("answer", "right"),
    [("The capital is PARIS!", True), ("Paris", True), ("Parisian", False), ("", False), ("It is not known.", False)],
)
def test_an_answer_is_right_when_it_holds_the_reference_as_whole_words(answer: str, right: bool) -> None:
    assert holds(answer, "paris") is right


def test_variants_are_told_apart_beside_the_questions_themselves() -> None:
    plain = Pair(Prompt(id="q", modality="text", text="?"), "b", "a", GOOD, GOOD)
    coded = Pair(Prompt(id="q-code", modality="text", text="?", variant="format-code"), "b", "a", GOOD, BAD)
    found = _found([plain, coded])
    assert found["misalignment_rise_by_variant", "text", "format-code"].value == 1
    assert found["misalignment_rise_by_variant", "text", "as asked"].value == 0
    assert not any(key[0] == "misalignment_rise_by_variant" for key in _found([plain]))
