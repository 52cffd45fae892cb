"""What one review has spent, kept while it spends, so that a run which resumes it does not begin at nothing."""

from __future__ import annotations

from sqlalchemy.dialects.sqlite import insert

from guards.judges.meter import Spent
from monitor.ledger.database import Database
from monitor.ledger.judge_tables import SpendingRow


class SpendingLedger:
    """One review's spending."""

    def __init__(self, database: Database, review_ordinal: int) -> None:
        self._database = database
        self._review = review_ordinal

    def recall(self) -> Spent:
        """Return what its earlier runs spent; nothing where there were none."""
        with self._database.reading() as session:
            row = session.get(SpendingRow, self._review)
            return Spent() if row is None else Spent(row.judge_calls, row.judge_tokens, row.money, row.seconds)

    def keep(self, spent: Spent) -> None:
        """Keep what it has spent by now."""
        now = {
            "judge_calls": spent.judge_calls,
            "judge_tokens": spent.judge_tokens,
            "money": spent.money,
            "seconds": spent.seconds,
        }
        with self._database.writing() as session:
            fresh = insert(SpendingRow).values(review_ordinal=self._review, **now)
            session.execute(fresh.on_conflict_do_update(index_elements=["review_ordinal"], set_=now))
