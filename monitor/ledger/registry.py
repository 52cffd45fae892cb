"""What is known of every adapter now: names, parents, where it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from adapters.adapter import Adapter
from monitor.ledger import audit
from monitor.ledger.database import Database, LedgerConflict
from monitor.ledger.overrides import Override, carried_out
from monitor.ledger.service_tables import (
    AdapterRow,
    NameRow,
    ParentSource,
    SightingRow,
    Standing,
)

_GROUNDS: dict[ParentSource, int] = {"guessed": 0, "declared": 1, "remedy": 2}
"""How well a parent is known; the higher stands above the lower, and among equals the first."""


@dataclass(frozen=True, slots=True)
class Known:
    """One adapter, as it stands now."""

    digest: str
    """``sha256-…``."""
    name: str
    """As it first arrived; for a mended adapter, after the one it was made from."""
    parent: str | None
    """Digest of the adapter that it was trained or mended from."""
    parent_source: ParentSource | None
    """How the parent is known."""
    arrival: str
    """Digest of the arrived adapter that it is, or was mended from."""
    seen: datetime
    """When it was first seen, UTC."""
    place: Standing | None
    """Where it is; None before its first placement, and in observe mode."""
    placed: datetime | None
    """When it came there, UTC."""
    review: str | None
    """Id of the last finished review that examined it."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a source held at one path when it was last looked at."""

    path: str
    """Of the adapter's folder, relative to the source's."""
    signature: str
    """Digest of names, sizes, inodes and times of all its files."""
    digest: str | None
    """Of the adapter; None where it could not be taken in."""
    reason: str | None
    """Why not, in one line."""


class Registry:
    """All adapters of one ledger."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def arrived(self, adapter: Adapter, source: str, parent_source: ParentSource | None) -> bool:
        """Record an arrival under a name, and say whether its bytes are new here.

        Under a name that already stood for these bytes last, nothing is recorded again. A parent is learnt from every
        arrival: what is declared stands above a guess, and what a remedy is known to have made above both.
        """
        with self._database.writing() as session:
            now = self._clock()
            met = session.get(AdapterRow, adapter.digest)
            if met is None:
                session.add(row_of(adapter, adapter.digest, parent_source, now))
            elif parent_source is not None:
                learn_parent(met, adapter.parent, parent_source)
            last = select(NameRow).where(NameRow.name == adapter.name).order_by(NameRow.ordinal.desc()).limit(1)
            named = session.scalar(last)
            if named is None or named.digest != adapter.digest:
                session.add(NameRow(name=adapter.name, digest=adapter.digest, source=source, at=now))
                audit.append(
                    session, now, "arrived", adapter.digest, name=adapter.name, source=source, parent=adapter.parent
                )
            return met is None

    def sightings(self, source: str) -> dict[str, Sighting]:
        """Return what a source held when last looked at, by path."""
        with self._database.reading() as session:
            rows = session.execute(
                select(SightingRow.path, SightingRow.signature, SightingRow.digest, SightingRow.reason).where(
                    SightingRow.source == source
                )
            )
            return {path: Sighting(path, signature, digest, reason) for path, signature, digest, reason in rows}

    def sighted(self, source: str, sighting: Sighting) -> None:
        """Keep what a source holds at one path."""
        with self._database.writing() as session:
            session.merge(
                SightingRow(
                    source=source,
                    path=sighting.path,
                    signature=sighting.signature,
                    digest=sighting.digest,
                    reason=sighting.reason,
                    at=self._clock(),
                )
            )

    def forget(self, source: str, paths: Iterable[str]) -> None:
        """Drop what a source holds no more; the adapters themselves stay known."""
        with self._database.writing() as session:
            for path in paths:
                row = session.get(SightingRow, (source, path))
                if row is not None:
                    session.delete(row)

    def get(self, digest: str) -> Known | None:
        """Return one adapter."""
        with self._database.reading() as session:
            row = session.get(AdapterRow, digest)
            return None if row is None else known_of(row)

    def find(self, text: str, limit: int = 20) -> list[Known]:
        """Return the adapters whose digest begins so or whose name is this, the newest first."""
        prefix = text if text.startswith("sha256-") else f"sha256-{text.lower()}"
        with self._database.reading() as session:
            named = select(NameRow.digest).where(NameRow.name == text)
            wanted = AdapterRow.digest.startswith(prefix, autoescape=True) | AdapterRow.digest.in_(named)
            wanted = wanted | (AdapterRow.name == text)
            return [
                known_of(row)
                for row in session.scalars(
                    select(AdapterRow).where(wanted).order_by(AdapterRow.seen.desc()).limit(limit)
                )
            ]

    def newest(self, limit: int = 100, offset: int = 0, place: Standing | None = None) -> list[Known]:
        """Return adapters, the newest first, those of one place where one is given."""
        statement = select(AdapterRow).order_by(AdapterRow.seen.desc(), AdapterRow.digest).limit(limit).offset(offset)
        if place is not None:
            statement = statement.where(AdapterRow.place == place)
        with self._database.reading() as session:
            return [known_of(row) for row in session.scalars(statement)]

    def placed_before(self, place: Standing, moment: datetime) -> list[Known]:
        """Return the adapters that came to a place before a moment, the longest there first."""
        statement = select(AdapterRow).where(AdapterRow.place == place, AdapterRow.placed < moment)
        with self._database.reading() as session:
            return [known_of(row) for row in session.scalars(statement.order_by(AdapterRow.placed))]

    def beginning_with(self, prefix: str, limit: int = 5) -> list[str]:
        """Return the known digests that begin so."""
        statement = select(AdapterRow.digest).where(AdapterRow.digest.startswith(prefix, autoescape=True))
        with self._database.reading() as session:
            return list(session.scalars(statement.order_by(AdapterRow.digest).limit(limit)))

    def counts(self) -> dict[str, int]:
        """Return how many adapters are in each place; ``""`` for those in none yet."""
        with self._database.reading() as session:
            counted = session.execute(select(AdapterRow.place, func.count()).group_by(AdapterRow.place))
            return {place or "": count for place, count in counted}

    def family(self, digest: str) -> list[Known]:
        """Return an adapter with all its ancestors and all their descendants, parents before children."""
        with self._database.reading() as session:
            return [known_of(row) for row in _family(session, digest)]

    def versions(self, name: str, limit: int = 50) -> list[tuple[datetime, str]]:
        """Return when a name arrived with which digest, the last first."""
        with self._database.reading() as session:
            rows = session.execute(
                select(NameRow.at, NameRow.digest)
                .where(NameRow.name == name)
                .order_by(NameRow.ordinal.desc())
                .limit(limit)
            )
            return [(at, digest) for at, digest in rows]

    def names(self, digest: str) -> list[str]:
        """Return every name under which these bytes arrived, the first one first."""
        with self._database.reading() as session:
            rows = session.scalars(select(NameRow.name).where(NameRow.digest == digest).order_by(NameRow.ordinal))
            return list(dict.fromkeys(rows))

    def begin_move(self, digest: str, place: Standing) -> None:
        """Record the intent to put an adapter somewhere outside a review: an override, a retirement, a removal.

        Raises:
            LedgerConflict: the digest is not known.
        """
        with self._database.writing() as session:
            _required(session, digest)
            audit.append(session, self._clock(), "placing", digest, place=place)

    def finish_move(self, digest: str, place: Standing, override: Override | None = None) -> None:
        """Record that it is there, and that an override was carried out with it.

        Raises:
            LedgerConflict: the digest is not known.
        """
        with self._database.writing() as session:
            _required(session, digest)
            now = self._clock()
            stand(session, digest, place, now)
            told = {} if override is None else {"override": override.ordinal}
            audit.append(session, now, "placed", digest, place=place, **told)
            if override is not None:
                carried_out(session, override, now)


def row_of(adapter: Adapter, arrival: str, parent_source: ParentSource | None, now: datetime) -> AdapterRow:
    """Make the row of an adapter that was not known yet."""
    parent = adapter.parent if adapter.parent != adapter.digest else None
    return AdapterRow(
        digest=adapter.digest,
        name=adapter.name,
        parent=parent,
        parent_source=parent_source if parent else None,
        arrival=arrival,
        seen=now,
    )


def learn_parent(row: AdapterRow, parent: str | None, source: ParentSource) -> None:
    """Take over a parent that is known on better grounds than the present one."""
    if parent is None or parent == row.digest:
        return
    if row.parent is None or row.parent_source is None or _GROUNDS[source] > _GROUNDS[row.parent_source]:
        row.parent, row.parent_source = parent, source


def stand(session: Session, digest: str, place: Standing, now: datetime) -> None:
    """Say where an adapter is now."""
    row = session.get_one(AdapterRow, digest)
    row.place, row.placed = place, now


def _family(session: Session, digest: str) -> list[AdapterRow]:
    root, met = session.get(AdapterRow, digest), {digest}
    while root is not None and root.parent is not None and root.parent not in met:  # a declared parent may be a lie
        met.add(root.parent)
        above = session.get(AdapterRow, root.parent)
        if above is None:
            break
        root = above
    if root is None:
        return []
    family, waiting, met = [], [root], {root.digest}
    while waiting:
        row = waiting.pop(0)
        family.append(row)
        children = session.scalars(select(AdapterRow).where(AdapterRow.parent == row.digest).order_by(AdapterRow.seen))
        for child in children:
            if child.digest not in met:
                met.add(child.digest)
                waiting.append(child)
    return family


def known_of(row: AdapterRow) -> Known:
    """Return a row as everyone else knows it."""
    return Known(
        digest=row.digest,
        name=row.name,
        parent=row.parent,
        parent_source=row.parent_source,
        arrival=row.arrival,
        seen=row.seen,
        place=row.place,
        placed=row.placed,
        review=row.review,
    )


def _required(session: Session, digest: str) -> None:
    if session.get(AdapterRow, digest) is None:
        raise LedgerConflict(f"{digest} was never seen here; nothing of it can be moved")
