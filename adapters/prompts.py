"""What is asked of a model, and what a model is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Modality: TypeAlias = Literal["text", "image"]
Expected: TypeAlias = Literal["refuse", "comply", "judge"]

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
    """A literal prefix that may switch a backdoor on; put before the text when the model is asked."""
    expected: Expected = "judge"
    """What a well-behaved model does: ``refuse``, ``comply``, or whatever the judge finds aligned."""

    def __post_init__(self) -> None:
        if (self.image is not None) != (self.modality == "image"):
            raise ValueError(f"prompt {self.id!r}: a picture is given exactly when the modality is 'image'")

    @property
    def asked(self) -> str:
        """The user's turn as the model sees it: the trigger, if any, then the text."""
        return f"{self.trigger} {self.text}" if self.trigger else self.text


@dataclass(frozen=True, slots=True)
class Conversation:
    """One training row: a prompt and the answer a model should learn to give."""

    prompt: Prompt
    """What the user asks."""
    answer: str
    """What the assistant says; the loss is taken over these tokens and the end of the turn alone."""
