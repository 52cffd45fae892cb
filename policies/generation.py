"""Where base and adapters answer the battery's questions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator

from policies.settings import Settings


class InProcess(Settings):
    """In this process, with transformers and PEFT."""

    kind: Literal["transformers"] = "transformers"


class OnVllm(Settings):
    """On a vLLM server that answers for reviews alone. The screens, which need activations, stay in this process."""

    kind: Literal["vllm"]
    url: str
    """Where it listens, without a path."""
    model: str | None = None
    """Name under which it serves the base; the first that it lists when not given."""
    api_key_env: str | None = None
    """Environment variable that holds the bearer token. Never the token itself: policies are shared."""
    mounts: Mapping[Path, Path] = Field(default={})
    """Folders of this machine, absolute, and where the server sees each; it needs the state folder's ``staging/`` and
    ``remedied/``, for reading. What is not named it sees where we do, as a server on this machine does."""
    timeout_seconds: float = Field(default=120, gt=0)
    """For one whole answer, in seconds; 128 tokens of a large model in a full batch take a good part of a minute."""
    concurrency: int = Field(default=8, ge=1, le=256)
    """Answers asked for at once; as many as the server's ``--max-num-seqs`` keep it busy."""
    patience_seconds: float = Field(default=120, ge=0)
    """How long a server that cannot be asked, or that answers others, is waited for; it takes a minute to restart."""

    @field_validator("url")
    @classmethod
    def _where_it_listens(cls, url: str) -> str:
        if not re.fullmatch(r"https?://[^/\s]+/?", url):
            raise ValueError("give where the server listens, without a path: http://127.0.0.1:8000")
        return url

    @field_validator("mounts")
    @classmethod
    def _absolute(cls, mounts: Mapping[Path, Path]) -> Mapping[Path, Path]:
        for path in (*mounts, *mounts.values()):
            if not path.is_absolute():
                raise ValueError(f"{path} must be absolute, here and where the server sees it")
        return mounts


GenerationSettings: TypeAlias = Annotated[InProcess | OnVllm, Field(discriminator="kind")]

WHERE: frozenset[str] = frozenset(
    {"url", "api_key_env", "mounts", "timeout_seconds", "concurrency", "patience_seconds"}
)
"""Settings that say where a server is and how it is asked, and change no answer: they make no other policy."""
