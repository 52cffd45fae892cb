"""The places of all adapters that were ever tested, by which an error bound holds over the whole stream of them."""

from __future__ import annotations

from sqlalchemy import func, select, update

from monitor.ledger.database import Database
from monitor.ledger.service_tables import StreamRow
from policies.stream import Seat


class StreamLedger:
    """Implements :class:`guards.interface.Stream` durably."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def seat(self, stream: str, test: str) -> Seat:
        """Return the place of one test in a stream: the next one, or the one that it was given before.

        Alarms that are told later, of tests that had begun before this one, never change a place that was given.
        """
        with self._database.writing() as session:
            known = session.get(StreamRow, (stream, test))
            if known is None:
                earlier = select(func.count(), func.count().filter(StreamRow.rejected.is_(True))).where(
                    StreamRow.stream == stream
                )
                count, rejections = session.execute(earlier).one()
                known = StreamRow(stream=stream, test=test, position=count + 1, rejections=rejections, rejected=None)
                session.add(known)
            return Seat(known.position, known.rejections)

    def tell(self, stream: str, test: str, *, rejected: bool) -> None:
        """Record how a test ended; the first word stands."""
        unsaid = (StreamRow.stream == stream, StreamRow.test == test, StreamRow.rejected.is_(None))
        with self._database.writing() as session:
            session.execute(update(StreamRow).where(*unsaid).values(rejected=rejected))
