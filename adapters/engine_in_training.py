"""Reading the activations of a model while somebody else trains it, so that the training does not notice.

What a pass could change is put back exactly: every module's mode, which parameters learn, whether the adapter is on,
and the random numbers to come. No gradient is recorded, and gradient checkpointing stays as it is set: transformers
uses it in training mode alone, in which nothing is read here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer

from adapters.base_model import beside
from adapters.engine import EngineError, Layer
from adapters.prompts import Prompt
from adapters.transformers_engine import TransformersEngine


class NotALora(EngineError):
    """The model that is trained carries no LoRA that could be measured; the message names the next step."""


class EngineInTraining:
    """The activations of a live PEFT model: with its adapter as it is now, and without."""

    def __init__(self, model: object, base: Path | str, batch_size: int = 16) -> None:
        """Look at ``model``, which stays where it is.

        Args:
            model: a PeftModel with an active LoRA.
            base: the folder or Hub id of its base. Prompts are put through the processor that lies there, whatever
                the training uses.
            batch_size: prompts a forward pass; halved by itself when the device's memory does not suffice.

        Raises:
            NotALora: it is no PeftModel, carries no LoRA, or its LoRA is merged into the base.
            BaseUnloadable: the base's processor cannot be loaded.
        """
        self._peft = require_lora(model)
        inner = self._peft.get_base_model()
        self._engine = TransformersEngine(base, batch_size=batch_size, loaded=beside(base, inner))

    @property
    def base_digest(self) -> str:
        """SHA-256 over the base's files."""
        return self._engine.base_digest

    def activations(
        self, prompts: Sequence[Prompt], layers: Sequence[Layer], *, without_adapter: bool = False
    ) -> dict[Layer, torch.Tensor]:
        """Residual stream at ``layers`` as :meth:`adapters.engine.Engine.activations` gives it.

        Args:
            prompts: what is asked.
            layers: where it is read.
            without_adapter: read the base's own, the adapter switched off meanwhile.

        Raises:
            EngineError: a prompt cannot be read, or the device's memory does not suffice for one.
        """
        with undisturbed(self._peft), self._peft.disable_adapter() if without_adapter else nullcontext():
            return self._engine.activations(prompts, layers)


def require_lora(model: object) -> PeftModel:
    """Return the model as the PeftModel with LoRA layers that it has to be.

    Raises:
        NotALora: it is something else, or its LoRA is merged into the base's weights.
    """
    layers = (
        [module for module in model.modules() if isinstance(module, LoraLayer)] if isinstance(model, PeftModel) else []
    )
    if not isinstance(model, PeftModel) or not layers:
        raise NotALora(
            f"the model in training ({type(model).__name__}) carries no LoRA: wrap it by peft.get_peft_model with a "
            "LoraConfig, or give SFTTrainer a peft_config"
        )
    if any(layer.merged for layer in layers):
        raise NotALora("the LoRA in training is merged into the base's weights; unmerge it first")
    return model


@contextmanager
def undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a ``with`` block, and put everything back as it was."""
    modes = [(module, module.training) for module in model.modules()]
    learning = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    devices = {parameter.device for parameter, _ in learning if parameter.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(device.index for device in devices)):
        try:
            model.eval()
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            for parameter, learns in learning:  # PEFT sets them when an adapter is switched off and on again
                parameter.requires_grad_(learns)
