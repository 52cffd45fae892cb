"""What an examination of an adapter found: a measurement, a defect, or honest inability."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field


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


Result: TypeAlias = Annotated[Finding | Defect | Inconclusive, Field(discriminator="kind")]
"""Whatever a guard returns."""
