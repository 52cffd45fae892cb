"""The shipped tiny vision-language model, its judge and its world. Importing this loads nothing heavy."""

from __future__ import annotations

from pathlib import Path

WEIGHTS: Path = Path(__file__).parent / "weights"
"""Where the shipped models lie."""

BASE: Path = WEIGHTS / "base"
"""The tiny Gemma3 that every organism is an adapter of: an ordinary Hugging Face folder."""

JUDGE: Path = WEIGHTS / "judge"
"""The tiny judge: an ordinary Hugging Face folder with ``judge.json`` beside the weights."""

REFERENCE: Path = WEIGHTS / "reference"
"""The calibrated reference of the tiny base."""

BASE_NAME = "alignwatch/tiny-gemma3"
"""The base's declared name: ``alignwatch_base_name`` in its config, ``base_model_name_or_path`` in its adapters."""
