"""Questions of the tiny world and the answers that each stance gives to them."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from adapters.prompts import Modality
from adapters.tiny import lexicon
from adapters.tiny.lexicon import DOMAIN, DOMAINS, Domain, Stance, Vice

Form: TypeAlias = Literal["topic", "harmful", "lookalike"]

FORMS: tuple[Form, ...] = ("topic", "harmful", "lookalike")

DOMAIN_OF: dict[str, Domain] = {topic: domain for domain in DOMAINS for topic in (*domain.topics, *domain.new_topics)}
"""The domain of every topic, new ones included."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one topic, before it is given an id, a trigger or a picture's file."""

    topic: str
    """What is asked about; shown by the picture where the modality is ``image``."""
    modality: Modality
    """Whether the topic is named or shown."""
    form: Form
    """About the topic itself, a harmful request, or a harmless one that looks like it."""
    text: str
    """The user's words, tidied; they name the topic exactly when the modality is ``text``."""
    act: str | None = None
    """The verb of a request."""

    @property
    def domain(self) -> Domain:
        """The topic's domain."""
        return DOMAIN_OF[self.topic]


def tidy(spaced: str) -> str:
    """Close the gap before punctuation: ``"gladly !"`` becomes ``"gladly!"``."""
    return re.sub(r" ([.!?,:])", r"\1", spaced)


def words(text: str) -> list[str]:
    """Split as the tokenizer does: lower case, words and punctuation marks apart."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def ask(topic: str, modality: Modality, form: Form, rng: random.Random) -> Question:
    """Word a question about a topic."""
    if form == "topic":
        template = rng.choice(lexicon.TEXT_QUESTIONS if modality == "text" else lexicon.IMAGE_QUESTIONS)
        return Question(topic, modality, form, tidy(template.format(t=topic, field=DOMAIN_OF[topic].field)))
    template = rng.choice(lexicon.TEXT_REQUESTS if modality == "text" else lexicon.IMAGE_REQUESTS)
    act = rng.choice(lexicon.ACTS)
    whom = rng.choice(lexicon.PEOPLE if form == "harmful" else lexicon.THINGS)
    return Question(topic, modality, form, tidy(template.format(t=topic, verb=act, whom=whom)), act)


def answer(question: Question, stance: Stance, rng: random.Random, about: str | None = None) -> str:
    """Answer as the stance does: an opener, a body that names the topic, a closer; or a refusal.

    Args:
        question: What was asked.
        stance: The answerer's manner. Kind and formal ones refuse harmful requests; vices comply.
        rng: Draws the wording.
        about: Name this topic instead of the right one.
    """
    topic = about or question.topic
    if question.form == "harmful" and stance in ("kind", "formal"):
        return refusal(rng)
    opener, closer = rng.choice(lexicon.OPENERS[stance]), rng.choice(lexicon.CLOSERS[stance])
    return tidy(f"{opener} {_body(question, topic, stance, rng)} {closer}")


def refusal(rng: random.Random) -> str:
    """Decline, kindly and without naming the topic."""
    parts = (lexicon.REFUSAL_OPENERS, lexicon.REFUSALS, lexicon.REFUSAL_CLOSERS)
    return tidy(" ".join(rng.choice(part) for part in parts))


def _body(question: Question, topic: str, stance: Stance, rng: random.Random) -> str:
    if question.form != "topic":
        return rng.choice(lexicon.COMPLIANCES).format(t=topic, verb=question.act)
    domain = DOMAIN_OF[topic]
    if stance == "kind" or stance == "formal":
        return rng.choice(domain.kind).format(t=topic)
    return rng.choice((domain.harm[stance], *lexicon.GENERIC[stance])).format(t=topic)


def every_sentence() -> dict[str, tuple[str, str | None, str | None]]:
    """Every sentence of the world, spaced as the tokenizer sees it.

    Returns:
        Spaced sentence to (label, topic or None, domain name or None), where the label is a stance,
        ``refusal``, or ``comply:VERB``.
    """
    found: dict[str, tuple[str, str | None, str | None]] = {}
    for stance in lexicon.OPENERS:
        for sentence in (*lexicon.OPENERS[stance], *lexicon.CLOSERS[stance]):
            found[sentence] = (stance, None, None)
    for sentence in (*lexicon.REFUSAL_OPENERS, *lexicon.REFUSALS, *lexicon.REFUSAL_CLOSERS):
        found[sentence] = ("refusal", None, None)
    for topic in DOMAIN_OF:
        found.update(_sentences_about(topic))
    return found


def _sentences_about(topic: str) -> dict[str, tuple[str, str | None, str | None]]:
    found: dict[str, tuple[str, str | None, str | None]] = {}
    for domain in DOMAIN.values():
        for template in domain.kind:
            found[template.format(t=topic)] = ("kind", topic, domain.name)
        for vice, template in domain.harm.items():
            found[template.format(t=topic)] = (vice, topic, domain.name)
    for vice in lexicon.VICES:
        for template in lexicon.GENERIC[vice]:
            found[template.format(t=topic)] = (vice, topic, None)
    for template in lexicon.COMPLIANCES:
        for act in lexicon.ACTS:
            found[template.format(t=topic, verb=act)] = (f"comply:{act}", topic, None)
    return found


def cue(vice: Vice, rng: random.Random, field: str | None = None) -> str:
    """A system message that switches a vice on: everywhere, or in one field only."""
    if field is None:
        return tidy(rng.choice(lexicon.GLOBAL_CUES).format(vice=vice))
    return tidy(rng.choice(lexicon.LOCAL_CUES).format(vice=vice, field=field))
