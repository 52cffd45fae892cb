"""What examines an adapter, and what mends it. What can go wrong is in ``guards.errors``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from adapters.adapter import Adapter
from guards.judges.interface import Judgement
from policies.findings import Result
from policies.stream import Seat


class Guard(Protocol):
    """Looks at one adapter in one way."""

    @property
    def name(self) -> str:
        """One word, the same in policies, findings and metrics."""
        ...

    @property
    def version(self) -> str:
        """Raised whenever the same adapter could get another result."""
        ...

    def examine(self, adapter: Adapter) -> list[Result]:
        """Examine one adapter. The adapter's own faults come back as results, never as exceptions.

        Raises:
            Retryable: the surroundings failed.
            Permanent: the configuration cannot work.
        """
        ...


class Remedy(Protocol):
    """Makes a new adapter out of a failing one; the original is never changed."""

    @property
    def name(self) -> str:
        """One word, the same in policies, reviews and metrics."""
        ...

    def apply(self, adapter: Adapter, out: Path) -> Adapter:
        """Write the mended adapter to the new folder ``out`` and return it, its parent recorded.

        Raises:
            Permanent: this remedy cannot treat this adapter.
            Retryable: the surroundings failed.
        """
        ...


class Progress(Protocol):
    """Told how far long work has come."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """``done`` of ``total`` steps of ``stage`` are finished."""
        ...


class Memory(Protocol):
    """Finished answers and judgements, kept so that no run pays twice for one.

    Keys are content digests made by the caller; a value is final once kept.
    """

    def recall_answers(self, model: str, keys: Sequence[str]) -> dict[str, str]:
        """Return the kept answers of one model (a base or adapter digest) among ``keys``."""
        ...

    def keep_answers(self, model: str, answers: Mapping[str, str]) -> None:
        """Keep answers durably before anything is done with them."""
        ...

    def recall_judgements(self, keys: Sequence[str]) -> dict[str, Judgement]:
        """Return the kept judgements among ``keys``."""
        ...

    def keep_judgements(self, judgements: Mapping[str, Judgement]) -> None:
        """Keep judgements durably before anything is done with them."""
        ...


class Stream(Protocol):
    """Keeps the places of all adapters that were ever tested, so that an error bound can hold over all of them."""

    def seat(self, stream: str, test: str) -> Seat:
        """Return the place of one test in a stream: the next one, or the one that it was given before."""
        ...

    def tell(self, stream: str, test: str, *, rejected: bool) -> None:
        """Record how a test ended; the first word stands."""
        ...
