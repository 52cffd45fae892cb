"""Answers and judgements that all reviews share, so that no run pays twice for one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from guards.judges.interface import Judgement
from monitor.ledger.database import Database
from monitor.ledger.tables import AnswerRow, JudgementRow

_CHUNK = 500
"""Keys in one query; SQLite before 3.32 takes at most 999 parameters."""

_Item = TypeVar("_Item")


class SharedMemory:
    """Keeps finished answers and judgements; see :class:`guards.interface.Memory`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def recall_answers(self, model: str, keys: Sequence[str]) -> dict[str, str]:
        """Return the kept answers of one model (a base or adapter digest) among ``keys``."""
        with self._database.reading() as session:
            return _recall_answers(session, model, keys)

    def keep_answers(self, model: str, answers: Mapping[str, str]) -> None:
        """Keep answers durably before anything is done with them; one kept before stands."""
        with self._database.writing() as session:
            kept = _recall_answers(session, model, list(answers))
            session.add_all(
                AnswerRow(model=model, key=key, answer=answer) for key, answer in answers.items() if key not in kept
            )

    def recall_judgements(self, keys: Sequence[str]) -> dict[str, Judgement]:
        """Return the kept judgements among ``keys``."""
        with self._database.reading() as session:
            return _recall_judgements(session, keys)

    def keep_judgements(self, judgements: Mapping[str, Judgement]) -> None:
        """Keep judgements durably before anything is done with them; one kept before stands."""
        with self._database.writing() as session:
            kept = _recall_judgements(session, list(judgements))
            session.add_all(
                JudgementRow(key=key, judgement=judgement.model_dump_json())
                for key, judgement in judgements.items()
                if key not in kept
            )


def _recall_answers(session: Session, model: str, keys: Iterable[str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    for chunk in _chunks(keys):
        statement = select(AnswerRow.key, AnswerRow.answer).where(AnswerRow.model == model, AnswerRow.key.in_(chunk))
        kept.update((key, answer) for key, answer in session.execute(statement))
    return kept


def _recall_judgements(session: Session, keys: Iterable[str]) -> dict[str, Judgement]:
    kept: dict[str, Judgement] = {}
    for chunk in _chunks(keys):
        statement = select(JudgementRow.key, JudgementRow.judgement).where(JudgementRow.key.in_(chunk))
        kept.update((key, Judgement.model_validate_json(payload)) for key, payload in session.execute(statement))
    return kept


def _chunks(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    rest = iter(items)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
