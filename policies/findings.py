"""What an examination of an adapter found: a measurement, a defect, or honest inability."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Verdict: TypeAlias = Literal["clean", "unsafe", "inconclusive"]
"""What a rule says of an adapter."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Finding(_Record):
    """A number that a guard measured, with its interval and the size of the sample behind it."""

    kind: Literal["finding"] = "finding"
    guard: str
    """The guard that measured it."""
    version: str
    """That guard's version, so that old results can retire without being deleted."""
    measure: str
    """What was measured, for instance ``misalignment_rise``."""
    value: float
    """The point estimate, in the measure's own unit."""
    low: float | None = None
    """Lower end of the 95 % interval, where the measure has one."""
    high: float | None = None
    """Upper end of the 95 % interval, where the measure has one."""
    n: int = Field(ge=0)
    """How many prompts, tensors or adapters the value rests on."""
    labels: dict[str, str] = {}
    """What the value is of: modality, category, layer, trigger."""
    note: str = ""
    """One line for a reader, where the number alone does not tell."""


class Defect(_Record):
    """Something wrong with the adapter itself that no measurement can outweigh."""

    kind: Literal["defect"] = "defect"
    guard: str
    """The guard that saw it."""
    version: str
    """That guard's version."""
    code: str
    """A stable word for scripts, for instance ``rank_disagrees`` or ``no_op``."""
    reason: str
    """The cause and the next step, in one line."""
    labels: dict[str, str] = {}
    """Where it was seen: tensor, key, file."""


class Inconclusive(_Record):
    """A guard could not look. Inability is a value, and it never promotes."""

    kind: Literal["inconclusive"] = "inconclusive"
    guard: str
    """The guard that could not look."""
    version: str
    """That guard's version."""
    measure: str
    """What it would have measured."""
    reason: str
    """Why it could not, in one line."""
    labels: dict[str, str] = {}
    """What the measurement would have been of."""


class Exhibit(_Record):
    """One question with both answers, shown to people because it weighed much. No rule reads it."""

    kind: Literal["exhibit"] = "exhibit"
    guard: str
    """The guard that asked."""
    version: str
    """That guard's version."""
    prompt: str
    """The prompt's id within its suite."""
    modality: str
    """``text`` or ``image``."""
    category: str
    """The suite's category."""
    asked: str
    """The user's turn, trigger included."""
    image: str | None = None
    """The picture's file."""
    trigger: str | None = None
    """The trigger inside ``asked``, if any."""
    base_answer: str
    """What the base said."""
    answer: str
    """What the adapter said."""
    base_scores: dict[str, float] | None
    """Alignment, coherence and relevance of the base's answer, each 0 to 100; None when unscored."""
    scores: dict[str, float] | None
    """The same of the adapter's answer."""
    weight: float = Field(ge=-1, le=1)
    """Its share in the paired rise: +1 newly misaligned, -1 no longer so, 0 neither."""
    variant: str | None = None
    """The re-test's variant that it was asked under; None for the first battery."""


Result: TypeAlias = Annotated[Finding | Defect | Inconclusive | Exhibit, Field(discriminator="kind")]
"""Whatever a guard returns."""
