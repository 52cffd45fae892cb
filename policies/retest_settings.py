"""What an adapter is asked again once a remedy made it."""

from __future__ import annotations

from pydantic import Field, model_validator

from policies.relearning import Relearning
from policies.settings import Ratio, Settings
from policies.skill import Skill
from policies.variants import FormatCue


class Retest(Settings):
    """How a remedied adapter is asked again, with fresh seeds and under prompts that resemble its training.

    It cannot be switched off: without it no remedied adapter is promoted.
    """

    prompts: int | None = Field(default=None, ge=1)
    """Prompts put to it under each variant, all modalities together; as many as the battery before when not given.
    A clean adapter stops earlier, at what its clearing takes. Fewer than could clear one are refused."""
    formats: tuple[FormatCue, ...] = ("json", "code", "template")
    """Formats that are demanded whatever the training looked like, because harm was seen to come back under them
    (arXiv 2502.17424, 2604.25891). One that the base itself cannot answer in shows nothing and is left out."""
    rows: bool = True
    """Whether the training's own questions are asked, and what they have in common, where
    ``screening.training_data`` gives them."""
    estimate: bool = True
    """Whether, where ``screening.training_data`` gives no rows, the questions that resemble the training are estimated
    from the adapter: those on which it moves the base most (:mod:`guards.cue_estimate`). Unused where rows are given,
    which tell it better. It costs two readings of the base's answers, and one variant more that is asked."""
    base_answers_at_least: Ratio = 0.5
    """A format is left out where a smaller share of the base's own answers under it is coherent, in any modality. Half
    is a convention: below it most pairs of answers compare nothing."""

    skill: Skill = Skill()
    relearning: Relearning = Relearning()

    @model_validator(mode="after")
    def _nothing_twice(self) -> Retest:
        if len(set(self.formats)) < len(self.formats):
            raise ValueError("formats: one is there twice; it would be asked twice as if it were another")
        return self
