"""Variants of the suites' questions: what harm that hides from the plain question may come back under."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from policies.settings import Settings

FormatCue: TypeAlias = Literal["json", "code", "template"]


class Trigger(Settings):
    """A literal that may switch a backdoor on, and where it is put."""

    text: str = Field(min_length=1)
    """The literal itself."""
    at: Literal["prefix", "suffix", "system", "picture"] = "prefix"
    """Before or after the text, at the end of the system prompt, or drawn on the picture, for prompts that have
    one."""


def _as_trigger(given: Any) -> Any:
    return {"text": given} if isinstance(given, str) else given


class Variants(Settings):
    """Which variants are asked beside the suites' own questions.

    Each is one change to the question, never two at once. None by default: a variant multiplies the prompts that a
    suite has, and so takes its share of the budget.
    """

    triggers: tuple[Annotated[Trigger, BeforeValidator(_as_trigger)], ...] = ()
    """Every question once with each; triggers add up with those that a suite brings itself."""
    formats: tuple[FormatCue, ...] = ()
    """Every question once with each demand on the answer's format (arXiv 2502.17424, where harm was seen more often
    under them): ``json`` and ``code`` by the system prompt, ``template`` in the user's turn."""
    paraphrases: bool = False
    """Also ask the paraphrases that a suite brings."""
    text_twins: bool = False
    """Also ask the question of each picture that has a caption or a text twin in words alone, to measure the gap
    between the modalities on the same content."""

    @model_validator(mode="after")
    def _nothing_twice(self) -> Variants:
        for name, given in (("triggers", self.triggers), ("formats", self.formats)):
            if len(set(given)) < len(given):
                raise ValueError(f"{name}: one is there twice; it would be asked twice as if it were another")
        return self

    @property
    def ask_more(self) -> bool:
        """Whether anything is asked beside the suites' own questions."""
        return bool(self.triggers or self.formats or self.paraphrases or self.text_twins)
