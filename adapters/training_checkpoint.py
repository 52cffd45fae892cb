"""A training that was interrupted, taken up where it was: weights, optimizer and step, in one file beside the result.

What comes out is, bit for bit, what one run would have made: the order of the rows follows from the seed and the step,
and nothing else in the loop is random.
"""

from __future__ import annotations

import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

SECONDS = 60.0
"""Between two savings: what an interruption may cost. A saving writes three times the LoRA's size."""
_STATE = "state.pt"
_FORMAT = 1


class Checkpoint:
    """One training's place to save to; it is that training's alone, as its key tells."""

    def __init__(
        self,
        folder: Path,
        key: str,
        *,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Save below ``folder``, at most every ``seconds``.

        Args:
            folder: made when it is first needed.
            key: names everything that the training depends on; what was saved under another is not taken up.
            seconds: between two savings.
            clock: monotonic seconds.
        """
        self._folder, self._key, self._seconds, self._clock = folder, key, seconds, clock
        self._saved_at = clock()

    def restore(self, lora: PeftModel, optimizer: torch.optim.Optimizer) -> int:
        """Take up what was saved and return the steps done; 0 where there is nothing, or not of this training."""
        try:
            saved: dict[str, Any] = torch.load(self._folder / _STATE, map_location="cpu", weights_only=True)
            if saved["format"] != _FORMAT or saved["key"] != self._key:
                return 0
            learnt, steps = saved["weights"], int(saved["steps"])
        except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError):
            return 0  # cut off or foreign: the training begins anew, which costs time and nothing else
        own = _learnt(lora)
        if own.keys() != learnt.keys() or any(own[name].shape != learnt[name].shape for name in own):
            return 0
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(learnt[name])
        optimizer.load_state_dict(saved["optimizer"])
        return steps

    def keep(self, lora: PeftModel, optimizer: torch.optim.Optimizer, steps: int) -> None:
        """Save after a whole step, where it is time; a saving is there whole or not at all."""
        if self._clock() - self._saved_at < self._seconds:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = {
            "format": _FORMAT,
            "key": self._key,
            "steps": steps,
            "weights": {name: parameter.detach() for name, parameter in _learnt(lora).items()},
            "optimizer": optimizer.state_dict(),
        }
        fresh = self._folder / f"{_STATE}.partial"
        torch.save(state, fresh)
        fresh.replace(self._folder / _STATE)
        self._saved_at = self._clock()

    def clear(self) -> None:
        """Forget what was saved: the training is over."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _learnt(lora: PeftModel) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in lora.named_parameters() if parameter.requires_grad}
