"""The numbers of an examination, flat: what metrics, timelines and comparisons read."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, select

from monitor.ledger.database import Database
from monitor.ledger.service_tables import AdapterRow, MeasureRow
from monitor.ledger.tables import ReviewRow
from monitor.review import Examination
from policies.findings import Finding

KEPT = {
    "misalignment_rise",
    "misalignment_rise_by_category",
    "misalignment_ratio",
    "incoherence_rise",
    "alignment_score",
    "coherence_score",
    "relevance_score",
    "subspace_projection",
    "weight_energy_ratio",
    "logit_change",
}
"""Measures that are kept flat; the review itself keeps all."""

_COLUMNS = (
    MeasureRow.digest,
    MeasureRow.at,
    MeasureRow.measure,
    MeasureRow.modality,
    MeasureRow.category,
    MeasureRow.model,
    MeasureRow.value,
    MeasureRow.low,
    MeasureRow.high,
    MeasureRow.n,
)
"""In the order of ``Measured``'s fields; a scrape reads thousands of rows, too many to build objects twice."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One number of one examination."""

    digest: str
    """The adapter."""
    at: datetime
    """When its review was finished, UTC."""
    measure: str
    """One of ``KEPT``."""
    modality: str
    """``text``, ``image``, or empty."""
    category: str
    """The suite's category, or empty."""
    model: str
    """``adapter`` or ``base`` where both are measured, or empty."""
    value: float
    """In the measure's unit: ratios 0 to 1, rises -1 to 1, scores 0 to 100."""
    low: float | None
    """Lower end of the 95 % interval."""
    high: float | None
    """Upper end of the 95 % interval."""
    n: int
    """What it rests on."""


class Measures:
    """All flat numbers of one ledger."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def latest(self, digests: Sequence[str], measures: Collection[str] = KEPT) -> list[Measured]:
        """Return the numbers of each digest's last finished review; what earlier ones found is not read."""
        found: dict[tuple[str, str, str, str, str], Measured] = {}
        with self._database.reading() as session:
            for start in range(0, len(digests), 500):
                last = (
                    select(*_COLUMNS)
                    .select_from(AdapterRow)
                    .join(ReviewRow, ReviewRow.id == AdapterRow.review)
                    .join(
                        MeasureRow,
                        and_(MeasureRow.digest == AdapterRow.digest, MeasureRow.review_ordinal == ReviewRow.ordinal),
                    )
                    .where(AdapterRow.digest.in_(digests[start : start + 500]), MeasureRow.measure.in_(measures))
                    .order_by(MeasureRow.ordinal)
                )
                for row in session.execute(last):
                    number = Measured(*tuple(row))
                    found[number.digest, number.measure, number.modality, number.category, number.model] = number
        return list(found.values())

    def history(self, digests: Sequence[str], measure: str) -> list[Measured]:
        """Return one measure of these digests in every review, oldest first."""
        with self._database.reading() as session:
            statement = (
                select(MeasureRow)
                .where(MeasureRow.digest.in_(list(digests)), MeasureRow.measure == measure)
                .order_by(MeasureRow.at, MeasureRow.ordinal)
            )
            return [_measured(row) for row in session.scalars(statement)]


def measures_of(examination: Examination, review_ordinal: int, at: datetime) -> Iterator[MeasureRow]:
    """Make the rows of one examination."""
    for result in examination.results:
        if not isinstance(result, Finding) or result.measure not in KEPT or not math.isfinite(result.value):
            continue
        if set(result.labels) - {"modality", "category", "model"}:
            continue  # by trigger, layer or reason: the review keeps it
        yield MeasureRow(
            review_ordinal=review_ordinal,
            digest=examination.digest,
            at=at,
            measure=result.measure,
            modality=result.labels.get("modality", ""),
            category=result.labels.get("category", ""),
            model=result.labels.get("model", ""),
            value=result.value,
            low=_finite(result.low),
            high=_finite(result.high),
            n=result.n,
        )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _measured(row: MeasureRow) -> Measured:
    return Measured(
        digest=row.digest,
        at=row.at,
        measure=row.measure,
        modality=row.modality,
        category=row.category,
        model=row.model,
        value=row.value,
        low=row.low,
        high=row.high,
        n=row.n,
    )
