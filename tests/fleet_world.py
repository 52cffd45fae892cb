"""A fleet to try things on: adapters in folders, a memory in dictionaries, a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fake_vllm import FakeVllm, canaries_of

from adapters.adapter import CONFIG_NAME, WEIGHTS_NAME, digest_adapter
from adapters.fleet import Fleet
from adapters.fleet_record import BEGUN, Desired, ReplicaState, ReplicaStatus, Serving, ServingState
from adapters.vllm_replica import VllmReplica


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **span: float) -> None:
        self.now += timedelta(**span)


class DictMemory:
    """The ``FleetMemory`` protocol without a disk; everything recorded stays in ``history``."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.wanted: dict[str, Desired] = {}
        self.rows: dict[tuple[str, str], Serving] = {}
        self.statuses: dict[str, ReplicaStatus] = {}
        self.history: list[tuple[str, str, ServingState]] = []
        self.begun: list[tuple[datetime, str]] = []

    def desired(self) -> Sequence[Desired]:
        return list(self.wanted.values())

    def servings(self) -> Sequence[Serving]:
        return list(self.rows.values())

    def replicas(self) -> Sequence[ReplicaStatus]:
        return list(self.statuses.values())

    def record(self, replica: str, digest: str, state: ServingState, detail: str = "") -> None:
        before = self.rows.get((replica, digest))
        changed = before is None or before.state != state
        attempts = 0 if before is None or state == "serving" else before.attempts
        if changed:
            self.history.append((replica, digest, state))
            if (state, detail) == ("loading", BEGUN):
                self.begun.append((self.clock(), digest))
        since = self.clock() if before is None or changed else before.since
        attempts += changed and state == "failed"
        self.rows[replica, digest] = Serving(replica, digest, state, detail, attempts, since)

    def seen(self, replica: str, state: ReplicaState, detail: str, boot: str) -> None:
        before = self.statuses.get(replica)
        since = before.since if before is not None and before.state == state else self.clock()
        self.statuses[replica] = ReplicaStatus(replica, state, detail, boot, since, self.clock())

    def forget(self, replica: str) -> None:
        self.statuses.pop(replica, None)
        self.rows = {key: row for key, row in self.rows.items() if key[0] != replica}

    def drop(self, replica: str, digest: str) -> None:
        del self.rows[replica, digest]

    def rolled_out_since(self, moment: datetime) -> int:
        return len({digest for at, digest in self.begun if at >= moment})

    def state(self, server: FakeVllm, wanted: Desired) -> ServingState | None:
        row = self.rows.get((server.url, wanted.digest))
        return row.state if row is not None else None

    def states(self, wanted: Desired) -> set[ServingState]:
        return {row.state for row in self.rows.values() if row.digest == wanted.digest}

    def detail(self, server: FakeVllm) -> str:
        return self.statuses[server.url].detail

    def promote(self, wanted: Desired) -> None:
        self.wanted[wanted.digest] = wanted


def make_adapter(promoted: Path, number: int, vision: bool = False) -> Desired:
    """An adapter's folder below ``promoted``, under its digest."""
    draft = promoted / f"draft-{number}"
    draft.mkdir(parents=True)
    (draft / CONFIG_NAME).write_text("{}")
    (draft / WEIGHTS_NAME).write_bytes(f"weights {number}".encode())
    digest = digest_adapter(draft)
    home = draft.rename(promoted / digest)
    return Desired(digest, f"adapter-{number}", home, canaries_of(home, vision))


def fleet_of(
    servers: Sequence[FakeVllm], memory: DictMemory, clock: Clock, timeout_seconds: float = 5, **options: object
) -> Fleet:
    """A fleet of these servers."""
    replicas = [VllmReplica(server.url, timeout_seconds=timeout_seconds) for server in servers]
    return Fleet(replicas, memory, clock=clock, **options)  # type: ignore[arg-type]
