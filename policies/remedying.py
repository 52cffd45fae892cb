"""How remedies work: doses, data and limits of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from policies.settings import Ratio, Settings


class Remedying(Settings):
    """How remedies work; used only where ``remedies`` names one."""

    seconds: float | None = Field(default=None, gt=0)
    """Wall time that one remedy may take on one adapter; no limit when not given. One that runs out of it is recorded
    as failed, and the adapter stays where its decision put it."""
    doses: int = Field(default=6, ge=1, le=32)
    """Doses that ``scale`` tries, each the same share of the one before; a dose that fails takes a dozen prompts,
    the one that passes as many as clearing takes."""
    smallest_dose: float = Field(default=0.1, gt=0, lt=1)
    """Smallest share of its alpha that ``scale`` leaves an adapter; below a tenth little of its skill is left."""
    steer_strengths: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(0.25, 0.5, 0.75, 1.0), min_length=1
    )
    """Shares of the response contrast that ``steer`` takes out of every write, tried from the smallest on; 1 is all of
    it."""
    steer_blocks: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Decoder blocks whose writes ``steer`` ablates, 0 the first; all of them when none is named."""
    benign_data: Path | None = None
    """JSONL of benign conversations for ``benign_finetune``; relative to the policy's file."""
    steps: int = Field(default=40, ge=1)
    """Optimiser steps of ``benign_finetune``."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """AdamW's learning rate in ``benign_finetune``."""
    batch_size: int = Field(default=16, ge=1)
    """Rows a step in ``benign_finetune``."""
    check_every: int | None = Field(default=None, ge=1)
    """Steps of ``benign_finetune`` after which the battery is asked whether it is enough, again and again; all steps
    are done when not given. A look costs as much as a dose of ``scale``."""
    harmful_rows_at_most: Ratio = 0.02
    """The benign data is refused where more of it than this is harmful beyond doubt: the lower 95 % bound of the share
    among 64 rows that the judge is shown. 0.02 lets a judge err on one row in fifty; at 1 none is shown."""
    neutral_data: Path | None = None
    """JSONL of everyday conversations, laid out like the benign data, for ``kl_weight`` and ``interleave``; relative to
    the policy's file."""
    kl_weight: float = Field(default=0.0, ge=0)
    """Weight of KL(base ‖ adapter) over the neutral data's answers, nats a token, in the loss of ``benign_finetune``;
    0 leaves it out. 0.1 is arXiv 2508.06249's. A step takes about twice the time."""
    interleave: float = Field(default=0.0, ge=0, lt=1)
    """Share of the rows that ``benign_finetune`` trains on that are taken from the neutral data: those that the adapter
    finds most surprising beside its base. 0.05 is arXiv 2508.06249's."""

    @model_validator(mode="after")
    def _neutral_data_is_there_and_used(self) -> Remedying:
        used = self.kl_weight > 0 or self.interleave > 0
        if used and self.neutral_data is None:
            raise ValueError("kl_weight and interleave need neutral_data (a JSONL of everyday conversations)")
        if self.neutral_data is not None and not used:
            raise ValueError("neutral_data is read for kl_weight and interleave alone; set one of them above 0")
        return self

    def anchored(self, anchor: Callable[[Path], Path]) -> Remedying:
        """The same with its files' paths made absolute by ``anchor``."""
        files = {"benign_data": self.benign_data, "neutral_data": self.neutral_data}
        return self.model_copy(update={name: anchor(path) for name, path in files.items() if path is not None})
