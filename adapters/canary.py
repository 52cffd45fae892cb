"""What an adapter was seen to do in this process, so that a server can be asked whether it does the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adapters.prompts import Modality


@dataclass(frozen=True, slots=True)
class Canary:
    """One question, with what base and adapter say next: the most probable tokens at the last prompt token."""

    modality: Modality
    """``text`` or ``image``."""
    asked: str
    """The user's turn."""
    system: str | None
    """The system turn, if any."""
    picture: bytes | None
    """The picture as PNG; None for text."""
    base: Mapping[str, float]
    """Log-probability in nats of the base's most probable next tokens, by the token's text."""
    adapter: Mapping[str, float]
    """The same with the adapter attached."""
    distance: float
    """Total variation distance between the two over these tokens, 0 to 1: how well they can be told apart."""
