"""What the rest of Alignwatch asks of a model, wherever that model runs.

EngineError             the model could not do what was asked; the message names the cause
    BaseUnloadable      the base itself cannot be loaded (infrastructure: nothing was learnt about the adapter)
    EngineUnavailable   the server that the model runs on cannot be used now (infrastructure, too)
    AdapterUnloadable   this adapter cannot be attached to this base (a finding about the adapter)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from adapters.adapter import Adapter
from adapters.prompts import Conversation, Prompt

if TYPE_CHECKING:  # the command line names these errors without loading a model library
    import torch


class EngineError(Exception):
    """The model could not do what was asked; the message names the cause."""


class BaseUnloadable(EngineError):
    """The base model cannot be loaded, so nothing was learnt about any adapter."""


class EngineUnavailable(EngineError):
    """The server that the model runs on cannot be used now, so nothing was learnt about the adapter."""


class AdapterUnloadable(EngineError):
    """This adapter cannot be attached to this base: keys, shapes or kind do not fit."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn."""

    temperature: float = 0.7
    """Softmax temperature, at least 0; 0 is greedy. 0.7 is the first paper's (arXiv 2602.16931)."""
    top_p: float = 0.9
    """Nucleus mass in (0, 1]. 0.9 is the first paper's."""
    max_new_tokens: int = 128
    """Longest answer, in tokens."""
    seed: int = 0
    """Seeds every batch together with its prompts' ids, so that a rerun draws the same answers. Where several adapters
    are asked together (:class:`Mixing`) it seeds every answer by itself instead, so that company changes none."""


Position: TypeAlias = Literal["prompt", "answer"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A place in the residual stream whose output is read."""

    tower: str
    """``decoder`` or ``vision``."""
    index: int
    """0 is the first transformer block. Its *output* is read, so ``hidden_states[index + 1]``."""
    position: Position = "prompt"
    """``prompt``: the last prompt token (in the vision tower, the mean over its patches); ``answer``: the mean over
    the tokens of a teacher-forced answer. Pictures come before any answer, so the vision tower has no such position."""

    def __str__(self) -> str:
        return f"{self.tower}.{self.index}" + ("" if self.position == "prompt" else f".{self.position}")

    @classmethod
    def named(cls, name: str) -> Layer:
        """Return the layer that ``str`` names so.

        Raises:
            ValueError: it is no layer's name.
        """
        tower, index, *rest = [*name.split("."), "", ""][:4]
        if tower not in ("decoder", "vision") or not index.isdecimal() or rest not in (["", ""], ["answer", ""]):
            raise ValueError(f"{name!r} names no layer; decoder.3, decoder.3.answer or vision.2 would")
        return cls(tower, int(index), "answer" if rest[0] else "prompt")


@dataclass(frozen=True, slots=True)
class Attachment:
    """What attaching an adapter to a base did; the proof that it is active is built on it."""

    matched: tuple[str, ...]
    """Modules of the base that now carry a LoRA pair from the file."""
    unmatched: tuple[str, ...]
    """Keys of the file that no module took: silently dropped by every library, so a finding here."""
    empty: tuple[str, ...]
    """Modules that the config targets but the file holds no weights for."""


class Generator(Protocol):
    """A base model that answers, in this process or on a server, with at most one adapter attached at a time."""

    @property
    def base_digest(self) -> str:
        """SHA-256 over the base's files; activations are cached under it."""
        ...

    @property
    def answers_key(self) -> str:
        """What its answers are kept under: the base's digest, and where the model runs if not in this process.

        The same seed draws other answers elsewhere, and a pair of answers is compared only where both come from one
        implementation.
        """
        ...

    @property
    def sees_pictures(self) -> bool:
        """Whether the base takes pictures at all."""
        ...

    def attached(self, adapter: Adapter) -> AbstractContextManager[object]:
        """Attach an adapter for the duration of a ``with`` block; it is always detached again.

        Raises:
            AdapterUnloadable: the adapter does not fit this base.
            EngineUnavailable: nothing can be attached now.
            EngineError: it was attached and is not seen to be active.
        """
        ...

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[str]:
        """Answer every prompt, in order, with whatever is attached now.

        Raises:
            EngineUnavailable: nobody can be asked now.
            EngineError: a prompt cannot be answered.
        """
        ...


class Engine(Generator, Protocol):
    """A base model in this process, which can be looked into as well."""

    def attached(self, adapter: Adapter) -> AbstractContextManager[Attachment]:
        """Attach an adapter for the duration of a ``with`` block; see :meth:`Generator.attached`."""
        ...

    def final_logits(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """Next-token logits at the last prompt token: float32, [prompts, vocabulary], on the CPU."""
        ...

    def activations(self, prompts: Sequence[Prompt], layers: Sequence[Layer]) -> dict[Layer, torch.Tensor]:
        """Residual stream at the last prompt token (decoder) or averaged over patches (vision tower).

        Runs nothing above the deepest layer asked for. Each tensor is float32, [prompts, width], on the CPU;
        rows of prompts without a picture are NaN for vision layers.
        """
        ...

    def teacher_forced(self, rows: Sequence[Conversation], layers: Sequence[Layer]) -> dict[Layer, torch.Tensor]:
        """Residual stream while the model reads given answers, at the layers' own positions.

        One forward pass serves both positions. Shapes and NaN as for :meth:`activations`.
        """
        ...

    def answer_log_probabilities(self, rows: Sequence[Conversation]) -> list[torch.Tensor]:
        """Log-probability of every token of each given answer, in nats: float32, [tokens], on the CPU.

        The end of the turn is left out, and what the chat template writes after it: a line break there is said by no
        base and taught by every training, so that it would drown what the answer itself shows. An answer without words
        has no token.
        """
        ...


@runtime_checkable
class Mixing(Protocol):
    """An engine that can ask several adapters at once."""

    def generate_mixed(
        self, asked: Sequence[tuple[Adapter | None, Prompt]], sampling: Sampling
    ) -> list[str | AdapterUnloadable]:
        """Answer prompts put to several adapters and, where None is named, to the base; nothing may be attached.

        A greedy answer is the one that ``generate`` gives while that adapter is attached. A drawn one comes from the
        same distribution, and depends on nothing but the adapter, the prompt, ``sampling``, and how often this prompt
        was asked of it before in the same call: neither on the company nor on the batch. Adapters that cannot share a
        batch exactly are asked by themselves; one that cannot be attached has its error in its answers' place, and
        leaves the others theirs. The base is left bit for bit as it was.

        Raises:
            EngineError: the model could not be asked.
        """
        ...
