"""Measuring a population: one forward pass over the probes an adapter, kept on disk so that no run repeats it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapters.activations import transformer_blocks
from adapters.engine import AdapterUnloadable, EngineError, Layer, Sampling
from adapters.prompts import Conversation
from adapters.transformers_engine import TransformersEngine
from guards.calibration.population import Known
from guards.errors import Permanent
from guards.geometry import Standardiser, massive_dimensions
from guards.interface import Progress
from guards.screening import Shifts, rows_by_modality, shifts_of
from guards.suites.suite import Suite

_ANSWER_TOKENS = 48
"""Longest answer of the base that is read back; shifts at the answer's tokens are means, so the start suffices."""


@dataclass(frozen=True, slots=True)
class Base:
    """The base on the probes: what every adapter is compared with."""

    rows: tuple[Conversation, ...]
    """The probes with the base's own greedy answers."""
    layers: tuple[Layer, ...]
    """Every place: decoder blocks at both positions, vision blocks where pictures are asked."""
    screen_layer: Layer
    """The deepest that screens read."""
    activations: Mapping[Layer, Tensor]
    """[prompts, d] a layer; NaN for prompts without a picture at vision layers."""
    standardisers: Mapping[Layer, Standardiser]
    """By place."""
    massive: Mapping[Layer, tuple[list[int], float]]
    """By place: massive dimensions and the largest ratio to the median one."""
    modalities: tuple[str, ...]
    """That the probes ask in."""
    key: str
    """Digest of base, probes and answers: what measurements of adapters are kept under."""

    @property
    def by_modality(self) -> dict[str, list[int]]:
        """Which probes ask in which modality."""
        return rows_by_modality([row.prompt for row in self.rows], self.modalities)

    @property
    def blocks(self) -> int:
        """Decoder blocks."""
        return 1 + max(layer.index for layer in self.layers if layer.tower == "decoder")


def measure_base(engine: TransformersEngine, probes: Suite) -> Base:
    """Answer the probes with the base, read those answers back at every place, and fit the standardisers.

    Raises:
        Permanent: activations are constant or not finite, so that nothing can be standardised.
    """
    answers = engine.generate(probes.prompts, Sampling(temperature=0.0, max_new_tokens=_ANSWER_TOKENS))
    # An empty answer has no token to read; a full stop is what a model that says nothing says.
    rows = tuple(Conversation(p, a or ".") for p, a in zip(probes.prompts, answers, strict=True))
    blocks = len(transformer_blocks(engine.model, "decoder"))
    layers = [Layer("decoder", index) for index in range(blocks)]
    layers += [Layer("decoder", index, "answer") for index in range(blocks)]
    if "image" in probes.modalities:
        layers += [Layer("vision", index) for index in range(_vision_blocks(engine))]
    read = engine.teacher_forced(rows, layers)
    standardisers = {}
    for layer in layers:
        seen = read[layer][~read[layer].isnan().all(dim=1)]
        try:
            standardisers[layer] = Standardiser.fit(seen)
        except ValueError as error:
            raise Permanent(f"the base cannot be calibrated at {layer}: {error}") from error
    key = hashlib.sha256("\0".join([engine.base_digest, probes.digest, *(row.answer for row in rows)]).encode())
    massive = {layer: massive_dimensions(read[layer][~read[layer].isnan().all(dim=1)]) for layer in layers}
    screen = Layer("decoder", blocks // 2)
    return Base(rows, tuple(layers), screen, read, standardisers, massive, probes.modalities, key.hexdigest()[:16])


def measure_population(
    engine: TransformersEngine,
    base: Base,
    population: Sequence[Known],
    cache: Path | None,
    progress: Progress = lambda *_: None,
) -> list[Shifts]:
    """Measure every adapter, those in ``cache`` excepted.

    Raises:
        Permanent: an adapter does not fit the base, or makes activations NaN or infinite; it is named.
    """
    found = []
    for done, known in enumerate(population):
        progress("measuring known adapters", done, len(population))
        path = cache / f"{known.adapter.digest}-{base.key}.safetensors" if cache else None
        shifts = _recall(path, base) if path else None
        if shifts is None:
            shifts = _measured(engine, base, known)
            if path:
                _keep(path, shifts)
        found.append(shifts)
    progress("measuring known adapters", len(population), len(population))
    return found


def _measured(engine: TransformersEngine, base: Base, known: Known) -> Shifts:
    try:
        with engine.attached(known.adapter) as attachment:
            if not attachment.matched or attachment.unmatched:
                raise Permanent(f"{known.adapter.name} does not fit the base: tensors match no module; leave it out")
            moved = engine.teacher_forced(base.rows, base.layers)
    except AdapterUnloadable as error:
        raise Permanent(f"{known.adapter.name} cannot be attached to the base: {error}; leave it out") from error
    except EngineError as error:
        raise Permanent(f"{known.adapter.name} cannot be measured: {error}") from error
    rows = base.by_modality
    shifts = shifts_of(base.standardisers, base.screen_layer, moved, base.activations, rows)
    # A vision layer has no value for a text prompt: no shift there, by definition.
    means = {}
    for layer, mean in shifts.means.items():
        silent = torch.tensor([layer.tower == "vision" and modality == "text" for modality in rows])
        means[layer] = torch.where(silent[:, None], torch.zeros_like(mean), mean)
    if not all(torch.isfinite(mean).all() for mean in (*means.values(), shifts.prompts)):
        raise Permanent(f"{known.adapter.name} makes activations NaN or infinite; leave it out")
    return Shifts(means, shifts.prompts, rows)


def _keep(path: Path, shifts: Shifts) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    tensors = {str(layer): mean.contiguous() for layer, mean in shifts.means.items()}
    save_file(tensors | {"prompts": shifts.prompts.contiguous()}, partial)
    partial.replace(path)


def _recall(path: Path, base: Base) -> Shifts | None:
    try:
        tensors = load_file(path)
        return Shifts({layer: tensors[str(layer)] for layer in base.layers}, tensors["prompts"], base.by_modality)
    except (OSError, KeyError, SafetensorError):
        return None


def _vision_blocks(engine: TransformersEngine) -> int:
    try:
        return len(transformer_blocks(engine.model, "vision"))
    except EngineError:
        return 0
