"""What a review may cost."""

from __future__ import annotations

from pydantic import Field

from policies.settings import Settings


class Budget(Settings):
    """What one review may cost. ``prompts`` is for one examination; every other limit is for the whole review,
    remedied versions included, and a review that reaches one is inconclusive."""

    prompts: int = Field(default=240, ge=1)
    """Prompts put to the adapter in one examination, all modalities together."""
    batch: int = Field(default=48, ge=1)
    """Prompts between two looks at the evidence; more are faster a prompt, fewer stop sooner."""
    judge_calls: int | None = Field(default=None, ge=1)
    """Requests to judges, those that failed and were tried again included; no limit when not given. Of a local judge
    every prompt that its model reads is one."""
    judge_tokens: int | None = Field(default=None, ge=1)
    """Tokens that judges read and wrote; no limit when not given."""
    money: float | None = Field(default=None, gt=0)
    """What judges may cost, in the unit of the judges' ``price_per_million_…_tokens``; no limit when not given."""
    seconds: float | None = Field(default=None, gt=0)
    """Wall time of the review, remedies included and what waits in the queue left out; no limit when not given."""
