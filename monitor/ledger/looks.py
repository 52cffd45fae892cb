"""What one guard last found about adapters, in whatever review: for guards that compare with earlier adapters."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select

from monitor.ledger.database import Database
from monitor.ledger.tables import RESULTS, ExaminationRow, LookRow
from policies.findings import Result


class Looks:
    """All guards' results of one ledger, by adapter."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def last(self, digests: Sequence[str], guard: str, version: str) -> dict[str, list[Result]]:
        """Return what this version of a guard last found about each of these digests (at most 500).

        Reviews that are not finished count: what was measured stays true whatever is decided.
        """
        last = (
            select(func.max(LookRow.ordinal))
            .join(ExaminationRow, ExaminationRow.ordinal == LookRow.examination_ordinal)
            .where(ExaminationRow.digest.in_(list(digests)[:500]), LookRow.guard == guard, LookRow.version == version)
            .group_by(ExaminationRow.digest)
        )
        statement = (
            select(ExaminationRow.digest, LookRow.results)
            .join(ExaminationRow, ExaminationRow.ordinal == LookRow.examination_ordinal)
            .where(LookRow.ordinal.in_(last))
        )
        with self._database.reading() as session:
            return {digest: RESULTS.validate_json(results) for digest, results in session.execute(statement)}
