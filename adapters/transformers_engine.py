"""The engine in this process: a transformers model on CPU or CUDA, a PEFT LoRA attached and detached at will."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image, UnidentifiedImageError

from adapters.activations import last_token, mean_over_tokens, recorded
from adapters.adapter import Adapter
from adapters.attachment import Attachments
from adapters.base_model import default_device, default_dtype, digest_base, load_base, one_line, tokenizer_of
from adapters.encodings import Encodings
from adapters.engine import Attachment, EngineError, Layer, Sampling
from adapters.prompts import MODALITIES, Conversation, Prompt
from adapters.teacher_forcing import TeacherForcing, apart, stacked

T = TypeVar("T")
Row = TypeVar("Row")


class TransformersEngine:
    """One loaded base; see :class:`adapters.engine.Engine` for what its methods promise."""

    def __init__(
        self,
        base: Path | str,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        batch_size: int = 64,
    ) -> None:
        """Load ``base``.

        Args:
            base: folder or Hub id.
            device: for instance ``cuda:1``; CUDA where there is one when not given.
            dtype: of the weights; bfloat16 on CUDA and float32 on the CPU when not given.
            batch_size: prompts a forward pass; halved by itself when the device's memory does not suffice.

        Raises:
            BaseUnloadable: it cannot be loaded.
        """
        self.base = base
        self.device = torch.device(device) if device else default_device()
        self.dtype = dtype or default_dtype(self.device)
        self.batch_size = batch_size
        self._encodings = Encodings()
        loaded = load_base(base, self.device, self.dtype)
        self.model, self.processor = loaded.model, loaded.processor
        self._attachments = Attachments(self.model)
        self._forced = TeacherForcing(loaded)
        self.sees_pictures = loaded.sees_pictures
        if tokenizer_of(self.processor).pad_token is None:
            tokenizer_of(self.processor).pad_token = tokenizer_of(self.processor).eos_token

    @cached_property
    def base_digest(self) -> str:
        """SHA-256 over the base's files."""
        return digest_base(self.base)

    @property
    def answers_key(self) -> str:
        """The base's digest."""
        return self.base_digest

    def attached(self, adapter: Adapter) -> AbstractContextManager[Attachment]:
        """Attach ``adapter`` for the duration of a ``with`` block."""
        return self._attachments.attached(adapter)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[str]:
        """Answer every prompt, in order."""

        def answer(batch: list[Prompt]) -> list[str]:
            inputs = self.encode(batch)
            with _seeded(sampling.seed, batch, self.device):
                tokens = self.model.generate(**inputs, **self._generation(sampling))
            fresh = tokens[:, inputs["input_ids"].shape[1] :]
            texts: list[str] = tokenizer_of(self.processor).batch_decode(fresh, skip_special_tokens=True)
            return [text.strip() for text in texts]

        return self._batched(prompts, answer, lambda prompt: prompt)

    def final_logits(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """Next-token logits at the last prompt token, float32, [prompts, vocabulary]."""

        def logits(batch: list[Prompt]) -> list[torch.Tensor]:
            out = self.model(**self.encode(batch), logits_to_keep=1, use_cache=False)
            return list(out.logits[:, -1].float().cpu())

        return torch.stack(self._batched(prompts, logits, lambda prompt: prompt))

    def activations(self, prompts: Sequence[Prompt], layers: Sequence[Layer]) -> dict[Layer, torch.Tensor]:
        """Residual stream at ``layers``; see :meth:`adapters.engine.Engine.activations`."""

        def reduce(layer: Layer, output: torch.Tensor) -> torch.Tensor:
            # Padding is on the left, so the last position is the last prompt token of every row.
            return last_token(layer, output) if layer.tower == "decoder" else mean_over_tokens(layer, output)

        def read(batch: list[Prompt]) -> list[dict[Layer, torch.Tensor]]:
            pictures = batch[0].modality == "image"
            wanted = [layer for layer in layers if pictures or layer.tower == "decoder"]
            inputs = self.encode(batch)
            with recorded(self.model, wanted, reduce) as outputs:
                self.model(**inputs, use_cache=False)
            return apart(outputs, len(batch))

        return stacked(self._batched(prompts, read, lambda prompt: prompt), layers)

    def teacher_forced(self, rows: Sequence[Conversation], layers: Sequence[Layer]) -> dict[Layer, torch.Tensor]:
        """Residual stream while given answers are read; see :meth:`adapters.engine.Engine.teacher_forced`."""
        return stacked(self._batched(rows, self._forced.activations(layers), lambda row: row.prompt), layers)

    def answer_log_probabilities(self, rows: Sequence[Conversation]) -> list[torch.Tensor]:
        """Log-probabilities of given answers' tokens; see :meth:`adapters.engine.Engine.answer_log_probabilities`."""
        return self._batched(rows, self._forced.log_probabilities, lambda row: row.prompt)

    def encode(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """Tokens and pixels of prompts of **one** modality, padded on the left, on the engine's device.

        Raises:
            EngineError: a picture cannot be read, or the base takes none.
        """
        if any(prompt.image for prompt in prompts) and not self.sees_pictures:
            raise EngineError(f"base {self.base} takes no pictures, but prompt {prompts[0].id!r} shows one")
        return self._encodings.of(prompts, self._encode, self.device)

    def _encode(self, prompts: Sequence[Prompt]) -> Any:
        tokenizer = tokenizer_of(self.processor)
        padding = {"padding": True, "padding_side": "left"}
        if not getattr(self.processor, "chat_template", None) and not tokenizer.chat_template:
            # A base that was never instruction-tuned has no turns; it is asked the bare text.
            return tokenizer([p.asked for p in prompts], return_tensors="pt", **padding)
        conversations = [self._turns(prompt) for prompt in prompts]
        options: dict[str, Any] = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
        if self.sees_pictures:
            options["processor_kwargs"] = padding
        else:
            options["tokenizer_kwargs"] = {"padding_side": "left"}
            options["padding"] = True
        return self.processor.apply_chat_template(conversations, add_generation_prompt=True, **options)

    def _turns(self, prompt: Prompt) -> list[dict[str, Any]]:
        if not self.sees_pictures:
            user: list[dict[str, Any]] = [{"role": "user", "content": prompt.asked}]
            return [{"role": "system", "content": prompt.system}, *user] if prompt.system else user
        content: list[dict[str, Any]] = [{"type": "text", "text": prompt.asked}]
        if prompt.image is not None:
            content.insert(0, {"type": "image", "image": open_picture(prompt.image)})
        turns = [{"role": "user", "content": content}]
        if prompt.system:
            turns.insert(0, {"role": "system", "content": [{"type": "text", "text": prompt.system}]})
        return turns

    def _generation(self, sampling: Sampling) -> dict[str, Any]:
        options: dict[str, Any] = {
            "max_new_tokens": sampling.max_new_tokens,
            "pad_token_id": tokenizer_of(self.processor).pad_token_id,
        }
        if sampling.temperature == 0:
            return {**options, "do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        return {
            **options,
            "do_sample": True,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": 0,
        }

    def _batched(
        self, asked: Sequence[Row], work: Callable[[list[Row]], list[T]], prompt_of: Callable[[Row], Prompt]
    ) -> list[T]:
        """Run ``work`` on batches of one modality and similar length; results come back in the given order.

        Text and pictures never share a batch: PEFT counts pictures, not rows, under a vision-tower LoRA.
        """
        results: dict[int, T] = {}
        for modality in MODALITIES:
            rows = [row for row, one in enumerate(asked) if prompt_of(one).modality == modality]
            rows.sort(key=lambda row: len(prompt_of(asked[row]).asked))
            start, size = 0, self.batch_size
            while start < len(rows):
                batch = rows[start : start + size]
                try:
                    with torch.inference_mode():
                        results.update(zip(batch, work([asked[row] for row in batch]), strict=True))
                except torch.OutOfMemoryError as error:
                    if size == 1:
                        raise EngineError(f"out of memory on {self.device} at one prompt: {one_line(error)}") from error
                    torch.cuda.empty_cache()
                    size = self.batch_size = max(1, size // 2)
                    continue
                start += size
        return [results[row] for row in range(len(asked))]


def open_picture(path: Path) -> Image.Image:
    """Open a picture as RGB.

    Raises:
        EngineError: the file is missing or no picture; a missing picture is never replaced by no picture.
    """
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise EngineError(f"picture {path}: {one_line(error)}") from error


@contextmanager
def _seeded(seed: int, batch: Sequence[Prompt], device: torch.device) -> Iterator[None]:
    """Seed torch from a seed and the batch's prompts, and give the caller's random state back afterwards."""
    text = f"{seed}\0" + "\0".join(prompt.id for prompt in batch)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1)
        yield
