"""A Reference: what calibration learnt about one base, kept in a folder and refused for any other base."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from adapters.adapter import digest_folder
from adapters.engine import Layer
from guards.errors import Permanent
from guards.geometry import Standardiser
from guards.suites.battery_jsonl import load_suite
from guards.suites.suite import Suite

_JSON = "reference.json"
_TENSORS = "reference.safetensors"
_PROBES = "probes"


class ReferenceUnusable(Permanent):
    """The Reference cannot be used; the message names the cause and the next step."""


class Facts(BaseModel):
    """The part of a Reference that people read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1
    """Of the format; others are refused."""
    base_digest: str
    """The only base that it speaks of."""
    screen_layer: int = Field(ge=0)
    """Decoder block whose output is screened."""
    layers: int = Field(ge=1)
    """Decoder blocks that have a subspace; the projection remedy uses them all."""
    null: dict[str, dict[str, float]]
    """By modality: each known-good adapter's projection, measured on a subspace fitted without it."""
    known_bad: dict[str, dict[str, float]]
    """By modality: each known-bad adapter's projection, measured on a subspace fitted without its domain."""
    auroc: dict[str, float]
    """By modality: area under the ROC curve of known-bad against known-good, on those held-out projections."""
    auroc_random: dict[str, float]
    """The same on a random subspace of equal dimension: the control that could embarrass the result."""
    explained: float = Field(ge=0, le=1)
    """Share of the known-bad shifts' energy in the subspace at the screened layer."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Standardisers and harmful subspaces of one base's decoder, with the probes they were measured on."""

    facts: Facts
    """The readable part."""
    standardisers: tuple[Standardiser, ...]
    """One a decoder block."""
    subspaces: tuple[torch.Tensor, ...]
    """One a decoder block: orthonormal rows in standardised coordinates, [at most 10, d]."""
    probes: Suite
    """The prompts that shifts are measured on; a projection on other prompts compares with nothing here."""

    digest: str = ""
    """``sha256-…`` over its files; empty while it is not saved."""

    @property
    def screen(self) -> Layer:
        """The layer that the screen reads."""
        return Layer("decoder", self.facts.screen_layer)

    def require(self, base_digest: str) -> None:
        """Refuse any other base than the one calibrated.

        Raises:
            ReferenceUnusable: it is another base.
        """
        if self.facts.base_digest != base_digest:
            raise ReferenceUnusable(
                f"the Reference was calibrated on base {self.facts.base_digest[:19]}…, this base is "
                f"{base_digest[:19]}…; calibrate one for this base or take 'reference' out of the policy"
            )


def save_reference(reference: Reference, folder: Path) -> None:
    """Write everything but the probes, which stand in ``folder/probes`` already."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for index, (standardiser, subspace) in enumerate(zip(reference.standardisers, reference.subspaces, strict=True)):
        tensors[f"{index}.mean"] = standardiser.mean.contiguous()
        tensors[f"{index}.scale"] = standardiser.scale.contiguous()
        tensors[f"{index}.subspace"] = subspace.contiguous()
    save_file(tensors, folder / _TENSORS)
    (folder / _JSON).write_text(reference.facts.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load_reference(folder: Path) -> Reference:
    """Read a Reference.

    Raises:
        ReferenceUnusable: the folder is missing, incomplete, or of another format version.
    """
    try:
        raw = json.loads((folder / _JSON).read_text(encoding="utf-8"))
        if isinstance(raw, dict) and raw.get("version") != 1:
            raise ReferenceUnusable(f"reference {folder}: format version {raw.get('version')}, this program reads 1")
        facts = Facts.model_validate(raw)
        tensors = load_file(folder / _TENSORS)
        blocks = range(facts.layers)
        standardisers = tuple(Standardiser(tensors[f"{i}.mean"], tensors[f"{i}.scale"]) for i in blocks)
        subspaces = tuple(tensors[f"{i}.subspace"] for i in blocks)
    except (OSError, ValueError, KeyError, ValidationError, SafetensorError) as error:
        cause = " ".join(str(error).split())[:200]
        raise ReferenceUnusable(f"reference {folder}: {cause}; calibrate it again") from error
    return Reference(facts, standardisers, subspaces, load_suite(folder / _PROBES), digest_folder(folder))
