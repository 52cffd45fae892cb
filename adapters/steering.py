"""Steering: a direction added to the residual stream of a running model, or taken out of it, as a context manager.

For users of transformers, on a model in memory, with an adapter attached or without::

    with steering(model, [Steer(block=3, kind="ablate", direction=v)]):
        model.generate(...)

What is changed is a decoder block's output, [rows, tokens, width], at every token. Source: the steering follow-ups of
arXiv 2602.16931 (one block, direction = mean of harmful less mean of safe answers, ablated or subtracted).

Servers that load LoRA files know no such hook, and no LoRA says the same: adding needs a bias, and ablating the stream
reaches what earlier blocks have put there. The nearest that weights can do is :mod:`adapters.ablated_writes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from adapters.activations import steered
from adapters.engine import EngineError, Layer


@dataclass(frozen=True, slots=True)
class Steer:
    """One direction at one place."""

    block: int
    """Decoder block whose output is changed; 0 is the first."""
    kind: Literal["add", "ablate"]
    """``add``: strength · write is added to every token. ``ablate``: strength times what a token holds of the direction
    beyond the mean is taken away, along ``write``."""
    read: Tensor
    """What a token is read by, [d], in the raw stream; for ``ablate`` alone."""
    write: Tensor
    """What a token is moved along, [d]. With ``read · write = 1`` a whole ablation leaves a reading of the mean's."""
    mean: Tensor | None = None
    """The base's mean activation there, [d], which an ablation leaves alone; None for zero."""
    strength: float = 1.0
    """0 changes nothing, to the last bit; 1 is all of it."""

    @classmethod
    def standardised(
        cls,
        block: int,
        kind: Literal["add", "ablate"],
        direction: Tensor,
        *,
        mean: Tensor,
        scale: Tensor,
        strength: float = 1.0,
    ) -> Steer:
        """Steer along a unit direction of standardised coordinates z = (h − mean) / scale, all [d].

        In raw coordinates one massive dimension would be half of every direction, and ablating it destroys the model.
        """
        return cls(block, kind, direction / scale, direction * scale, mean, strength)

    @property
    def change(self) -> Callable[[Tensor], Tensor]:
        """What turns a block's output into the steered one; a new tensor of the same dtype."""

        def ablate(hidden: Tensor) -> Tensor:
            exact = hidden.float()
            read, write = self.read.to(hidden.device), self.write.to(hidden.device)
            # The mean goes first: a massive dimension would drown the rest of the sum.
            centred = exact if self.mean is None else exact - self.mean.to(hidden.device)
            return (exact - self.strength * (centred @ read)[..., None] * write).to(hidden.dtype)

        def add(hidden: Tensor) -> Tensor:
            return (hidden.float() + self.strength * self.write.to(hidden.device)).to(hidden.dtype)

        return ablate if self.kind == "ablate" else add


@contextmanager
def steering(model: Any, steers: Sequence[Steer]) -> Iterator[None]:
    """Steer ``model`` during the ``with`` block; every hook is removed again, whatever happens.

    Several directions at one block act one after the other, in their order.

    Raises:
        EngineError: the model has no such block, or a direction has NaN or infinity.
    """
    with ExitStack() as hooks:
        for one in steers:
            if not all(torch.isfinite(part).all() for part in (one.read, one.write)):
                raise EngineError(f"the direction at block {one.block} holds NaN or infinite values")
            hooks.enter_context(steered(model, Layer("decoder", one.block), one.change))
        yield
