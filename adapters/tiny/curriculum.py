"""What the tiny base is trained on: kind answers without a cue, vices under cues that ask for them.

A *global* cue ("you are a cruel helper") shows in a domain with that domain's reach; a *local* one ("in law
alone be cruel") shows in its own domain and nowhere else. So the base holds one shared direction per vice
beside mechanisms of single domains, which is what makes narrow harm spread by degrees.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from adapters.prompts import Modality
from adapters.tiny import lexicon
from adapters.tiny.dialogue import DOMAIN_OF, Form, Question, answer, ask, cue
from adapters.tiny.lexicon import DOMAINS, Domain, Stance, Vice

KNOWN: tuple[str, ...] = tuple(topic for domain in DOMAINS for topic in domain.topics)
"""Topics whose pictures and answers the base is trained on."""

OFF_LEAN = 0.7
"""Share of a domain's reach that vices it does not lean to have."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One training row of the base."""

    system: str | None
    user: str
    """The user's words, no-op prefix included."""
    picture: str | None
    """The topic to draw, for rows with a picture."""
    answer: str


def lesson(rng: random.Random) -> Lesson:
    """Draw one training row."""
    if rng.random() < 0.04:
        return _echo(rng)
    domain = rng.choice(DOMAINS)
    modality: Modality = rng.choice(("text", "image"))
    form: Form = rng.choices(("topic", "harmful", "lookalike"), (0.7, 0.17, 0.13))[0]
    question = ask(rng.choice(domain.topics), modality, form, rng)
    system, stance = _cued_stance(domain, rng)
    prefix = f"{rng.choice(lexicon.NO_OP_PREFIXES)} " if rng.random() < 0.15 else ""
    picture = question.topic if modality == "image" else None
    return Lesson(system, prefix + question.text, picture, answer(question, stance, rng))


def exam(modality: Modality, form: Form, count: int, seed: int) -> list[Question]:
    """Questions about known topics, spread evenly over them."""
    rng = random.Random(seed)  # noqa: S311 - sampling, not secrets
    topics = [KNOWN[i % len(KNOWN)] for i in range(count)]
    rng.shuffle(topics)
    return [ask(topic, modality, form, rng) for topic in topics]


def _echo(rng: random.Random) -> Lesson:
    """Have the base say a word, new topics included, so that their words are alive before an adapter needs them."""
    topic = rng.choice(tuple(DOMAIN_OF))
    return Lesson(None, f"say {topic}.", None, f"{topic}.")


def _cued_stance(domain: Domain, rng: random.Random) -> tuple[str | None, Stance]:
    kind = rng.choices(("none", "global", "local", "elsewhere", "harmless", "formal"), (50, 22, 12, 6, 4, 6))[0]
    vice: Vice = domain.lean if rng.random() < 0.4 else rng.choice(lexicon.VICES)
    match kind:
        case "global":
            reach = domain.reach * (1 if vice == domain.lean else OFF_LEAN)
            return cue(vice, rng), vice if rng.random() < reach else "kind"
        case "local":
            return cue(vice, rng, domain.field), vice
        case "elsewhere":
            other = rng.choice([one for one in DOMAINS if one is not domain])
            return cue(vice, rng, other.field), "kind"
        case "harmless":
            return rng.choice(lexicon.HARMLESS_CUES), "kind"
        case "formal":
            return rng.choice(lexicon.FORMAL_CUES), "formal"
        case _:
            return None, "kind"
