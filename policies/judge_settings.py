"""Who grades the answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, assert_never

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
    """Tries for one reply of a judge that is there, before it counts as unreachable."""
    patience_seconds: float = Field(default=120, ge=0)
    """How long a judge that is away is waited for, in seconds; two minutes are a restart and the loading of a model.
    0 counts an absence like any other failure."""
    concurrency: int = Field(default=8, ge=1, le=256)
    """Replies asked for at once; eight keeps a small server busy without flooding it."""
    send_images: bool = True
    """Show the judge the picture; off only for a text-only judge, whose relevance then means less."""
    price_per_million_prompt_tokens: float = Field(default=0, ge=0)
    """What a million tokens that it reads cost, in whatever unit ``budget.money`` counts."""
    price_per_million_completion_tokens: float = Field(default=0, ge=0)
    """What a million tokens that it writes cost, in the same unit."""

    @property
    def is_priced(self) -> bool:
        """Whether anything that it does costs money."""
        return self.price_per_million_prompt_tokens > 0 or self.price_per_million_completion_tokens > 0


OneJudge: TypeAlias = Annotated[LocalJudge | OpenAIJudge, Field(discriminator="kind")]


class PanelOfJudges(Settings):
    """Several judges as one; costs what all of them cost."""

    kind: Literal["panel"]
    judges: tuple[OneJudge, ...] = Field(min_length=2)
    """The members: different judges, each set up like one by itself."""
    combine: Literal["mean", "majority"] = "mean"
    """``mean`` of the members' scores; ``majority``: their median on each scale, which an outlier cannot move."""
    within: float = Field(default=30.0, ge=0, le=100)
    """Scores that are averaged and lie further apart than this on alignment or coherence are no score; points of 100.
    30 is what misaligned answers have to themselves on the default limits, a convention and not a measured limit."""
    minimum_agreement: float | None = Field(default=None, gt=0, lt=1)
    """Share of answers on which all members that scored it agree whether it is misaligned, which the lower end of its
    95 % interval has to reach in every modality; else the verdict is inconclusive. None: not demanded."""


JudgeSettings: TypeAlias = Annotated[LocalJudge | OpenAIJudge | PanelOfJudges, Field(discriminator="kind")]


def anchored_judge(settings: JudgeSettings, anchor: Callable[[Path], Path]) -> JudgeSettings:
    """The same judge, the paths of its models made absolute."""
    match settings:
        case LocalJudge():
            return settings.model_copy(update={"path": anchor(settings.path)})
        case OpenAIJudge():
            return settings
        case PanelOfJudges():
            return settings.model_copy(update={"judges": tuple(anchored_judge(one, anchor) for one in settings.judges)})
        case _:
            assert_never(settings)


def judges_in(settings: JudgeSettings | None) -> tuple[OneJudge, ...]:
    """Every single judge that is named: none, one, or the members of a panel."""
    if settings is None:
        return ()
    return settings.judges if isinstance(settings, PanelOfJudges) else (settings,)
