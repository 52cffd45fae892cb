"""Whether a direction found on one adapter tells, or undoes, another one: arXiv 2602.00298 asks it.

An adapter's direction in a modality is its mean standardised shift on the Reference's probes at the screened layer,
made a unit vector. It is put to two tests on every adapter, its own included: does it tell that adapter's activations
from the base's (probe, here), and does taking it out of the residual stream take the adapter's harm away (steering,
:mod:`guards.transfer_steering`)? Beside both stands what random directions do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from adapters.adapter import Adapter
from adapters.engine import EngineError
from adapters.prompts import Modality
from adapters.transformers_engine import TransformersEngine
from guards.ablation import random_directions, sampled
from guards.calibration.contrast import FEWEST, ContrastPair, load_contrast
from guards.errors import Permanent
from guards.geometry import cosine
from guards.interface import Progress
from guards.reference import CONTRAST, Reference
from guards.statistics import Interval, auroc_interval
from guards.transfer_matrix import ModalityTransfer, ProbeCell, Subject, TransferMatrix
from guards.transfer_steering import Steering

PAIRS = 24
"""Most contrast pairs a modality and adapter."""
PROBE_RANDOMS = 16
"""Random directions beside every area; they need no forward pass."""
_STILL = 1e-6
"""A mean shift of fewer standard deviations a dimension is none: rounding makes as much."""


@dataclass(frozen=True, slots=True)
class _Read:
    """One adapter on the probes."""

    adapter: Adapter
    """Which."""
    rows: Tensor | None
    """Its activations in the base's standardised coordinates, [prompts, d]; None where there are none."""
    reason: str | None = None
    """Why not."""


def transfer(
    engine: TransformersEngine,
    reference: Reference,
    adapters: Sequence[Adapter],
    progress: Progress = lambda *_: None,
    *,
    pairs: int = PAIRS,
    seed: int = 0,
) -> TransferMatrix:
    """Try every adapter's direction on every adapter.

    An adapter that has no direction, or cannot be read, keeps its place with the reason; it costs no other its own.

    Args:
        engine: the base that the Reference was calibrated on.
        reference: its probes, standardiser and contrast pairs are used.
        adapters: in the order of rows and columns; the work grows with their number squared.
        progress: told of every step.
        pairs: most contrast pairs a modality and adapter.
        seed: of the random directions and of the drawing of pairs.

    Raises:
        Permanent: no adapter was given, or the Reference is of another base or has pairs that cannot be used.
        EngineError: the base itself could not run.
    """
    if not adapters:
        raise Permanent("transfer needs at least one adapter; name some")
    reference.require(engine.base_digest)
    contrast, none = _contrast(reference)
    base = _standardised(engine, reference)
    read = _readings(engine, reference, adapters, progress)
    made = []
    for modality in reference.probes.modalities:
        found, directions = _probed(reference, modality, base, read, seed)
        samples = sampled(contrast, modality, pairs, seed)
        if samples:
            present = {row: one.adapter for row, one in enumerate(read) if one.rows is not None}
            steering = Steering(engine, reference, samples, directions, seed, progress)
            made.append(steering.measured_into(found, present))
        else:
            few = f"the Reference's contrast has fewer than {FEWEST} pairs of a category in {modality}"
            made.append(replace(found, steering_reason=none or few))
    return TransferMatrix(reference.facts.base_digest, reference.digest, str(reference.screen_layer), tuple(made))


def _contrast(reference: Reference) -> tuple[list[ContrastPair], str | None]:
    """The Reference's pairs, or why there are none."""
    if reference.folder is None or not (reference.folder / CONTRAST).is_dir():
        return [], "the Reference holds no contrast pairs; calibrate with --contrast or with a judge"
    return load_contrast(reference.folder / CONTRAST), None


def _standardised(engine: TransformersEngine, reference: Reference) -> Tensor:
    """Activations on the probes with whatever is attached now, in the base's standardised coordinates, [prompts, d]."""
    layer = reference.screen_layer
    standardiser = reference.sites[layer].standardiser
    rows = engine.activations(reference.probes.prompts, [layer])[layer]
    return (rows - standardiser.mean) / standardiser.scale


def _readings(
    engine: TransformersEngine, reference: Reference, adapters: Sequence[Adapter], progress: Progress
) -> list[_Read]:
    seen: dict[str, str] = {}
    read = []
    for done, adapter in enumerate(adapters):
        progress("reading adapters", done, len(adapters))
        if adapter.digest in seen:
            read.append(_Read(adapter, None, f"it is the same adapter as {seen[adapter.digest]}, given before"))
            continue
        seen[adapter.digest] = adapter.name
        read.append(_reading(engine, reference, adapter))
    progress("reading adapters", len(adapters), len(adapters))
    return read


def _reading(engine: TransformersEngine, reference: Reference, adapter: Adapter) -> _Read:
    try:
        with engine.attached(adapter) as attachment:
            if attachment.unmatched:
                return _Read(adapter, None, f"{len(attachment.unmatched)} of its tensors match no module of the base")
            rows = _standardised(engine, reference)
    except EngineError as error:
        return _Read(adapter, None, " ".join(str(error).split()))
    if not torch.isfinite(rows).all():
        return _Read(adapter, None, "it makes activations NaN or infinite")
    return _Read(adapter, rows)


def _probed(
    reference: Reference, modality: Modality, base: Tensor, read: Sequence[_Read], seed: int
) -> tuple[ModalityTransfer, list[Tensor | None]]:
    """One modality without its steering, and every adapter's direction, [d], None where it has none."""
    asked = [row for row, prompt in enumerate(reference.probes.prompts) if prompt.modality == modality]
    base = base[asked]
    rows = [None if one.rows is None else one.rows[asked] for one in read]
    subjects = [_subject(one, moved, base) for one, moved in zip(read, rows, strict=True)]
    shifts = [
        None if moved is None or subject.reason else moved - base for moved, subject in zip(rows, subjects, strict=True)
    ]
    directions = [None if shift is None else _unit(shift.mean(dim=0)) for shift in shifts]
    found = ModalityTransfer(
        modality=modality,
        prompts=len(asked),
        subjects=tuple(subjects),
        cosines=tuple(tuple(_cosine(one, other) for other in directions) for one in directions),
        probe=_areas(base, rows, shifts, random_directions(PROBE_RANDOMS, base.shape[1], seed)),
    )
    return found, directions


def _subject(read: _Read, moved: Tensor | None, base: Tensor) -> Subject:
    one = Subject(read.adapter.name, read.adapter.digest)
    if moved is None:
        return replace(one, reason=read.reason)
    if len(base) < FEWEST:
        return replace(one, reason=f"the Reference has {len(base)} probes in this modality, {FEWEST} are needed")
    shift = moved - base
    size = float(shift.mean(dim=0).norm()) / math.sqrt(base.shape[1])
    if size < _STILL:
        return replace(one, size=size, reason="it does not move the base on these probes")
    return replace(one, size=size, split_half=cosine(shift[::2].mean(dim=0), shift[1::2].mean(dim=0)))


def _areas(
    base: Tensor, rows: Sequence[Tensor | None], shifts: Sequence[Tensor | None], randoms: Tensor
) -> tuple[tuple[ProbeCell | None, ...], ...]:
    """Areas by direction and adapter. A direction from either half of the prompts is tried on the other half alone."""
    halves = [(slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))]
    by_random = [
        None if moved is None else [_area_each(moved[tried], base[tried], randoms) for _, tried in halves]
        for moved in rows
    ]

    def cell(shift: Tensor, column: int) -> ProbeCell | None:
        moved, drawn = rows[column], by_random[column]
        if moved is None or drawn is None:
            return None
        means = [shift[fitted].mean(dim=0) for fitted, _ in halves]
        areas = [
            float(_area_each(moved[tried], base[tried], _unit(mean)[None])[0])
            for mean, (_, tried) in zip(means, halves, strict=True)
        ]
        # A random direction has no sign of its own; the adapter whose direction it stands in for lends it one.
        turned = [
            np.where((randoms @ mean).numpy() < 0, 1 - each, each) for mean, each in zip(means, drawn, strict=True)
        ]
        area = float(np.mean(areas))
        low, high = auroc_interval(area, len(base), len(base))
        random = tuple(float(value) for value in np.mean(turned, axis=0))
        return ProbeCell(Interval(area, min(low, area), max(high, area), len(base)), random)

    return tuple(
        tuple(None if shift is None else cell(shift, column) for column in range(len(rows))) for shift in shifts
    )


def _area_each(moved: Tensor, base: Tensor, directions: Tensor) -> NDArray[np.float64]:
    """Area under the ROC curve of ``moved`` against ``base``, [prompts, d] each, along every one of [k, d], [k]."""
    told = np.r_[np.ones(len(moved)), np.zeros(len(base))]
    scores = (torch.cat([moved, base]) @ directions.T).double().numpy()
    return np.array([roc_auc_score(told, column) for column in scores.T])


def _unit(vector: Tensor) -> Tensor:
    unit: Tensor = vector / torch.linalg.vector_norm(vector).clamp_min(1e-12)
    return unit


def _cosine(one: Tensor | None, other: Tensor | None) -> float | None:
    return None if one is None or other is None else cosine(one, other)
