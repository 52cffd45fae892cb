"""The remedies of ``benchmarks.remedies`` by the name of their arm: each by itself, its controls, and its options."""

from __future__ import annotations

import math
import random
from pathlib import Path

from adapters.adapter import Adapter
from adapters.residual_writes import ResidualWrites
from adapters.tiny import BASE, REFERENCE
from adapters.tiny.world import write_benign_data
from adapters.transformers_engine import TransformersEngine
from benchmarks.remedy_results import ARMS, OPTIONS
from guards.interface import Remedy
from guards.reference import load_reference
from guards.remedies.benign_finetune import BenignFinetuneRemedy
from guards.remedies.project import ProjectRemedy
from guards.remedies.steer import SteerRemedy
from guards.weight_files import deltas
from monitor.assembly import Assembly
from policies.remedying import Remedying

NEUTRAL, KL_WEIGHT, INTERLEAVE = 256, 0.1, 0.05
"""Rows over all domains, and how *benign_finetune*'s options use them: the values of arXiv 2508.06249."""


def remedy_of(arm: str, tools: Assembly, engine: TransformersEngine, seed: int) -> Remedy:
    """Build what an arm applies.

    Args:
        arm: its name; not a ladder's, and not one that scales to another remedy's norm.
        tools: what a review of this adapter works with.
        engine: of the base.
        seed: draws the controls.

    Raises:
        ValueError: there is no such arm.
    """
    settings = tools.policy.remedying
    match arm:
        case "scale" | "project" | "benign_finetune":
            return tools.remedy(arm)
        case "random subspace":
            return ProjectRemedy(load_reference(REFERENCE), ResidualWrites(BASE), sham_seed=seed)
        case "steer" | "random direction":
            sham, writes = None if arm == "steer" else seed, ResidualWrites(BASE)
            return SteerRemedy(load_reference(REFERENCE), writes, None, settings, strength=1.0, sham_seed=sham)
        case "shuffled answers":
            return BenignFinetuneRemedy(engine, settings, sham_seed=seed)
        case arm if arm in OPTIONS and settings.benign_data is not None:
            return _optional(arm, settings, settings.benign_data, engine)
        case _:
            raise ValueError(f"there is no arm {arm!r}; choose among {', '.join(ARMS)}")


def _optional(arm: str, settings: Remedying, safe: Path, engine: TransformersEngine) -> Remedy:
    """*benign_finetune* with rows about all domains beside its own: held to its base there, or a share learnt."""
    neutral = write_benign_data(safe.with_name("neutral.jsonl"), n=NEUTRAL, seed=7)
    match arm:
        case "benign_finetune with KL":
            changes: dict[str, object] = {"neutral_data": neutral, "kl_weight": KL_WEIGHT}
        case "benign_finetune interleaved":
            changes = {"neutral_data": neutral, "interleave": INTERLEAVE}
        case _:
            own, lines = (file.read_text(encoding="utf-8").splitlines() for file in (safe, neutral))
            drawn = random.Random(0).sample(lines, round(INTERLEAVE / (1 - INTERLEAVE) * len(own)))
            mixed = safe.with_name("mixed.jsonl")  # in the same folder, beside the pictures of both
            mixed.write_text("\n".join([*own, *drawn]) + "\n", encoding="utf-8")
            changes = {"benign_data": mixed}
    return BenignFinetuneRemedy(engine, settings.model_copy(update=changes))


def delta_norm(adapter: Adapter) -> float:
    """Frobenius norm of all that an adapter adds to its base."""
    return math.sqrt(math.fsum(delta.product.energy for delta in deltas(adapter)))
