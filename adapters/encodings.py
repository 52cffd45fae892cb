"""Encoded prompts kept for the next adapter: the same questions are put to every one of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL import Image, UnidentifiedImageError

from adapters.base_model import one_line
from adapters.engine import EngineError
from adapters.prompts import Prompt

MOST_BYTES = 128 * 2**20
"""Of tensors kept, in main memory: a whole battery of small pictures; of large ones, whose encoding is a small part of
their forward pass, a few."""

_Key: TypeAlias = tuple[tuple[object, ...], ...]


class Encodings:
    """Batches as tensors on the CPU; the least recently used make room for new ones."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """Keep at most ``most_bytes``; a batch that is larger by itself is not kept at all."""
        self._most = most_bytes
        self._kept: OrderedDict[_Key, dict[str, Any]] = OrderedDict()

    def of(
        self,
        prompts: Sequence[Prompt],
        encode: Callable[[Sequence[Prompt]], Mapping[str, Any]],
        device: torch.device,
    ) -> dict[str, Any]:
        """Return the batch on ``device``, encoded now unless the very same one was before.

        A picture is the same while its path, size and time of change are. What is returned is the caller's own.
        """
        key = _key(prompts)
        if key is not None and key in self._kept:
            encoded = self._kept[key]
            self._kept.move_to_end(key)
        else:
            encoded = dict(encode(prompts))
            if key is not None and _bytes(encoded) <= self._most:
                self._kept[key] = encoded
                while sum(map(_bytes, self._kept.values())) > self._most:
                    self._kept.popitem(last=False)
        return {
            name: value.to(device, copy=True) if isinstance(value, torch.Tensor) else value
            for name, value in encoded.items()
        }


def _key(prompts: Sequence[Prompt]) -> _Key | None:
    """Everything that an encoding depends on; None where a picture cannot be looked at, which encoding will tell."""
    try:
        return tuple((prompt.asked, prompt.system, _picture(prompt.image)) for prompt in prompts)
    except OSError:
        return None


def _picture(path: Path | None) -> tuple[str, int, int] | None:
    if path is None:
        return None
    facts = path.stat()
    return str(path.absolute()), facts.st_size, facts.st_mtime_ns


def _bytes(encoded: Mapping[str, Any]) -> int:
    return sum(value.nbytes for value in encoded.values() if isinstance(value, torch.Tensor))


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
