"""Loading a base model and its processor from a folder or a Hub id. Nothing of an adapter is read here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from adapters.adapter import DIGEST_PREFIX, digest_file
from adapters.engine import BaseUnloadable

Model: TypeAlias = Any
"""A transformers model; its classes are untyped."""
Processor: TypeAlias = Any
"""A transformers processor, or a tokenizer for a text-only base."""

_UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, ImportError)
_BASE_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


@dataclass(frozen=True, slots=True)
class LoadedBase:
    """A base in memory."""

    model: Model
    """The model: in evaluation mode, all parameters frozen, unless whoever brought it is training it."""
    processor: Processor
    """Turns conversations into tensors."""
    sees_pictures: bool
    """Whether the model takes pictures."""


def default_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on CUDA; float32 on the CPU, where half precision is slower and its noise hides small shifts."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def load_base(base: Path | str, device: torch.device, dtype: torch.dtype) -> LoadedBase:
    """Load a vision-language model, or a text-only one where the config is of that kind.

    No code that comes with a model is ever run (``trust_remote_code`` stays off).

    Raises:
        BaseUnloadable: the folder is missing, incomplete, or of an architecture that transformers does not know.
    """
    _require_folder(base)
    disable_progress_bar()  # type: ignore[no-untyped-call]  # our own progress speaks for the whole of the work
    try:
        processor, pictures = _processor(base)
        loader = AutoModelForImageTextToText if pictures else AutoModelForCausalLM
        model: Model = loader.from_pretrained(base, dtype=dtype)
    except _UNREADABLE as error:
        raise BaseUnloadable(f"base {base}: {one_line(error)}") from error
    model.to(device).eval().requires_grad_(False)
    return LoadedBase(model, processor, pictures)


def beside(base: Path | str, model: Model) -> LoadedBase:
    """Load the processor alone, as it lies with the base, for a model of that base that is in memory already.

    Raises:
        BaseUnloadable: the folder is missing or incomplete, or transformers does not know what lies there.
    """
    _require_folder(base)
    try:
        return LoadedBase(model, *_processor(base))
    except _UNREADABLE as error:
        raise BaseUnloadable(f"base {base}: {one_line(error)}") from error


def _require_folder(base: Path | str) -> None:
    if isinstance(base, Path) and not (base / "config.json").is_file():
        raise BaseUnloadable(f"base {base}: no config.json there; give the folder of a Hugging Face model")


def _processor(base: Path | str) -> tuple[Processor, bool]:
    """The base's processor or tokenizer, and whether the base takes pictures."""
    pictures = type(AutoConfig.from_pretrained(base)) in AutoModelForImageTextToText._model_mapping
    return (AutoProcessor if pictures else AutoTokenizer).from_pretrained(base), pictures


def folder_of(base: Path | str) -> Path:
    """Return a base's folder; of a Hub id the snapshot, which is fetched where it is not cached yet.

    Raises:
        BaseUnloadable: the Hub id is unknown or cannot be reached.
    """
    if Path(base).is_dir():
        return Path(base)
    try:
        return Path(snapshot_download(str(base), allow_patterns=list(_BASE_FILES)))
    except (OSError, ValueError, HfHubHTTPError, HFValidationError) as error:
        cause = one_line(error, 160)
        raise BaseUnloadable(f"base {base}: neither a folder nor a model that the Hub gives ({cause})") from error


def digest_base(base: Path | str) -> str:
    """SHA-256 over a local base's weights, config, tokenizer and processor files, by name and content.

    A Hub id is resolved to its snapshot first, which is fetched where it is not cached yet.

    Raises:
        BaseUnloadable: the Hub id is unknown or cannot be reached.
    """
    folder = folder_of(base)
    whole = hashlib.sha256()
    for path in sorted({path for pattern in _BASE_FILES for path in folder.glob(pattern)}):
        whole.update(f"{path.name}\0{digest_file(path)}\n".encode())
    return DIGEST_PREFIX + whole.hexdigest()


def tokenizer_of(processor: Processor) -> Any:
    """The tokenizer inside a processor, or the tokenizer itself."""
    return getattr(processor, "tokenizer", processor)


def one_line(error: BaseException, limit: int = 300) -> str:
    """An exception as one line of at most ``limit`` characters; libraries like to write pages."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"
