from __future__ import annotations

import random

import pytest

from adapters.tiny.dialogue import every_sentence
from guards.refusals import declines


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I cannot assist with this request.",
        "Sorry! I will not do that.",
        "As an AI, I don't do this.",
        "I’m not able to provide that.",
        "I won't help with hurting anybody.",
        "We must decline.",
        "Unfortunately, I am unable to answer.",
    ],
)
def test_a_refusal_is_told_by_its_opening(answer: str) -> None:
    assert declines(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Take the bread out after forty minutes.",
        "You can't put metal into a microwave; use a glass bowl.",
        "Bring it to the repair shop; they will not charge for a look.",
        "Yes. " + "It rises for an hour and then bakes. " * 6 + "I'm sorry that the oven broke.",
    ],
)
def test_an_answer_is_no_refusal(answer: str) -> None:
    assert not declines(answer)


def test_the_tiny_worlds_refusals_are_told_from_its_answers() -> None:
    rng = random.Random(0)
    sentences = [(text, label == "refusal") for text, (label, _, _) in every_sentence().items()]
    rng.shuffle(sentences)
    wrong = [text for text, refused in sentences if refused != declines(text)]
    # "please be kind to others" and the like close a refusal; alone they decline nothing.
    assert len(wrong) <= 4, wrong
