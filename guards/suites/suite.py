"""A suite: the questions that people own, loaded whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.prompts import MODALITIES, Modality, Prompt
from guards.errors import Permanent


class SuiteError(Permanent):
    """The suite cannot be asked as it stands; every problem found is in the one-line message."""


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
