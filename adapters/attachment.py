"""Attaching a LoRA to a base in memory, and detaching it so that the base is exactly what it was."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict

from adapters.adapter import Adapter
from adapters.base_model import Model, one_line
from adapters.engine import AdapterUnloadable, Attachment, EngineError
from adapters.mixture import Pairs, pairs_of

_NAME = "reviewed"  # PEFT's name for the adapter; it must not occur in "lora_"
_MARKS = ("peft_config", "active_adapter", "_hf_peft_config_loaded")
"""What PEFT leaves on a model that it has wrapped."""
_BASE_CHANGING = re.compile(r"pissa|olora|corda|loftq", re.IGNORECASE)
_PAIR = re.compile(r"\.lora_(?:(?:embedding_)?[AB]|magnitude_vector)(?:\.|$)")


@dataclass(frozen=True, slots=True)
class Mixture:
    """Which of several adapters can share a batch."""

    pairs: Mapping[Adapter, Pairs]
    """Those that can, with what each adds to which module."""
    alone: tuple[Adapter, ...]
    """Those that have to be attached by themselves."""
    failed: Mapping[Adapter, AdapterUnloadable]
    """Those that cannot be attached at all, and why."""


class Attachments:
    """Attaches LoRAs to one model: one at a time in place, or several beside one another in the rows of a batch.

    The last adapters' layers are kept while they are detached, because guards follow one another and building them
    takes longer than a forward pass over some probes. They hold the bytes that were read first, whatever has become
    of the files since.
    """

    def __init__(self, model: Model) -> None:
        """Attach to ``model``, which carries no adapter now."""
        self._model = model
        self._kept: dict[Adapter, tuple[Attachment, dict[str, BaseTunerLayer]]] = {}

    @contextmanager
    def attached(self, adapter: Adapter) -> Iterator[Attachment]:
        """Attach a LoRA for the duration of a ``with`` block.

        The adapter's files say which modules and values; never which base, class or task.

        Raises:
            AdapterUnloadable: not a plain LoRA, or its shapes do not fit the base.
            EngineError: the device's memory does not suffice for it.
        """
        try:
            if adapter in self._kept:
                attachment, layers = self._kept[adapter]
                for name, layer in layers.items():
                    _replace(self._model, name, layer)
            else:
                self._kept.clear()  # their memory goes before the next one's comes
                attachment = self._built(adapter)
            yield attachment
        finally:
            detach(self._model)

    def mixture(self, adapters: Sequence[Adapter]) -> Mixture:
        """Read several LoRAs, each with the checks of :meth:`attached`, and say which of them can share a batch.

        Nothing is attached when this returns.

        Raises:
            EngineError: an adapter is attached now.
        """
        if any(isinstance(module, BaseTunerLayer) for module in self._model.modules()):
            raise EngineError("several adapters share a batch only while none is attached")
        self._kept = {adapter: kept for adapter, kept in self._kept.items() if adapter in adapters}
        pairs: dict[Adapter, Pairs] = {}
        failed: dict[Adapter, AdapterUnloadable] = {}
        for adapter in adapters:
            try:
                if adapter not in self._kept:
                    self._built(adapter)
                found = pairs_of(self._model, self._kept[adapter][1], _NAME)
            except AdapterUnloadable as error:
                failed[adapter] = error
                continue
            except EngineError:  # no memory for all of them at once; what was kept has been let go
                return Mixture({}, tuple(each for each in adapters if each not in failed), failed)
            finally:
                detach(self._model)
            if found is not None:
                pairs[adapter] = found
        alone = tuple(adapter for adapter in adapters if adapter not in pairs and adapter not in failed)
        return Mixture(pairs, alone, failed)

    def forget(self) -> None:
        """Let go of all layers that are kept, and of their memory."""
        self._kept.clear()

    def _built(self, adapter: Adapter) -> Attachment:
        """Attach an adapter anew, and keep its layers."""
        try:
            attachment = _attach(self._model, adapter)
        except torch.OutOfMemoryError as error:  # no fault of the adapter's
            self.forget()
            raise EngineError(f"out of memory while {adapter.name} is attached: {one_line(error)}") from error
        except (ValueError, KeyError, TypeError, RuntimeError, OSError, AttributeError) as error:
            raise AdapterUnloadable(f"{adapter.name}: {one_line(error)}") from error
        layers = {name: module for name, module in self._model.named_modules() if isinstance(module, BaseTunerLayer)}
        self._kept[adapter] = (attachment, layers)
        return attachment


def _attach(model: Model, adapter: Adapter) -> Attachment:
    config = LoraConfig.from_pretrained(str(adapter.path))
    if not isinstance(config, LoraConfig):
        raise AdapterUnloadable(f"{adapter.name}: its config is no LoRA's")
    if _BASE_CHANGING.search(str(config.init_lora_weights)):
        # These subtract from the base's own weights when they are set up; such a delta fits no unchanged base.
        raise AdapterUnloadable(f"{adapter.name}: initialisation {config.init_lora_weights!r} needs a changed base")
    if config.bias != "none" or config.modules_to_save:
        raise AdapterUnloadable(f"{adapter.name}: it trains more than LoRA pairs (bias or modules_to_save)")
    config.inference_mode, config.init_lora_weights = True, True  # every value comes from the file
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns of what Attachment reports as values
        weights = load_peft_weights(str(adapter.path), device=str(model.device))
        strangers = sorted(key for key in weights if not _PAIR.search(key))
        if strangers:
            # PEFT would write such a tensor into the base itself, where no detaching takes it out again.
            raise AdapterUnloadable(f"{adapter.name}: {strangers[0]} and {len(strangers) - 1} more are no LoRA pairs")
        peft_model = PeftModel(model, config, _NAME)
        loaded: Any = set_peft_model_state_dict(peft_model, weights, _NAME)
    peft_model.eval()
    targeted = {name for name, module in peft_model.named_modules() if isinstance(module, BaseTunerLayer)}
    empty = {key.split(".lora_")[0] for key in loaded.missing_keys if ".lora_" in key and _NAME in key}
    return Attachment(
        matched=tuple(sorted(_plain(name) for name in targeted - empty)),
        unmatched=tuple(sorted(loaded.unexpected_keys)),
        empty=tuple(sorted(_plain(name) for name in empty)),
    )


def detach(model: Model) -> None:
    """Put every wrapped module back as it was. Safe on a model that carries no adapter, or half of one."""
    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            _replace(model, name, module.get_base_layer())
    for attribute in _MARKS:
        if attribute in vars(model):
            delattr(model, attribute)
    model.requires_grad_(False)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def laid_aside(model: Model) -> Iterator[None]:
    """Take the adapter off a model for the duration of a ``with`` block, and put the very same layers back after it.

    For an adapter in training: its weights, and what an optimiser keeps of them, stay as they are.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
    known = {attribute: vars(model)[attribute] for attribute in _MARKS if attribute in vars(model)}
    detach(model)
    try:
        yield
    finally:
        for name, layer in layers.items():
            _replace(model, name, layer)
        for attribute, value in known.items():
            setattr(model, attribute, value)


def _replace(model: Model, name: str, module: torch.nn.Module | BaseTunerLayer) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def _plain(name: str) -> str:
    return name.removeprefix("base_model.model.")
