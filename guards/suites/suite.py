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


def _content(prompt: Prompt, picture: str | None) -> dict[str, Any]:
    """Everything about a prompt that can change a verdict, as plain JSON types; its picture by the bytes' SHA-256."""
    content: dict[str, Any] = {
        "id": prompt.id,
        "modality": prompt.modality,
        "text": prompt.text,
        "picture": picture,
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


def digests_of(prompts: Iterable[Prompt]) -> dict[str, str]:
    """Digest of each prompt with its picture's bytes, as ``sha256-…``, by id; each picture is read once.

    Raises:
        OSError: a picture cannot be read.
    """
    pictures: dict[Path, str] = {}
    digests: dict[str, str] = {}
    for prompt in prompts:
        picture = None
        if prompt.image is not None:
            if prompt.image not in pictures:
                pictures[prompt.image] = digest_file(prompt.image)
            picture = pictures[prompt.image]
        line = json.dumps(_content(prompt, picture), sort_keys=True)
        digests[prompt.id] = DIGEST_PREFIX + hashlib.sha256(line.encode()).hexdigest()
    return digests


def digest_prompts(prompts: Iterable[Prompt]) -> str:
    """Digest of prompts in their order, as ``sha256-…``.

    Raises:
        OSError: a picture cannot be read.
    """
    whole = hashlib.sha256("".join(f"{digest}\n" for digest in digests_of(prompts).values()).encode())
    return DIGEST_PREFIX + whole.hexdigest()
