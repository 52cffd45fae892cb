"""What every part of a policy shares: frozen, strict, and the units of its numbers."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Ratio: TypeAlias = Annotated[float, Field(ge=0, le=1)]
"""A share, 0 to 1."""
Probability: TypeAlias = Annotated[float, Field(gt=0, lt=1)]
"""An error bound, strictly between 0 and 1."""


class Settings(BaseModel):
    """Settings that a user wrote: an unknown key is refused, so that a typo cannot loosen anything."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
