"""The canaries of judges, what judges said of them, and who accepted a judge that had moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter
from sqlalchemy import ColumnElement, Integer, Select, delete, func, literal_column, select, update
from sqlalchemy.orm import Session

from guards.judges.interface import Judgement
from guards.judges.judge_canaries import JudgeCanary, Standing
from monitor.ledger import audit
from monitor.ledger.database import Database, LedgerConflict
from monitor.ledger.judge_tables import JudgeCanaryRow
from monitor.ledger.service_tables import ValueRow
from monitor.ledger.tables import JudgementRow
from monitor.ledger.values import put

_CANARIES: TypeAdapter[tuple[JudgeCanary, ...]] = TypeAdapter(
    tuple[JudgeCanary, ...], config=ConfigDict(ser_json_inf_nan="strings")
)
_rowid: ColumnElement[int] = literal_column("judgements.rowid", Integer)
"""Grows with every judgement that is kept."""
_IN_USE = "judge_in_use"
_Rows = TypeVar("_Rows", bound=Select[Any])


@dataclass(frozen=True, slots=True)
class JudgeState:
    """How one judge stands to its canaries."""

    judge: str
    """Its plain id."""
    moved: bool
    """Whether it was last found to have moved."""
    shift: float | None
    """By how many points, on average, on the scale that moved most; None before it was asked again."""
    at: datetime
    """When it last said something of them, UTC."""
    transcripts: int
    """How many there are."""


class JudgeCanaryLedger:
    """All of one ledger; implements :class:`guards.judges.judge_canaries.CanaryKeeper`."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def standing(self, judge: str) -> Standing | None:
        """Return the canaries that a judge is held to; None of one that was never seen."""
        with self._database.reading() as session:
            row = _standing(session, judge)
            if row is None:
                return None
            at = row.checked or row.frozen
            canaries = _CANARIES.validate_json(row.canaries)
            return Standing(row.ordinal, row.source, canaries, at, self._clock() - at, row.moved)

    def freeze(self, judge: str, source: str, canaries: Sequence[JudgeCanary]) -> None:
        """Keep what a judge is held to from now on."""
        with self._database.writing() as session:
            now = self._clock()
            row = JudgeCanaryRow(judge=judge, source=source, frozen=now, checked=None, shift=None, moved=False)
            row.canaries, row.sound_until, row.accepted = _written(canaries), _last_judgement(session), None
            session.add(row)
            audit.append(session, now, "judge_frozen", judge=judge, source=source, transcripts=len(canaries))

    def checked(
        self, standing: Standing, canaries: Sequence[JudgeCanary], shift: float, moved: bool, ids: Sequence[str]
    ) -> None:
        """Keep what a judge said again; see :meth:`guards.judges.judge_canaries.CanaryKeeper.checked`.

        A judge that was accepted or frozen anew meanwhile is held to other canaries; of the old ones nothing is kept
        any more.
        """
        with self._database.writing() as session:
            row = session.get_one(JudgeCanaryRow, standing.number)
            if row is not _standing(session, row.judge):
                return
            now, before = self._clock(), row.moved
            told: dict[str, Any] = {"judge": row.judge, "points": shift, "transcripts": len(canaries)}
            if moved:
                told |= {"unmoved_at": audit.moment(standing.at)} if not before else {}
                told |= {"judgements_forgotten": _forget(session, row.sound_until, ids)}
            else:
                row.sound_until = _last_judgement(session)
            row.canaries, row.checked, row.shift, row.moved = _written(canaries), now, shift, moved
            if moved != before:
                audit.append(session, now, "judge_moved" if moved else "judge_returned", **told)

    def acceptances(self, judge: str) -> int:
        """Return how often a judge had moved and was accepted as it then was."""
        accepted = select(func.count()).where(JudgeCanaryRow.judge == judge, JudgeCanaryRow.accepted.is_not(None))
        with self._database.reading() as session:
            return session.scalar(accepted) or 0

    def accept(self, judge: str, reason: str, who: str) -> None:
        """Hold a judge that moved to what it said when it was last looked at, as another judge than before.

        Raises:
            LedgerConflict: it has not moved.
        """
        with self._database.writing() as session:
            row = _standing(session, judge)
            if row is None or not row.moved or row.checked is None:
                raise LedgerConflict(f"{judge} has not moved, so there is nothing to accept")
            now = self._clock()
            row.accepted = now
            canaries = _CANARIES.validate_json(row.canaries)
            last = [one.model_copy(update={"frozen": one.last or one.frozen, "last": None}) for one in canaries]
            # Of the moment that these scores are from: from then on the judge may have moved once more.
            fresh = JudgeCanaryRow(judge=judge, source=row.source, frozen=row.checked, checked=None, shift=None)
            fresh.canaries, fresh.moved, fresh.accepted = _written(last), False, None
            fresh.sound_until = _last_judgement(session)
            session.add(fresh)
            audit.append(session, now, "judge_accepted", judge=judge, points=row.shift, reason=reason, who=who)

    def use(self, judges: Sequence[str]) -> None:
        """Note which judges reviews use now."""
        with self._database.writing() as session:
            session.execute(update(ValueRow).where(ValueRow.name == _IN_USE).values(value=0.0))
            for judge in judges:
                put(session, _IN_USE, 1.0, judge=judge)

    def in_use(self) -> list[JudgeState]:
        """Return how the judges stand that reviews use now; one that was never seen is left out."""
        with self._database.reading() as session:
            named = select(func.json_extract(ValueRow.labels, "$.judge"))
            used = named.where(ValueRow.name == _IN_USE, ValueRow.value == 1).order_by(ValueRow.labels)
            return _states(session, session.scalars(used))

    def moved(self) -> list[JudgeState]:
        """Return every judge that stands as moved, in use or not."""
        return [state for state in self.known() if state.moved]

    def known(self) -> list[JudgeState]:
        """Return every judge that was ever held to canaries, by its plain id."""
        with self._database.reading() as session:
            judges = select(JudgeCanaryRow.judge).distinct().order_by(JudgeCanaryRow.judge)
            return _states(session, session.scalars(judges))


def _standing(session: Session, judge: str) -> JudgeCanaryRow | None:
    return session.scalar(_newest(select(JudgeCanaryRow), judge))


def _newest(rows: _Rows, judge: str) -> _Rows:
    """Narrow ``rows`` to what a judge is held to now."""
    standing = rows.where(JudgeCanaryRow.judge == judge, JudgeCanaryRow.accepted.is_(None))
    return standing.order_by(JudgeCanaryRow.ordinal.desc()).limit(1)


def _states(session: Session, judges: Iterable[str]) -> list[JudgeState]:
    return [state for judge in list(judges) if (state := _state(session, judge)) is not None]


def _state(session: Session, judge: str) -> JudgeState | None:
    """Count the transcripts where they lie: their pictures would be carried along at every scrape."""
    row = JudgeCanaryRow
    transcripts = func.json_array_length(func.json_extract(row.canaries, "$"))
    columns = select(row.moved, row.shift, func.coalesce(row.checked, row.frozen), transcripts)
    found = session.execute(_newest(columns, judge)).first()
    return None if found is None else JudgeState(judge, *found)


def _written(canaries: Sequence[JudgeCanary]) -> str:
    return _CANARIES.dump_json(tuple(canaries)).decode()


def _last_judgement(session: Session) -> int:
    return session.scalar(select(func.max(_rowid)).select_from(JudgementRow)) or 0


def _forget(session: Session, sound_until: int, ids: Sequence[str]) -> int:
    """Forget what these judges judged since; it is asked again, and nobody can tell how much of it had moved."""
    since = select(JudgementRow.key, JudgementRow.judgement).where(_rowid > sound_until)
    rows = list(session.execute(since))
    keys = [key for key, payload in rows if Judgement.model_validate_json(payload).judge in ids]
    for start in range(0, len(keys), 500):
        session.execute(delete(JudgementRow).where(JudgementRow.key.in_(keys[start : start + 500])))
    return len(keys)
