"""One consistent look at the audit trail and at the tables that have to agree with it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.ledger import audit
from monitor.ledger.audit import AuditRecord
from monitor.ledger.judge_tables import JudgeCanaryRow
from monitor.ledger.service_tables import AdapterRow, OverrideRow
from monitor.ledger.tables import ExaminationRow, PlacementRow, ReviewRow


class Audited:
    """All of it as it stood at one moment."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def trail(self) -> Iterator[AuditRecord]:
        """Yield every record in order."""
        return audit.trail(self._session)

    def broken_link(self) -> str | None:
        """Recompute the chain; None where it holds, else what is wrong with it."""
        return audit.broken_link(self._session)

    def decisions(self) -> Iterator[tuple[str, str, str]]:
        """Yield every decision: its review, the digest, and the decision as JSON."""
        decided = (
            select(ReviewRow.id, ExaminationRow.digest, ExaminationRow.decision)
            .join(ReviewRow, ReviewRow.ordinal == ExaminationRow.review_ordinal)
            .where(ExaminationRow.decision.is_not(None))
            .order_by(ExaminationRow.ordinal)
        )
        for review, digest, decision in self._session.execute(decided):
            yield review, digest, str(decision)

    def placements(self) -> Iterator[tuple[str, str, str]]:
        """Yield every finished placement: its review, the digest, and the place."""
        placed = (
            select(ReviewRow.id, ExaminationRow.digest, PlacementRow.place)
            .join(ExaminationRow, ExaminationRow.ordinal == PlacementRow.examination_ordinal)
            .join(ReviewRow, ReviewRow.ordinal == ExaminationRow.review_ordinal)
            .where(PlacementRow.finished.is_not(None))
            .order_by(PlacementRow.ordinal)
        )
        yield from self._session.execute(placed)

    def places(self) -> Iterator[tuple[str, str | None]]:
        """Yield every adapter and where it is now."""
        yield from self._session.execute(select(AdapterRow.digest, AdapterRow.place))

    def words(self) -> Iterator[tuple[int, str, str, str, str]]:
        """Yield every person's word: its number, the digest, the action, the reason, and who said it."""
        said = select(OverrideRow.ordinal, OverrideRow.digest, OverrideRow.action, OverrideRow.reason, OverrideRow.who)
        yield from self._session.execute(said.order_by(OverrideRow.ordinal))

    def judges(self) -> Iterator[tuple[str, int, bool]]:
        """Yield every judge that was held to canaries, how often it was accepted, and whether it stands as moved."""
        row = JudgeCanaryRow
        rows = select(row.judge, row.accepted, row.moved).order_by(row.judge, row.ordinal)
        for judge, mine in itertools.groupby(self._session.execute(rows), key=lambda found: found.judge):
            accepted, standing = 0, False
            for _, at, moved in mine:
                accepted, standing = (accepted, moved) if at is None else (accepted + 1, standing)
            yield judge, accepted, standing
