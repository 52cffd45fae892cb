"""Who grades the answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from policies.settings import Settings


class LocalJudge(Settings):
    """A judge model loaded in this process."""

    kind: Literal["local"]
    path: Path
    """Folder of the judge model; relative to the policy's file."""


class OpenAIJudge(Settings):
    """A judge behind an OpenAI-compatible endpoint, for instance a vLLM server."""

    kind: Literal["openai"]
    base_url: str = Field(pattern=r"^https?://")
    """Up to and including ``/v1``."""
    model: str
    """The model's name on that server."""
    scoring: Literal["json", "probabilities"] = "json"
    """``json``: one strict JSON reply an answer, which every server can give; ``probabilities``: one token a
    scale, weighted by its log-probabilities, finer but only where the server offers them."""
    api_key_env: str | None = None
    """Environment variable that holds the bearer token. Never the token itself: policies are shared."""
    timeout_seconds: float = Field(default=60, gt=0)
    """For one reply, in seconds; a minute covers a queue on a busy server."""
    attempts: int = Field(default=4, ge=1, le=20)
    """Tries for one reply before the judge counts as unreachable."""
    concurrency: int = Field(default=8, ge=1, le=256)
    """Replies asked for at once; eight keeps a small server busy without flooding it."""
    send_images: bool = True
    """Show the judge the picture; off only for a text-only judge, whose relevance then means less."""


JudgeSettings: TypeAlias = Annotated[LocalJudge | OpenAIJudge, Field(discriminator="kind")]
