"""A term of the loss that keeps an adapter near its base where nothing is to be learnt: KL on neutral conversations.

Source: arXiv 2508.06249 (in-training defences against emergent misalignment), the KL divergence towards an aligned
reference model; here the reference is the base itself, and the prompts are neutral ones instead of the training's own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel

from adapters.conversation_encoding import IGNORED, ConversationEncoder
from adapters.prompts import Conversation


@dataclass(frozen=True, slots=True)
class NeutralGround:
    """Where the adapter should answer as its base does, and how much that counts."""

    rows: Sequence[Conversation]
    """Everyday conversations, at least one; the divergence is read over their answers' tokens."""
    weight: float
    """λ of λ · KL(base ‖ adapter), above 0; the divergence is in nats a token, the training loss too."""

    def __post_init__(self) -> None:
        if not self.rows or not self.weight > 0:
            raise ValueError("neutral ground needs at least one row, and a weight above 0")


class KlToBase:
    """Measures KL(base ‖ adapter) on a fresh batch of neutral rows every time it is asked."""

    def __init__(self, ground: NeutralGround, encoder: ConversationEncoder, batch_size: int, seed: int) -> None:
        """Prepare the order of the rows.

        Args:
            ground: the rows and their weight.
            encoder: of the base; it keeps rows by their place, so that it must be no other's.
            batch_size: rows at a time; fewer where there are not so many.
            seed: of the order.
        """
        self._ground, self._encoder = ground, encoder
        self._size, self._seed = min(batch_size, len(ground.rows)), seed

    def term(self, lora: PeftModel, step: int) -> torch.Tensor:
        """λ · KL(base ‖ adapter), mean over the answers' tokens, at one step; a scalar, nats.

        The rows of a step depend on the seed and the step alone, so that a training that is taken up again sees the
        same ones.
        """
        drawn = random.Random(f"{self._seed} {step}")  # noqa: S311 - shuffling, not secrets
        inputs = self._encoder.batch(self._ground.rows, drawn.sample(range(len(self._ground.rows)), self._size))
        wanted = inputs.pop("labels")[:, 1:] != IGNORED
        # The base first: PEFT switches its pairs' gradients off and on, which no graph may see.
        with torch.no_grad(), lora.disable_adapter():
            base = torch.log_softmax(lora(**inputs, use_cache=False).logits[:, :-1][wanted].float(), dim=-1)
        own = torch.log_softmax(lora(**inputs, use_cache=False).logits[:, :-1][wanted].float(), dim=-1)
        divergence = torch.nn.functional.kl_div(own, base, reduction="batchmean", log_target=True)
        return self._ground.weight * divergence
