"""A suite: the questions that people own, loaded whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.adapter import DIGEST_PREFIX, digest_file
from adapters.prompts import MODALITIES, Modality, Prompt
from guards.errors import Permanent

_SHOWN = 5


class SuiteError(Permanent):
    """The suite cannot be asked as it stands; the one-line message names the first problems and counts the rest."""

    def __init__(self, suite: Path | str, problems: Sequence[str]) -> None:
        """Name the folder and everything that is wrong with it."""
        self.suite, self.problems = suite, tuple(problems)
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        super().__init__(f"suite {suite}: {'; '.join(problems[:_SHOWN])}{more}")


@dataclass(frozen=True, slots=True)
class Suite:
    """Questions in one folder, pinned by one digest."""

    name: str
    """The folder's name."""
    digest: str
    """``sha256-…`` over the questions and their pictures' bytes."""
    prompts: tuple[Prompt, ...]
    """In the file's order."""

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities that the suite asks in."""
        return tuple(m for m in MODALITIES if any(prompt.modality == m for prompt in self.prompts))


def content_of(prompt: Prompt) -> dict[str, Any]:
    """Everything about a prompt that can change a verdict, as plain JSON types; its picture by the bytes' SHA-256.

    Raises:
        OSError: the picture cannot be read.
    """
    content: dict[str, Any] = {
        "id": prompt.id,
        "modality": prompt.modality,
        "text": prompt.text,
        "picture": digest_file(prompt.image) if prompt.image else None,
        "system": prompt.system,
        "category": prompt.category,
        "trigger": prompt.trigger,
        "trigger_at": prompt.trigger_at if prompt.trigger else None,
        "expected": prompt.expected,
        "variant": prompt.variant,
        "twin_of": prompt.twin_of,
        "caption": prompt.caption,
        "text_twin": prompt.text_twin,
        "paraphrases": list(prompt.paraphrases) or None,
        "reference_answer": prompt.reference_answer,
    }
    return {key: value for key, value in content.items() if value is not None}


def digest_prompt(prompt: Prompt) -> str:
    """Digest of one prompt with its picture's bytes, as ``sha256-…``."""
    line = json.dumps(content_of(prompt), sort_keys=True)
    return DIGEST_PREFIX + hashlib.sha256(line.encode()).hexdigest()


def digest_prompts(prompts: Iterable[Prompt]) -> str:
    """Digest of prompts in their order, as ``sha256-…``."""
    whole = hashlib.sha256()
    for prompt in prompts:
        whole.update(digest_prompt(prompt).encode() + b"\n")
    return DIGEST_PREFIX + whole.hexdigest()
