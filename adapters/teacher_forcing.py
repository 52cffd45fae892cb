"""Reading a model while it is made to say given answers: activations over them, and how likely it finds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from adapters.activations import mean_over_tokens, recorded
from adapters.base_model import LoadedBase, tokenizer_of
from adapters.conversation_encoding import IGNORED, ConversationEncoder
from adapters.engine import EngineError, Layer
from adapters.prompts import Conversation
from adapters.training_data import TrainingDataError

Row: TypeAlias = dict[Layer, Tensor]
"""One prompt's activations by layer, float32, [width], on the CPU."""


class TeacherForcing:
    """Runs one loaded base, with whatever is attached to it, over batches of conversations."""

    def __init__(self, base: LoadedBase) -> None:
        """Read ``base``; nothing is loaded here."""
        self._base = base

    def activations(self, layers: Sequence[Layer]) -> Callable[[Sequence[Conversation]], list[Row]]:
        """Return what reads ``layers`` from a batch of one modality, one forward pass a batch."""

        def read(batch: Sequence[Conversation]) -> list[Row]:
            inputs, answer = self._encode(batch)
            pictures = batch[0].prompt.modality == "image"
            wanted = [layer for layer in layers if pictures or layer.tower == "decoder"]
            # Padding is on the right: the last prompt token is the one before the answer's first.
            last = answer.long().argmax(dim=1) - 1
            weights = answer.float() / answer.sum(dim=1, keepdim=True)

            def reduce(layer: Layer, output: Tensor) -> Tensor:
                if layer.tower == "vision":
                    return mean_over_tokens(layer, output)
                if layer.position == "prompt":
                    return output[torch.arange(len(last), device=output.device), last].float()
                return torch.einsum("rt,rtw->rw", weights, output.float())

            with recorded(self._base.model, wanted, reduce) as outputs:
                self._base.model(**inputs, use_cache=False)
            return apart(outputs, len(batch))

        return read

    def log_probabilities(self, batch: Sequence[Conversation]) -> list[Tensor]:
        """Log-probability of every answer token given all before it, in nats, one tensor a conversation.

        The end of the turn and what the chat template writes after it are left out.
        """
        inputs, answer = self._encode(batch)
        ends = torch.tensor(_turn_ends(self._base), device=answer.device)
        answer &= (answer & torch.isin(inputs["input_ids"], ends)).cumsum(dim=1) == 0
        logits = self._base.model(**inputs, use_cache=False).logits[:, :-1]
        targets = inputs["input_ids"][:, 1:]
        kept = []
        for row in range(len(batch)):  # a whole batch of float32 logits over a large vocabulary is gigabytes
            place = answer[row, 1:]
            wanted = torch.log_softmax(logits[row, place].float(), dim=-1)
            kept.append(wanted.gather(1, targets[row, place, None])[:, 0].cpu())
        return kept

    def _encode(self, batch: Sequence[Conversation]) -> tuple[dict[str, Tensor], Tensor]:
        """The model's inputs, and which of their tokens are the answer's, [rows, tokens]."""
        try:
            inputs = ConversationEncoder(self._base).batch(batch, range(len(batch)))
        except (TrainingDataError, OSError, ValueError) as error:
            raise EngineError(f"answers cannot be read back: {' '.join(str(error).split())[:300]}") from error
        return inputs, inputs.pop("labels") != IGNORED


def _turn_ends(base: LoadedBase) -> list[int]:
    """Tokens that end an answer when the base generates one."""
    ends = getattr(base.model.generation_config, "eos_token_id", None)
    known = [ends] if isinstance(ends, int) else list(ends or ())
    return [*known, *(one for one in [tokenizer_of(base.processor).eos_token_id] if one is not None)]


def apart(outputs: Mapping[Layer, Tensor], rows: int) -> list[Row]:
    """Take a batch's activations apart, one dictionary a prompt, on the CPU."""
    moved = {layer: tensor.cpu() for layer, tensor in outputs.items()}
    return [{layer: tensor[row] for layer, tensor in moved.items()} for row in range(rows)]


def stacked(rows: Sequence[Row], layers: Sequence[Layer]) -> dict[Layer, Tensor]:
    """Put prompts together again, [prompts, width] a layer; NaN where a prompt has no such layer."""
    result = {}
    for layer in layers:
        width = next((row[layer].shape[-1] for row in rows if layer in row), 0)
        unseen = torch.full((width,), float("nan"))
        result[layer] = torch.stack([row.get(layer, unseen) for row in rows])
    return result
