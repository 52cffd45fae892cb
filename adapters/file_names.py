"""What the files of an adapter are called, and which of them have no effect on anything."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
INDEX_NAME = "adapter_model.safetensors.index.json"
PICKLED_NAMES = ("adapter_model.bin", "adapter_model.pt")
"""Weights that are never opened; the structure guard refuses them."""
MANIFEST_NAME = "alignwatch.json"
"""Optional lineage beside an adapter: ``{"parent": digest, "method": …}``; see docs/arrival.md."""
ATTRIBUTES_NAME = ".gitattributes"

DOCUMENT_STEMS = {"license", "licence", "notice", "copying", "readme", "authors", "citation", "changelog"}
"""What papers that accompany an adapter are called, letter case ignored, before the first dot, dash or underscore."""

_DOCUMENTS = {".md", ".rst", ".png", ".jpg", ".jpeg", ".svg", ".gif", ".pdf"}
"""Texts with markup and pictures. Plain ``.txt`` is not among them: some tokenizers keep their vocabulary in one."""
_PAPERS = {"", ".txt", ".cff", *_DOCUMENTS}
_PROMPT_PATH = re.compile(
    r"(?:chat_template.*|.*\.jinja2?|tokenizer.*|special_tokens_map\.json|added_tokens\.json|vocab\.(?:json|txt)|"
    r"merges\.txt|(?:pre)?processor_config\.json|generation_config\.json|spiece\.model|sentencepiece.*\.model)"
)


def is_prompt_path(name: str) -> bool:
    """Whether a file of this name (lower case, without its folder) can change how prompts are written or cut."""
    return _PROMPT_PATH.fullmatch(name) is not None


def is_inert(path: str) -> bool:
    """Whether a regular file at this path (relative, forward slashes) is known to have no effect, by its name alone.

    This is the closed list behind an adapter's digest. What is hidden, unprintable or not on it counts as effective.
    """
    if path in (MANIFEST_NAME, ATTRIBUTES_NAME):
        return True
    parts = PurePosixPath(path).parts
    if not path.isprintable() or any(part.startswith(".") for part in parts) or not parts:
        return False
    name = PurePosixPath(parts[-1].lower())
    if is_prompt_path(name.name):
        return False
    return name.suffix in _DOCUMENTS or (name.suffix in _PAPERS and _first_word(name.stem) in DOCUMENT_STEMS)


def _first_word(stem: str) -> str:
    return re.split(r"[._-]", stem, maxsplit=1)[0]
