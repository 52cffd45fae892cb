"""What is known of every adapter now: names, parents, where it lies, what people said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from adapters.adapter import Adapter
from monitor.ledger import audit
from monitor.ledger.database import Database
from monitor.ledger.service_tables import (
    AdapterRow,
    NameRow,
    OverrideRow,
    ParentSource,
    SightingRow,
    Standing,
)


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
class Override:
    """A person's word on one digest."""

    ordinal: int
    """Its number; the last one of a digest stands."""
    digest: str
    """The adapter."""
    action: Literal["release", "block"]
    """Promote it whatever was decided, or keep it away."""
    reason: str
    """Why."""
    who: str
    """Who said so."""
    at: datetime
    """When, UTC."""
    applied: datetime | None
    """When files and servers followed, UTC."""


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
        """Record an arrival under a name, and say whether its bytes are new here."""
        with self._database.writing() as session:
            now = self._clock()
            fresh = session.get(AdapterRow, adapter.digest) is None
            if fresh:
                session.add(row_of(adapter, adapter.digest, parent_source, now))
            last = select(NameRow).where(NameRow.name == adapter.name).order_by(NameRow.ordinal.desc()).limit(1)
            named = session.scalar(last)
            if named is None or named.digest != adapter.digest:
                session.add(NameRow(name=adapter.name, digest=adapter.digest, source=source, at=now))
                audit.append(
                    session, now, "arrived", adapter.digest, name=adapter.name, source=source, parent=adapter.parent
                )
            return fresh

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

    def override(self, digest: str, action: Literal["release", "block"], reason: str, who: str) -> Override:
        """Record a person's word. It is carried out by whoever holds the state folder."""
        with self._database.writing() as session:
            now = self._clock()
            row = OverrideRow(digest=digest, action=action, reason=reason, who=who, at=now, applied=None)
            session.add(row)
            audit.append(session, now, "overridden", digest, action=action, reason=reason, who=who)
            session.flush()
            return _override(row)

    def standing_override(self, digest: str) -> Override | None:
        """Return the last word on a digest, if there is one."""
        with self._database.reading() as session:
            row = standing_override(session, digest)
            return None if row is None else _override(row)

    def unapplied_overrides(self) -> list[Override]:
        """Return the words that nothing followed yet, oldest first."""
        with self._database.reading() as session:
            waiting = select(OverrideRow).where(OverrideRow.applied.is_(None)).order_by(OverrideRow.ordinal)
            return [_override(row) for row in session.scalars(waiting)]

    def begin_move(self, digest: str, place: Standing) -> None:
        """Record the intent to put an adapter somewhere outside a review: an override, a retirement, a removal."""
        with self._database.writing() as session:
            audit.append(session, self._clock(), "placing", digest, place=place)

    def finish_move(self, digest: str, place: Standing, override: Override | None = None) -> None:
        """Record that it is there, and that an override was carried out with it."""
        with self._database.writing() as session:
            now = self._clock()
            stand(session, digest, place, now)
            audit.append(session, now, "placed", digest, place=place)
            if override is not None:
                session.get_one(OverrideRow, override.ordinal).applied = now

    def skip_override(self, override: Override) -> None:
        """Record that there is nothing to carry out: the digest is not here, and is met by the word when it arrives."""
        with self._database.writing() as session:
            session.get_one(OverrideRow, override.ordinal).applied = self._clock()


def row_of(adapter: Adapter, arrival: str, parent_source: ParentSource | None, now: datetime) -> AdapterRow:
    """Make the row of an adapter that was not known yet."""
    return AdapterRow(
        digest=adapter.digest,
        name=adapter.name,
        parent=adapter.parent,
        parent_source=parent_source if adapter.parent else None,
        arrival=arrival,
        seen=now,
    )


def stand(session: Session, digest: str, place: Standing, now: datetime) -> None:
    """Say where an adapter is now."""
    row = session.get_one(AdapterRow, digest)
    row.place, row.placed = place, now


def standing_override(session: Session, digest: str) -> OverrideRow | None:
    """Return the last word on a digest within a transaction."""
    return session.scalar(
        select(OverrideRow).where(OverrideRow.digest == digest).order_by(OverrideRow.ordinal.desc()).limit(1)
    )


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


def _override(row: OverrideRow) -> Override:
    return Override(row.ordinal, row.digest, row.action, row.reason, row.who, row.at, row.applied)
