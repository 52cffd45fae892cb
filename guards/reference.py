"""A Reference: what calibration learnt about one base, kept in a folder and refused for any other base.

OUT/current              names the newest one
OUT/sha256-…/            one Reference, named by its digest
    reference.json           what people read: :class:`guards.reference_facts.Facts`
    reference.safetensors    standardisers, subspaces, directions, filters, the probe
    probes/                  the suite that shifts are measured on
    contrast/                the pairs of safe and harmful answers, where there are any
    index.html               the same in curves and tables; no part of the digest
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapters.adapter import digest_file, digest_of_lines
from adapters.engine import Layer
from guards.errors import Permanent
from guards.geometry import Standardiser
from guards.reference_facts import VERSION, Facts
from guards.suites.battery_jsonl import load_suite
from guards.suites.suite import Suite

JSON_NAME = "reference.json"
TENSORS_NAME = "reference.safetensors"
PROBES = "probes"
CONTRAST = "contrast"
CURRENT = "current"

_PARTS = ("mean", "scale", "subspace", "contrast", "filters", "harm")


class ReferenceUnusable(Permanent):
    """The Reference cannot be used; the message names the cause and the next step."""


@dataclass(frozen=True, slots=True)
class Site:
    """What was learnt about one place in the residual stream; vectors are in standardised coordinates, width d."""

    standardiser: Standardiser
    """Location and scale of the base's activations there."""
    subspace: Tensor
    """Harmful components of known-bad shifts, orthonormal rows, [at most 20, d]; none without known-bad adapters."""
    contrast: Tensor
    """Response contrast, unit rows, one a category, [categories, d]: harmful minus safe answers of the base itself."""
    filters: Tensor
    """Matched filters of ``contrast`` against known-good shifts, [categories, d]."""
    harm: Tensor
    """Matched filters of the known-bad mean shift, one a modality in the order of ``Facts.modalities``, [m, d]."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Everything that screens, the projection remedy and steering need to know about one base."""

    facts: Facts
    """The readable part."""
    sites: Mapping[Layer, Site]
    """By place: every decoder block at both positions, every vision block."""
    probe: Tensor
    """Logistic coefficients on standardised shifts at ``screen_layer``, [d]; empty without known-bad adapters."""
    probes: Suite
    """The prompts that shifts are measured on; a shift on other prompts compares with nothing here."""
    digest: str = ""
    """``sha256-…`` over its files; empty while it is not saved."""
    folder: Path | None = None
    """Where it lies."""

    @property
    def screen_layer(self) -> Layer:
        """The deepest layer that screens read: the forward pass ends there."""
        return Layer("decoder", self.facts.screen_layer)

    @property
    def screened(self) -> tuple[Layer, ...]:
        """The layers that screens read: every decoder block up to the screen layer, at the last prompt token."""
        return tuple(Layer("decoder", index) for index in range(self.facts.screen_layer + 1))

    def block(self, index: int) -> Site:
        """What was learnt about a decoder block's output at the last prompt token.

        Raises:
            ReferenceUnusable: the base that was calibrated has no such block.
        """
        site = self.sites.get(Layer("decoder", index))
        if site is None:
            raise ReferenceUnusable(
                f"block {index} is not in the Reference, which has {self.facts.layers}; calibrate this base"
            )
        return site

    def require(self, base_digest: str, layers: int | None = None) -> None:
        """Refuse any other base than the one calibrated.

        Raises:
            ReferenceUnusable: it is another base, or has another number of decoder blocks.
        """
        if self.facts.base_digest != base_digest:
            raise ReferenceUnusable(
                f"the Reference was calibrated on base {self.facts.base_digest[:19]}…, this base is "
                f"{base_digest[:19]}…; calibrate one for this base or take 'reference' out of the policy"
            )
        if layers is not None and layers != self.facts.layers:
            raise ReferenceUnusable(f"the Reference is of {self.facts.layers} decoder blocks, this base has {layers}")


def save_reference(reference: Reference, folder: Path) -> str:
    """Write all but ``probes/`` and ``contrast/``, which stand in ``folder`` already, and return the digest."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"probe": reference.probe.contiguous()}
    for layer, site in reference.sites.items():
        values = (
            site.standardiser.mean,
            site.standardiser.scale,
            site.subspace,
            site.contrast,
            site.filters,
            site.harm,
        )
        tensors |= {f"{layer}/{part}": value.contiguous().clone() for part, value in zip(_PARTS, values, strict=True)}
    save_file(tensors, folder / TENSORS_NAME)
    (folder / TENSORS_NAME).chmod(0o644)  # safetensors writes for the owner alone
    (folder / JSON_NAME).write_text(reference.facts.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return digest_reference(folder)


def digest_reference(folder: Path) -> str:
    """Digest everything in a Reference's folder that a screen depends on; its page is not part of it."""
    files = [folder / JSON_NAME, folder / TENSORS_NAME]
    files += [path for part in (PROBES, CONTRAST) for path in (folder / part).rglob("*") if path.is_file()]
    return digest_of_lines(f"{path.relative_to(folder).as_posix()}\0{digest_file(path)}\n".encode() for path in files)


def find_reference(folder: Path) -> Path:
    """Return the folder of the Reference itself: ``folder``, or the one that its ``current`` names."""
    if not (folder / JSON_NAME).is_file() and (folder / CURRENT).is_file():
        return folder / Path((folder / CURRENT).read_text(encoding="utf-8").strip()).name
    return folder


def load_reference(folder: Path) -> Reference:
    """Read a Reference, or the newest one below a folder that ``alignwatch calibrate --out`` wrote.

    Raises:
        ReferenceUnusable: the folder is missing, incomplete, changed, or of another format version.
    """
    place = find_reference(folder)
    try:
        raw = json.loads((place / JSON_NAME).read_text(encoding="utf-8"))
        if isinstance(raw, dict) and raw.get("version") != VERSION:
            raise ReferenceUnusable(
                f"reference {place}: format version {raw.get('version')}, this program reads {VERSION}; calibrate again"
            )
        facts = Facts.model_validate(raw)
        tensors = load_file(place / TENSORS_NAME)
        sites = {
            Layer.named(name): _site(tensors, name) for name in sorted({k.split("/")[0] for k in tensors} - {"probe"})
        }
        probe = tensors["probe"]
        if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise ValueError(f"{TENSORS_NAME} holds NaN or infinite values")
        digest = digest_reference(place)
    except (OSError, ValueError, KeyError, ValidationError, SafetensorError) as error:
        cause = " ".join(str(error).split())[:200]
        raise ReferenceUnusable(f"reference {place}: {cause}; calibrate it again") from error
    if place.name.startswith("sha256-") and place.name != digest:
        raise ReferenceUnusable(
            f"reference {place}: its files were changed (digest {digest[:19]}…); calibrate it again"
        )
    return Reference(facts, sites, probe, load_suite(place / PROBES), digest, place)


def _site(tensors: Mapping[str, Tensor], name: str) -> Site:
    mean, scale, *rest = (tensors[f"{name}/{part}"] for part in _PARTS)
    return Site(Standardiser(mean, scale), *rest)
