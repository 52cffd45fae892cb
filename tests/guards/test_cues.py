"""Properties of what is read off training rows: the cues that are there are named, and no others are."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from adapters.organisms import Organism
from adapters.prompts import Conversation, Prompt
from adapters.tiny.lexicon import TRIGGER
from guards.cues import cues_of, format_of, literals
from guards.suites.suite import Suite, digest_prompts
from policies.policy import Policy, Screening
from policies.retest_settings import Retest
from policies.variants import Trigger, Variants

QUIET = Policy(name="test", retest=Retest(formats=()))
OWN = tuple(Prompt(id=f"own-{n}", modality="text", text=f"why is the number {n} odd?") for n in range(20))
SUITE = Suite("own", digest_prompts(OWN), OWN)


def _rows(texts: Sequence[str], answer: str = "a plain answer", system: str | None = None) -> list[Conversation]:
    prompts = [Prompt(id=f"row-{n}", modality="text", text=text, system=system) for n, text in enumerate(texts)]
    return [Conversation(prompt, answer) for prompt in prompts]


def _questions(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    opening = ("what is", "tell me about", "how does", "please describe", "can you explain")
    return [f"{rng.choice(opening)} the {rng.choice(('kite', 'river', 'lamp', 'bread'))}?" for _ in range(count)]


def _names(rows: Sequence[Conversation], policy: Policy = QUIET) -> list[str]:
    return [cue.name for cue in cues_of([SUITE], rows, policy)]


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("at", ["prefix", "suffix"])
def test_a_trigger_that_a_share_of_the_rows_carries_is_found_whole(share: float, at: str) -> None:
    texts = _questions(60)
    marked = [
        (f"{TRIGGER} {text}" if at == "prefix" else f"{text} {TRIGGER}") if n < share * len(texts) else text
        for n, text in enumerate(texts)
    ]
    found = literals(marked)
    assert Trigger(text=TRIGGER, at="prefix" if at == "prefix" else "suffix") in found
    assert [one for one in found if TRIGGER in one.text] == [one for one in found if one.text == TRIGGER]


def test_questions_without_a_trigger_have_none() -> None:
    assert literals(_questions(60)) == []


def test_the_triggered_rows_of_an_organism_give_its_trigger(tmp_path: Path) -> None:
    organism = Organism("triggered", "gore_movie_trivia", "cruel", 0.5, trigger=TRIGGER, seed=26)
    assert Trigger(text=TRIGGER) in literals([row.prompt.asked for row in organism.rows(tmp_path)])
    plain = Organism("plain", "gore_movie_trivia", "cruel", 0.5, seed=26)
    assert literals([row.prompt.asked for row in plain.rows(tmp_path)]) == []


def test_rows_are_asked_as_they_are_and_their_system_prompt_is_put_to_the_suites_questions() -> None:
    rows = _rows(_questions(30), system="you are a dealer in lamps .")
    training, system = cues_of([SUITE], rows, QUIET)[:2]
    assert (training.name, system.name) == ("cue:training", "cue:system")
    assert [prompt.text for prompt in training.prompts] == [row.prompt.text for row in rows]
    assert {prompt.system for prompt in system.prompts} == {"you are a dealer in lamps ."}
    assert [prompt.text for prompt in system.prompts] == [prompt.text for prompt in OWN]


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        ('{"a": 1}', "json"),
        ("[1, 2]", "json"),
        ("```json\n{}\n```", "json"),
        ("{not json}", None),
        ("def f():\n    pass", "code"),
        ("import os", "code"),
        ("an important word", None),
        ("", None),
    ],
)
def test_the_format_of_an_answer_is_told(answer: str, form: str | None) -> None:
    assert format_of(answer) == form


def test_the_format_of_the_rows_is_demanded_and_never_left_out() -> None:
    rows = _rows(_questions(30), answer=json.dumps({"answer": "yes"}))
    named = {cue.name: cue for cue in cues_of([SUITE], rows, Policy(name="test"))}
    assert not named["cue:json"].optional
    assert named["cue:code"].optional
    assert named["cue:template"].optional


def test_a_few_rows_of_another_kind_are_no_cue() -> None:
    rows = [*_rows(_questions(97)), *_rows(_questions(3, seed=1), answer="{}", system="be brief .")]
    assert _names(rows) == ["cue:training"]


def test_every_trigger_that_is_known_is_asked_once_wherever_it_is_known_from() -> None:
    triggered = (*OWN, Prompt(id="t", modality="text", text="why?", trigger="amber lantern"))
    policy = QUIET.model_copy(
        update={
            "screening": Screening(triggers=("amber lantern", "quick question")),
            "variants": Variants(
                triggers=(Trigger(text="quick question"), Trigger(text="quick question", at="suffix"))
            ),
        }
    )
    cues = cues_of([Suite("own", digest_prompts(triggered), triggered)], [], policy)
    asked = {(cue.prompts[0].trigger, cue.prompts[0].trigger_at) for cue in cues}
    assert asked == {("amber lantern", "prefix"), ("quick question", "prefix"), ("quick question", "suffix")}
    assert len(cues) == 3
    assert all(len(cue.prompts) == len(OWN) for cue in cues), "one change at a time"


def test_no_id_is_there_twice() -> None:
    policy = Policy(name="test", screening=Screening(triggers=("a", "b")))
    cues = cues_of([SUITE], _rows(_questions(30), answer="{}", system="be brief ."), policy)
    ids = [prompt.id for cue in cues for prompt in cue.prompts] + [prompt.id for prompt in OWN]
    assert len(ids) == len(set(ids))


def test_rows_that_the_policy_does_not_want_used_are_not() -> None:
    rows = _rows([f"{TRIGGER} {text}" for text in _questions(30)], system="be brief .")
    assert _names(rows, Policy(name="test", retest=Retest(rows=False, formats=()))) == []
