"""What the fleet's reconciler remembers, and through whom: it acts on servers, others keep the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from adapters.canary import Canary

ServingState: TypeAlias = Literal["loading", "proving", "serving", "failed", "withdrawing", "resident", "absent"]
"""One adapter on one replica.

``loading``      asked to load, or about to be
``proving``      loaded under the right path; its canaries are being asked
``serving``      proved active
``failed``       it could not be loaded or proved, and was rolled back; tried again after a pause
``withdrawing``  to be unloaded; its absence is not proved yet
``resident``     its name is gone, but the server may still hold the weights in its cache
``absent``       proved gone: the server was restarted since
"""

ReplicaState: TypeAlias = Literal["up", "unreachable"]

BEGUN = "new to the fleet"
"""Detail of ``loading`` where an adapter's roll-out begins; what the blast-radius limit counts."""
ROLLING = "proved here, not yet on every replica"
"""Detail of ``serving`` while a roll-out goes on: a failure elsewhere still takes it back."""
RETURNING = "back after it was gone here"
"""Detail of ``loading`` and ``proving`` where it had been in full service: a failure concerns this replica alone."""
FOREIGN = "another folder was served under its name; restart the server"
"""Detail of ``withdrawing`` and ``resident`` where caches under the name may be of other weights."""


@dataclass(frozen=True, slots=True)
class Desired:
    """One adapter that every replica should serve."""

    digest: str
    """``sha256-…``; also the name under which servers load it, so that no name ever means two contents."""
    name: str
    """What people call it; an alias that the ledger keeps, never a server's name."""
    path: Path
    """Its immutable folder below ``promoted/``."""
    canaries: tuple[Canary, ...]
    """What it is proved with; empty while none were drawn, and then it waits."""


@dataclass(frozen=True, slots=True)
class Serving:
    """One adapter on one replica, as last recorded."""

    replica: str
    """The replica's URL."""
    digest: str
    """The adapter; for one that is none of ours, its name there."""
    state: ServingState
    """How far it is."""
    detail: str
    """The cause, in one line, where there is one to tell."""
    attempts: int
    """How often it failed since it last served."""
    since: datetime
    """When it came to this state, UTC."""


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One server, as last seen."""

    replica: str
    """Its URL."""
    state: ReplicaState
    """Whether it answered."""
    detail: str
    """What differs or fails, in one line; empty when all is as desired."""
    boot: str
    """Identity of the server's process; another one means that it restarted."""
    since: datetime
    """When it came to this state, UTC."""
    checked: datetime
    """When it was last asked, UTC."""


class FleetMemory(Protocol):
    """Keeps what the reconciler did, durably, before it does it."""

    def desired(self) -> Sequence[Desired]:
        """Return what every replica should serve, the longest promoted first."""
        ...

    def servings(self) -> Sequence[Serving]:
        """Return everything recorded of adapters on replicas."""
        ...

    def replicas(self) -> Sequence[ReplicaStatus]:
        """Return every replica as last seen."""
        ...

    def record(self, replica: str, digest: str, state: ServingState, detail: str = "") -> None:
        """Keep that an adapter on a replica comes to a state."""
        ...

    def seen(self, replica: str, state: ReplicaState, detail: str, boot: str) -> None:
        """Keep how a replica was found."""
        ...

    def forget(self, replica: str) -> None:
        """Drop everything about a replica that the configuration names no more."""
        ...

    def drop(self, replica: str, digest: str) -> None:
        """Drop what is recorded of an adapter on a replica, once its absence was recorded."""
        ...

    def rolled_out_since(self, moment: datetime) -> int:
        """Return how many adapters were recorded as ``loading`` with the detail ``BEGUN`` since then."""
        ...
