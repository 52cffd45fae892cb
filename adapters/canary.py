"""What an adapter was seen to do in this process, so that a server can be asked whether it does the same.

A server proves an adapter by saying what we saw with the adapter, and clearly not what a rival would say: the base
alone, or the adapter without the part that only pictures reach. Everything here is arithmetic; nothing is asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from adapters.prompts import Modality

TOP = 20
"""Next tokens that are compared; more than a server gives by default (vLLM's ``max_logprobs``)."""

NOISE: Mapping[Modality, float] = {"text": 0.003, "image": 0.01}
"""How far apart, in total variation, two right implementations may be. Seen on vLLM's CPU build in float32: below
0.0001 in text; up to 0.0064 in pictures, because some of its kernels attend image tokens causally."""
TELLING = 2.5
"""Rivals nearer than this many times the noise cannot be told apart: a rival's answer, shifted by the noise, must not
come within the noise of the adapter's."""
FAINTEST = 0.0075
"""A part that only pictures reach has to move some picture's answer so far to be told. Less than the noise, because
what is looked at is the direction of the move: over three pictures 0.93 to 1.04 of it was seen where the part was
applied, and 0.01 to 0.05 where it was dropped (vLLM's CPU build, five adapters)."""
CLOSE = 1 / 3
"""An answer counts as the adapter's within this share of the distance to the rival, or within the noise."""
FARTHEST = 0.1
"""And never farther than this, however different the rival is; sums of bfloat16 stay below it."""

_NOT_APPLIED = "the part that only pictures reach is not applied"
_REMEDY = "see --enable-tower-connector-lora, and how vLLM names the tower's modules"

NextTokens: TypeAlias = Mapping[str, float]
"""Log-probability in nats of the most probable next tokens, by the token's id in decimal: ids are one to one."""


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
    """Log-probability in nats of the base's most probable next tokens, by the token's id in decimal."""
    adapter: Mapping[str, float]
    """The same with the adapter attached."""
    distance: float
    """Total variation distance between the adapter and its rival over these tokens, 0 to 1."""
    blinded: Mapping[str, float] | None = None
    """What the adapter says without its pairs outside the language model. Where it is given, it is the rival that the
    adapter has to be told from; else the base is."""

    @property
    def rival(self) -> Mapping[str, float]:
        """What is said where the adapter, or the part of it that this canary is about, is not applied."""
        return self.base if self.blinded is None else self.blinded

    @property
    def tells(self) -> bool:
        """Whether adapter and rival are far enough apart to be told apart at all."""
        return self.distance > (TELLING * NOISE[self.modality] if self.blinded is None else FAINTEST)

    @property
    def about(self) -> str:
        """Its subject in a few words."""
        return self.modality if self.blinded is None else "the part that only pictures reach"


def apart(one: NextTokens, other: NextTokens) -> float:
    """Total variation distance over the listed tokens, 0 to 1: a lower bound of that over the whole vocabulary.

    A token that one list lacks is no more probable there than the last of that list.
    """
    if not one or not other:
        return 1.0
    least_one, least_other = min(one.values()), min(other.values())
    total = 0.0
    for token in one.keys() | other.keys():
        p, q = one.get(token), other.get(token)
        p = min(least_one, other[token]) if p is None else p
        q = min(least_other, one[token]) if q is None else q
        total += abs(math.exp(p) - math.exp(q))
    return min(1.0, total / 2)


def doubt_about_base(canary: Canary, said: NextTokens, allowed: float | None = None) -> str:
    """Say in one line why a server's base is not the base that the canary was drawn from; empty where it is.

    Args:
        canary: what was seen here.
        said: the server's answer under the base's name.
        allowed: total variation distance; when not given, what tells the base from the canary's adapter.
    """
    if short(canary.base, said):
        return f"gave {len(said)} of {len(canary.base)} log-probabilities; allow {TOP} (--max-logprobs)"
    off = apart(said, canary.base)
    if allowed is None:
        allowed = _allowed(canary.modality, apart(canary.base, canary.adapter))
    if off <= allowed:
        return ""
    return f"its base does not answer as the base here does ({canary.modality}: {off:.3f} apart, {allowed:.3f} allowed)"


def doubt_about_adapter(canary: Canary, said: NextTokens) -> str:
    """Say in one line why a server's answer under an adapter's name is not the adapter's; empty where it is.

    A canary about the part that only pictures reach is settled by :func:`doubt_about_part`, over all of them.
    """
    if canary.blinded is None and not canary.tells:
        return cannot_tell([canary])
    if short(canary.adapter, said):
        return f"gave {len(said)} of {len(canary.adapter)} log-probabilities; allow {TOP} (--max-logprobs)"
    off, allowed = apart(said, canary.adapter), _allowed(canary.modality, canary.distance)
    if off <= allowed:
        return ""
    measured = f"{off:.3f} from the adapter, {allowed:.3f} allowed"
    if canary.blinded is not None and apart(said, canary.blinded) < off:
        return f"{_NOT_APPLIED} ({measured}): {_REMEDY}"
    if apart(said, canary.base) < off:
        return f"the base answers under the adapter's name ({canary.modality}: {measured})"
    return f"something else answers under the adapter's name ({canary.modality}: {measured})"


def doubt_about_part(canaries: Sequence[Canary], said: Sequence[NextTokens]) -> str:
    """Say in one line why a server does not apply the part that only pictures reach; empty where it does.

    Without that part the answers lie at 0 on the line from the adapter without it to the adapter, with it at 1. What
    an implementation does otherwise points anywhere, and hardly along that line.
    """
    along = whole = 0.0
    for canary, answer in zip(canaries, said, strict=True):
        for token in canary.adapter.keys() & (canary.blinded or {}).keys() & answer.keys():
            without = math.exp((canary.blinded or {})[token])
            step = math.exp(canary.adapter[token]) - without
            along += (math.exp(answer[token]) - without) * step
            whole += step * step
    if all(canary.blinded is None for canary in canaries) or (whole > 0 and abs(along / whole - 1) <= CLOSE):
        return ""
    seen = along / whole if whole > 0 else 0.0
    return f"{_NOT_APPLIED} ({seen:.2f} of its effect was seen, 1 is expected): {_REMEDY}"


def cannot_tell(canaries: Sequence[Canary]) -> str:
    """Say in one line why these canaries can prove nothing, whatever a server answers; empty where they can."""
    for canary in canaries:
        if canary.blinded is None and not canary.tells:
            return f"nothing tells {canary.about} from a server that does not apply it ({canary.distance:.4f} apart)"
    parts = [canary for canary in canaries if canary.blinded is not None]
    if parts and not any(canary.tells for canary in parts):
        most = max(canary.distance for canary in parts)
        return f"nothing tells {parts[0].about} from a server that does not apply it ({most:.4f} apart)"
    return ""


def short(expected: NextTokens, said: NextTokens) -> bool:
    """Whether a server listed fewer tokens than are compared; what it left out could hide any difference."""
    return len(said) < min(TOP, len(expected))


def _allowed(modality: Modality, distance: float) -> float:
    return max(NOISE[modality], min(CLOSE * distance, FARTHEST))
