"""One server of a fleet, as the reconciler asks it; whatever serves, it answers these few questions.

ReplicaError            a server did not do what it was asked
    ReplicaUnreachable  it could not be asked, or did not answer in time: nothing was learnt
    ReplicaRefused      it answered, and did not do it; the message holds its own words
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adapters.canary import Canary, NextTokens


class ReplicaError(Exception):
    """A server did not do what it was asked; the message names the cause."""


class ReplicaUnreachable(ReplicaError):
    """The server could not be asked, or gave no whole answer in time."""


class ReplicaRefused(ReplicaError):
    """The server answered and did not do what it was asked."""

    def __init__(self, words: str, status: int | None = None) -> None:
        """Keep the server's words, and its HTTP status where that is what refused."""
        super().__init__(words)
        self.status = status


@dataclass(frozen=True, slots=True)
class Listing:
    """What a server says it serves."""

    boot: str
    """Identity of its process; another one means that it restarted. Empty where it tells none."""
    base: str
    """The base's name there."""
    adapters: Mapping[str, str]
    """The folder of every adapter, as the server sees it, by the adapter's name there."""


class Replica(Protocol):
    """One server. Every method raises :class:`ReplicaUnreachable` where it cannot be asked."""

    @property
    def url(self) -> str:
        """Where it listens; its name everywhere."""
        ...

    def there(self, path: Path) -> str:
        """Return a promoted folder's path as this server sees it."""
        ...

    def listing(self) -> Listing:
        """Return what it serves now."""
        ...

    def load(self, name: str, path: Path) -> None:
        """Have it load an adapter under a name.

        Raises:
            ReplicaRefused: it does not.
        """
        ...

    def unload(self, name: str) -> None:
        """Have it drop a name; one that it does not know is fine. Only a listing proves the absence.

        Raises:
            ReplicaRefused: it does not.
        """
        ...

    def next_tokens(self, model: str, canary: Canary) -> NextTokens:
        """Ask a canary's question under a model's name.

        Raises:
            ReplicaRefused: it does not answer, or without log-probabilities.
        """
        ...

    def base_beside(self, base: str, name: str, canary: Canary) -> Sequence[NextTokens]:
        """Ask the base while an adapter is answering, so that the two share batches; at least one answer.

        Raises:
            ReplicaRefused: it does not answer.
        """
        ...
