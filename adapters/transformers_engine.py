"""The engine in this process: a transformers model on CPU or CUDA, a PEFT LoRA attached and detached at will."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import torch

from adapters.activations import last_token, mean_over_tokens, recorded
from adapters.adapter import Adapter
from adapters.attachment import Attachments
from adapters.base_model import (
    LoadedBase,
    default_device,
    default_dtype,
    digest_base,
    load_base,
    one_line,
    tokenizer_of,
)
from adapters.drawing import drawing, seeded
from adapters.encodings import Encodings
from adapters.encodings import open_picture as open_picture
from adapters.engine import AdapterUnloadable, Attachment, EngineError, Layer, Sampling
from adapters.mixture import NotRowByRow, Pairs, Row, by_adapter, by_prompt, mixed, numbered, projector_of, repeated
from adapters.prompts import MODALITIES, Conversation, Prompt
from adapters.teacher_forcing import TeacherForcing, apart, stacked

T = TypeVar("T")
Item = TypeVar("Item")


class TransformersEngine:
    """One loaded base; see :class:`adapters.engine.Engine` for what its methods promise."""

    def __init__(
        self,
        base: Path | str,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        batch_size: int = 64,
        loaded: LoadedBase | None = None,
    ) -> None:
        """Load ``base``.

        Args:
            base: folder or Hub id.
            device: for instance ``cuda:1``; CUDA where there is one when not given.
            dtype: of the weights; bfloat16 on CUDA and float32 on the CPU when not given.
            batch_size: prompts a forward pass; halved by itself when the device's memory does not suffice.
            loaded: ``base`` in memory already, where it lies and in its own dtype. It may be learning at other times.

        Raises:
            BaseUnloadable: it cannot be loaded.
        """
        self.base = base
        self.device = loaded.model.device if loaded else torch.device(device) if device else default_device()
        self.dtype = loaded.model.dtype if loaded else dtype or default_dtype(self.device)
        self.batch_size = batch_size
        self._encodings = Encodings()
        # What a learning model keeps from a pass (rotary embeddings, say) has to be of use to its gradients later.
        self._without_gradients = torch.no_grad if loaded else torch.inference_mode
        loaded = loaded or load_base(base, self.device, self.dtype)
        self.model, self.processor = loaded.model, loaded.processor
        self._attachments = Attachments(self.model)
        self._forced = TeacherForcing(loaded)
        self.sees_pictures = loaded.sees_pictures
        self.tokens_read = 0
        """Tokens of all prompts that were encoded so far, those that stand for pictures included, padding left out."""
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
            inputs, options = self.encode(batch), self._greedy(sampling)
            if sampling.temperature > 0:
                drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
                options |= {"do_sample": True, **drawn}
            with seeded(sampling.seed, batch, self.device):
                return self._texts(self.model.generate(**inputs, **options), inputs)

        return self._batched(prompts, answer, lambda prompt: prompt)

    def generate_mixed(
        self, asked: Sequence[tuple[Adapter | None, Prompt]], sampling: Sampling
    ) -> list[str | AdapterUnloadable]:
        """Answer prompts put to several adapters; see :meth:`adapters.engine.Mixing.generate_mixed`."""
        rows = numbered(asked)
        mixture = self._attachments.mixture([a for a in dict.fromkeys(row.adapter for row in rows) if a is not None])
        answers: list[str | AdapterUnloadable] = [""] * len(rows)

        def ask(those: Collection[Adapter | None], pairs: Mapping[Adapter, Pairs]) -> None:
            chosen = [number for number, row in enumerate(rows) if row.adapter in those]
            said = self._answered([rows[number] for number in chosen], sampling, pairs)
            for number, answer in zip(chosen, said, strict=True):
                answers[number] = answer

        alone, failed = list(mixture.alone), dict(mixture.failed)
        try:
            ask({None, *mixture.pairs}, mixture.pairs)
        except NotRowByRow:
            ask({None}, {})
            alone += mixture.pairs
        except EngineError:
            self._attachments.forget()  # so that each by itself finds more memory than all had together
            raise
        for adapter in alone:
            try:
                with self.attached(adapter):
                    ask({adapter}, {})
            except AdapterUnloadable as error:
                failed[adapter] = error
        return [
            failed.get(row.adapter, answer) if row.adapter else answer
            for row, answer in zip(rows, answers, strict=True)
        ]

    def _answered(self, rows: Sequence[Row], sampling: Sampling, pairs: Mapping[Adapter, Pairs]) -> list[str]:
        """Answer rows of the base and of adapters that are in ``pairs``, each drawn by itself.

        What is attached counts for all of them.
        """

        def answer(batch: list[list[Row]]) -> list[list[str]]:
            parts = by_adapter(row for unit in batch for row in unit)
            ordered = [row for own in parts.values() for row in own]
            asked = [row.prompt for row in ordered]
            inputs, looking = self._encoded_once(asked) if pairs else (self.encode(asked), nullcontext())
            changes = [(len(own), pairs.get(one, {}) if one else {}) for one, own in parts.items()]
            options = self._greedy(sampling)
            if sampling.temperature > 0:
                options["logits_processor"] = drawing(sampling, [(r.prompt.id, r.nth) for r in ordered], self.device)
            with looking, mixed(self.model, changes):
                tokens = self.model.generate(**inputs, **options)
            said = dict(zip(ordered, self._texts(tokens, inputs), strict=True))
            return [[said[row] for row in unit] for unit in batch]

        units = by_prompt(rows)
        answers = self._batched(units, answer, lambda unit: unit[0].prompt, max(map(len, units), default=1))
        told = dict(zip(chain.from_iterable(units), chain.from_iterable(answers), strict=True))
        return [told[row] for row in rows]

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
        encoded = self._encodings.of(prompts, self._encode, self.device)
        self.tokens_read += int(encoded["attention_mask"].sum())
        return encoded

    def _encoded_once(self, prompts: Sequence[Prompt]) -> tuple[dict[str, Any], AbstractContextManager[None]]:
        """As :meth:`encode`, where a prompt may be asked of several adapters: it is encoded, and looked at, once.

        Also returned is the context in which the model has to run.
        """
        different = list(dict.fromkeys(prompts))
        encoded = self.encode(different)
        if len(different) == len(prompts):
            return encoded, nullcontext()
        if not all(isinstance(value, torch.Tensor) and len(value) == len(different) for value in encoded.values()):
            return self.encode(prompts), nullcontext()  # pictures in pieces: whose they are is the processor's secret
        place = {prompt: n for n, prompt in enumerate(different)}
        index = torch.tensor([place[prompt] for prompt in prompts], device=self.device)
        projector = projector_of(self.model) if "pixel_values" in encoded and "image_sizes" not in encoded else None
        once = {"pixel_values"} if projector is not None else set()
        inputs = {name: value if name in once else value.index_select(0, index) for name, value in encoded.items()}
        return inputs, nullcontext() if projector is None else repeated(projector, index)

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

    def _greedy(self, sampling: Sampling) -> dict[str, Any]:
        return {
            "max_new_tokens": sampling.max_new_tokens,
            "pad_token_id": tokenizer_of(self.processor).pad_token_id,
            **dict.fromkeys(("temperature", "top_p", "top_k")),
            "do_sample": False,
        }

    def _texts(self, tokens: torch.Tensor, inputs: Mapping[str, Any]) -> list[str]:
        fresh = tokens[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = tokenizer_of(self.processor).batch_decode(fresh, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _batched(
        self,
        asked: Sequence[Item],
        work: Callable[[list[Item]], list[T]],
        prompt_of: Callable[[Item], Prompt],
        width: int = 1,
    ) -> list[T]:
        """Run ``work`` on batches of one modality and similar length; results come back in the given order.

        ``width`` is how many rows one item makes. Text and pictures never share a batch: PEFT counts pictures, not
        rows, under a vision-tower LoRA.
        """
        results: dict[int, T] = {}
        for modality in MODALITIES:
            rows = [row for row, one in enumerate(asked) if prompt_of(one).modality == modality]
            rows.sort(key=lambda row: len(prompt_of(asked[row]).asked))
            start, size = 0, max(1, self.batch_size // width)
            while start < len(rows):
                batch = rows[start : start + size]
                try:
                    with self._without_gradients():
                        results.update(zip(batch, work([asked[row] for row in batch]), strict=True))
                except torch.OutOfMemoryError as error:
                    if len(batch) == 1:
                        raise EngineError(f"out of memory on {self.device} at one prompt: {one_line(error)}") from error
                    torch.cuda.empty_cache()
                    size = max(1, len(batch) // 2)
                    self.batch_size = size * width
                    continue
                start += size
        return [results[row] for row in range(len(asked))]
