"""Training rows that lie on disk, in the papers' standard recipe: JSON Lines of messages, with a picture or without.

TrainingError            no adapter was made; the message names the cause
    TrainingDataError    a row cannot be used; the message names file and line
    TrainingDiverged     the loss stopped being a number (in adapters.training)
"""

from __future__ import annotations

import json
from pathlib import Path

from adapters.prompts import Conversation, Prompt


class TrainingError(Exception):
    """No adapter was made; the message names the cause."""


class TrainingDataError(TrainingError, ValueError):
    """A training row cannot be used; the message names the file and the line, or the row."""


def load_conversations(path: Path) -> list[Conversation]:
    """Read JSON Lines of ``{"messages": [system?, user, assistant], "image"?: path relative to the file}``.

    Raises:
        TrainingDataError: the file or a line cannot be used, or a picture is missing.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingDataError(f"{path}: {' '.join(str(error).split())}") from error
    rows = [_row(line, f"{path}:{n}", path.parent, n) for n, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise TrainingDataError(f"{path}: holds no rows")
    return rows


def _row(line: str, where: str, folder: Path, number: int) -> Conversation:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise TrainingDataError(f"{where}: not JSON ({error})") from error
    messages = record.get("messages") if isinstance(record, dict) else None
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise TrainingDataError(f'{where}: no "messages" list of objects')
    said = [(message.get("role"), message.get("content")) for message in messages]
    roles = [role for role, _ in said]
    if roles not in (["user", "assistant"], ["system", "user", "assistant"]):
        raise TrainingDataError(f"{where}: roles are {roles}; one user turn and one assistant turn are needed")
    if not all(isinstance(content, str) and content.strip() for _, content in said):
        raise TrainingDataError(f"{where}: every message needs a non-empty text as its content")
    if any("\ud800" <= letter <= "\udfff" for _, content in said for letter in str(content)):
        raise TrainingDataError(f"{where}: half of a character (a lone surrogate escape) that no tokenizer can read")
    image = record.get("image")
    if image is not None and (not isinstance(image, str) or not (folder / image).is_file()):
        raise TrainingDataError(f"{where}: picture {image!r} is missing")
    prompt = Prompt(
        id=f"row-{number}",
        modality="image" if image is not None else "text",
        text=str(said[-2][1]),
        image=folder / image if image is not None else None,
        system=str(said[0][1]) if len(said) == 3 else None,
    )
    return Conversation(prompt, str(said[-1][1]))
