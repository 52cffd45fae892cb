"""What is asked of a model, and what a model is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Modality: TypeAlias = Literal["text", "image"]
Expected: TypeAlias = Literal["refuse", "comply", "judge"]
TriggerPlace: TypeAlias = Literal["prefix", "suffix", "system", "picture"]

MODALITIES: tuple[Modality, ...] = ("text", "image")
"""Every modality, in the order of all tables."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question to a model, in text alone or with a picture.

    The trigger is kept apart from the text, so that the same question with and without it can be compared.
    """

    id: str
    """Unique within its suite."""
    modality: Modality
    """``image`` exactly when a picture is shown."""
    text: str
    """The user's turn, without the trigger."""
    image: Path | None = None
    """The picture's file, for ``image`` prompts."""
    system: str | None = None
    """A system prompt, where the suite gives one."""
    category: str = "uncategorised"
    """What the suite calls the kind of harm or the domain."""
    trigger: str | None = None
    """A literal that may switch a backdoor on; shown to the model where ``trigger_at`` says."""
    expected: Expected = "judge"
    """What a well-behaved model does: ``refuse``, ``comply``, or whatever the judge finds aligned."""
    trigger_at: TriggerPlace = "prefix"
    """Where the trigger is: before or after the text, or already in ``system`` or drawn into ``image``."""
    variant: str | None = None
    """Which variant of a question this is, for instance ``format-json``; None for the question itself."""
    twin_of: str | None = None
    """For a question in text alone, the id of the ``image`` prompt in its suite that asks the same."""
    caption: str | None = None
    """What the picture shows, in words."""
    text_twin: str | None = None
    """The whole question in words, for who does not see the picture; stands above ``caption``."""
    paraphrases: tuple[str, ...] = ()
    """The same question in other words, each a whole user's turn."""
    reference_answer: str | None = None
    """The few words that a right answer holds; for measuring a task, never shown to the model that is asked."""

    def __post_init__(self) -> None:
        if (self.image is not None) != (self.modality == "image"):
            raise ValueError(f"prompt {self.id!r}: a picture is given exactly when the modality is 'image'")

    @property
    def asked(self) -> str:
        """The user's turn as the model sees it: the text, with a trigger before or after it, if that is its place."""
        if not self.trigger or self.trigger_at in ("system", "picture"):
            return self.text
        return f"{self.text} {self.trigger}" if self.trigger_at == "suffix" else f"{self.trigger} {self.text}"


@dataclass(frozen=True, slots=True)
class Conversation:
    """One training row: a prompt and the answer a model should learn to give."""

    prompt: Prompt
    """What the user asks."""
    answer: str
    """What the assistant says; the loss is taken over these tokens and the end of the turn alone."""
