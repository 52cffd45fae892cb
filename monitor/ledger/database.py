"""The file under the ledger: opened, versioned, and its failures named by what happens next.

Retryable
    LedgerUnwritable    the disk is full or fails, or another process is writing
Permanent
    LedgerUnusable      the file is no ledger, is damaged, or is of a newer Alignwatch
    LedgerConflict      what was recorded before forbids this step
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from guards.errors import Permanent, Retryable
from monitor.ledger import schema

BUSY_SECONDS = 10.0
"""How long a statement waits for another process; transactions here take milliseconds, a slow disk's a second."""


class LedgerUnwritable(Retryable):
    """The ledger could not be written; everything recorded before is safe, and a rerun resumes from it."""


class LedgerUnusable(Permanent):
    """The file is not a ledger that this version can read."""


class LedgerConflict(Permanent):
    """What was recorded before, and perhaps acted on, forbids this step."""


class Database:
    """One SQLite file behind one engine: short transactions, durable once they end."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the file, and create its tables unless it is only read.

        Raises:
            LedgerUnusable: the file is missing (when only read), damaged, foreign or newer.
            LedgerUnwritable: the disk is full or fails, or another process holds the file.
        """
        self.path = path
        # Threads of this process wait here for their turn; SQLite would have each ask again and again.
        self._turn = threading.Lock()
        self._engine = _engine(path, read_only)
        try:
            with _named_errors(path):
                self._settle_schema(read_only)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One consistent view of the ledger."""
        with _named_errors(self.path), Session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction: all of it is on the disk at the end, or none of it."""
        writer = self._engine.execution_options(ledger_begin="BEGIN IMMEDIATE")
        with self._turn, _named_errors(self.path), Session(writer) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close every connection; the last one folds the write-ahead log into the file."""
        self._engine.dispose()

    def _settle_schema(self, read_only: bool) -> None:
        if not self.path.parent.is_dir():
            raise LedgerUnusable(f"{self.path.parent} is not a folder; create it, or give the state folder")
        if read_only and not self.path.is_file():
            raise LedgerUnusable(f"{self.path} does not exist; give the state folder of an earlier run")
        with self.reading() as session:
            try:
                found = schema.revision(session.connection())
            except ValueError as error:
                raise LedgerUnusable(
                    f"{self.path} is a database of something else; give another state folder"
                ) from error
        if found == schema.HEAD:
            return
        if found is not None and not schema.is_older(found):
            raise LedgerUnusable(
                f"{self.path} has schema {found}, this Alignwatch knows {schema.HEAD}; use the newer Alignwatch"
            )
        if read_only and found is None:
            raise LedgerUnusable(f"{self.path} holds no reviews yet; run one first")
        if read_only:
            raise LedgerUnusable(
                f"{self.path} has schema {found}, this Alignwatch reads {schema.HEAD}; run a command that writes first"
            )
        self._upgrade(found)

    def _upgrade(self, found: str | None) -> None:
        connection = self._engine.raw_connection()
        try:  # outside a transaction, where alone SQLite can change its journal; kept in the file from then on
            connection.cursor().execute("PRAGMA journal_mode = WAL").close()
            if found is not None:
                self._copy(connection.driver_connection, self.path.with_name(f"{self.path.name}.schema-{found}"))
        finally:
            connection.close()
        with self.writing() as session:
            now = schema.revision(session.connection())  # again: another process may have been faster
            if now != schema.HEAD:
                schema.upgrade(session.connection(), now)

    @staticmethod
    def _copy(connection: Any, path: Path) -> None:
        """Leave a whole copy, or none: it is written under another name and renamed."""
        unfinished = path.with_name(f"{path.name}.part")
        unfinished.unlink(missing_ok=True)
        with closing(sqlite3.connect(unfinished)) as copy:
            connection.backup(copy)
        with unfinished.open("rb") as stream:
            os.fsync(stream.fileno())
        unfinished.replace(path)


def _engine(path: Path, read_only: bool) -> Engine:
    name = f"file:{quote(str(path.absolute()))}"
    query = {"uri": "true", "mode": "ro" if read_only else "rwc"}
    if read_only and not os.access(path.parent, os.W_OK) and not _log_of(path).exists():
        # A reader of a write-ahead log has to create its index, which a folder on a read-only mount forbids. With no
        # log beside the file nothing is missing from it.
        query["immutable"] = "1"
    engine = create_engine(
        URL.create("sqlite", database=name, query=query), connect_args={"timeout": BUSY_SECONDS}, max_overflow=64
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _configure(connection: Any, _record: Any) -> None:
    # Python's driver would start transactions only at the first change, so that what was read before could be stale.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("ledger_begin", "BEGIN"))


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        cause = error.errors()[0]["msg"]
        raise LedgerUnusable(f"{path}: a {error.title} in it cannot be read ({cause}); restore a backup") from error
    except (DBAPIError, sqlite3.Error) as error:
        named = _named(error.orig if isinstance(error, DBAPIError) else error, path)
        if named is None:
            raise
        raise named from error


def _named(error: BaseException | None, path: Path) -> LedgerUnwritable | LedgerUnusable | None:
    """Name what SQLite reports; None for what can only be a fault of this code."""
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the higher bits say where in SQLite it happened
    match primary:
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            step = "free space there and run again; nothing recorded is lost"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            step = "make the folder writable and run again; nothing recorded is lost"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            step = "end the other process that uses it and run again; nothing recorded is lost"
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return LedgerUnusable(f"{path} is damaged or no ledger ({error}); move it away or restore a backup")
        case _:
            return None
    return LedgerUnwritable(f"the ledger in {path.parent} cannot be written ({error}); {step}")
