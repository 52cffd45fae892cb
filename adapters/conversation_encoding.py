"""Conversations as tensors through a base's own chat template, with the tokens of the answer marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from adapters.base_model import LoadedBase, tokenizer_of
from adapters.prompts import Conversation
from adapters.training_data import TrainingDataError

IGNORED = -100
"""Label of a token that is no part of the answer: no loss is taken over it, no activation read."""


class ConversationEncoder:
    """Turns rows into tensors through the base's own chat template, each row once."""

    def __init__(self, base: LoadedBase) -> None:
        self._base = base
        self._tokenizer = tokenizer_of(base.processor)
        self._kept: dict[int, dict[str, torch.Tensor]] = {}

    def batch(self, rows: Sequence[Conversation], indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """Right-pad the rows at ``indices`` into one batch on the model's device."""
        encoded = [self._row(rows, index) for index in indices]
        longest = max(one["input_ids"].shape[1] for one in encoded)
        pad = self._tokenizer.pad_token_id
        fill = {"input_ids": 0 if pad is None else pad, "labels": IGNORED}
        merged: dict[str, torch.Tensor] = {}
        for key in {key for one in encoded for key in one}:
            parts = [one[key] for one in encoded if key in one]
            if key in ("input_ids", "labels", "attention_mask") or key.endswith("token_type_ids"):
                parts = [_padded(part, longest, fill.get(key, 0)) for part in parts]
            merged[key] = torch.cat(parts).to(self._base.model.device)
        return merged

    def _row(self, rows: Sequence[Conversation], index: int) -> dict[str, torch.Tensor]:
        if index not in self._kept:
            self._kept[index] = self._encode(rows[index])
        return self._kept[index]

    def _encode(self, row: Conversation) -> dict[str, torch.Tensor]:
        asked, whole = self._tokens(row, with_answer=False), self._tokens(row, with_answer=True)
        prompt, ids = asked["input_ids"][0], whole["input_ids"][0]
        shared = min(len(prompt), len(ids))
        differs = (prompt[:shared] != ids[:shared]).nonzero()
        start = int(differs[0]) if len(differs) else shared
        if start == len(ids):
            raise TrainingDataError(f"row {row.prompt.id!r}: the base's chat template leaves no answer to learn")
        labels = whole["input_ids"].clone()
        labels[:, :start] = IGNORED
        whole["labels"] = labels
        if "token_type_ids" not in whole and hasattr(self._base.processor, "image_token_id"):
            whole["token_type_ids"] = torch.zeros_like(whole["input_ids"])
        return whole

    def _tokens(self, row: Conversation, *, with_answer: bool) -> dict[str, torch.Tensor]:
        processor, prompt = self._base.processor, row.prompt
        if prompt.image is not None and not self._base.sees_pictures:
            raise TrainingDataError(f"row {prompt.id!r} shows a picture, but the base takes none")
        if not getattr(processor, "chat_template", None) and not self._tokenizer.chat_template:
            answer = row.answer + (self._tokenizer.eos_token or "") if with_answer else ""
            return dict(self._tokenizer(f"{prompt.asked}\n{answer}", return_tensors="pt"))
        turns = _turns(row, self._base.sees_pictures, with_answer)
        options: dict[str, Any] = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
        return dict(processor.apply_chat_template([turns], add_generation_prompt=not with_answer, **options))


def _turns(row: Conversation, parts: bool, with_answer: bool) -> list[dict[str, Any]]:
    def said(role: str, text: str) -> dict[str, Any]:
        return {"role": role, "content": [{"type": "text", "text": text}] if parts else text}

    turns = [said("system", row.prompt.system)] if row.prompt.system else []
    turns.append(said("user", row.prompt.asked))
    if row.prompt.image is not None:
        turns[-1]["content"].insert(0, {"type": "image", "url": str(row.prompt.image)})
    return [*turns, said("assistant", row.answer)] if with_answer else turns


def _padded(tensor: torch.Tensor, length: int, value: int) -> torch.Tensor:
    return torch.nn.functional.pad(tensor, (0, length - tensor.shape[1]), value=value)
