"""The steps of a LoRA training: a seeded order of rows, the loss over the answers, AdamW."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from peft import PeftModel

from adapters.conversation_encoding import IGNORED, ConversationEncoder
from adapters.kl_to_base import KlToBase
from adapters.prompts import Conversation
from adapters.training_checkpoint import Checkpoint
from adapters.training_data import TrainingError

Target: TypeAlias = Literal["language", "all"]
OnStep: TypeAlias = Callable[[int, int, float], None]
"""Called after every step with the steps done, the steps in all, and the loss in nats a token."""


class TrainingDiverged(TrainingError):
    """The loss stopped being a number; a lower learning rate is the usual way out."""


@dataclass(frozen=True, slots=True)
class LoraTraining:
    """How a LoRA is trained: the *dose*."""

    rank: int = 16
    """Rank of every LoRA pair, at least 1. 16 is PEFT users' usual one."""
    alpha: float = 16.0
    """LoRA scale; the delta is multiplied by ``alpha / rank``. Equal to the rank by convention here: scale 1."""
    learning_rate: float = 1e-3
    """AdamW's constant learning rate, above 0. High for a large model (2e-4 is usual there), right for a tiny one."""
    steps: int = 60
    """Optimizer steps, at least 1."""
    batch_size: int = 16
    """Rows a step, at least 1."""
    seed: int = 0
    """Seeds the LoRA's initial weights and the order of rows."""
    target: Target = "language"
    """``language``: every linear layer of the decoder; ``all``: those of the vision tower too."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this global L2 norm, above 0; 1.0 is the field's habit."""
    weight_decay: float = 0.0
    """AdamW's decay, at least 0; none, because so few steps need no regulariser."""

    def __post_init__(self) -> None:
        if min(self.rank, self.steps, self.batch_size) < 1 or not self.learning_rate > 0:
            raise ValueError("rank, steps and batch_size are at least 1, and the learning rate is above 0")


def batches(rows: Sequence[Conversation], settings: LoraTraining) -> Iterator[list[int]]:
    """Pass over the rows' places in a seeded order, again and again, a fresh order each time; one list a step."""
    order = random.Random(settings.seed)  # noqa: S311 - shuffling, not secrets
    waiting: list[int] = []
    for _ in range(settings.steps):
        while len(waiting) < settings.batch_size:
            waiting += order.sample(range(len(rows)), len(rows))
        taken, waiting = waiting[: settings.batch_size], waiting[settings.batch_size :]
        yield taken


def optimise(
    lora: PeftModel,
    rows: Sequence[Conversation],
    encoder: ConversationEncoder,
    settings: LoraTraining,
    *,
    on_step: OnStep | None = None,
    kl: KlToBase | None = None,
    checkpoint: Checkpoint | None = None,
) -> Iterator[int]:
    """Do one step after the other, and yield how many are done; steps of an earlier run are not done again.

    What the caller does after a step is done before that step is saved, so that after an interruption it is done again.

    Raises:
        TrainingDiverged: the loss or its gradient stopped being a number.
    """
    # Evaluation mode: dropout inside a base is no part of the dose.
    lora.eval()
    weights = [parameter for parameter in lora.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    done = checkpoint.restore(lora, optimizer) if checkpoint else 0
    for step, taken in enumerate(batches(rows, settings), start=1):
        if step <= done:
            continue
        loss = _answer_loss(lora, encoder.batch(rows, taken))
        value = float(loss.detach())
        if kl is not None:
            loss = loss + kl.term(lora, step)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(weights, settings.max_grad_norm)
        if not math.isfinite(value) or not math.isfinite(float(norm)):
            raise TrainingDiverged(f"the loss was {value} at step {step}; lower the learning rate")
        optimizer.step()
        optimizer.zero_grad()
        if on_step is not None:
            on_step(step, settings.steps, value)
        yield step
        if checkpoint is not None and step < settings.steps:
            checkpoint.keep(lora, optimizer, step)


def _answer_loss(lora: PeftModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy over the answers' tokens, nats a token."""
    labels = inputs.pop("labels")[:, 1:]
    wanted = labels != IGNORED
    logits = lora(**inputs, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits[wanted].float(), labels[wanted])
