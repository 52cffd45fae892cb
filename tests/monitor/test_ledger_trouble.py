"""Properties of the ledger on bad days: killed, full, damaged, foreign, busy."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest
from ledger_world import ARRIVED, CONTEXT, Clock, change

from guards.errors import Permanent, Retryable
from monitor.ledger import Ledger, LedgerConflict, LedgerUnusable, LedgerUnwritable, utc_now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger(path, clock) as opened:
        yield opened


def python(code: str, path: Path) -> "subprocess.Popen[str]":
    code = "import sys; from pathlib import Path; path = Path(sys.argv[1])\n" + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


class TestTrouble:
    def test_a_process_killed_between_two_keeps_loses_nothing_kept(self, path: Path) -> None:
        child = python(
            """
            from monitor.ledger import Ledger
            ledger = Ledger(path)
            for number in range(10**9):
                ledger.keep_answers("model", {str(number): "answer"})
                print(number, flush=True)
            """,
            path,
        )
        assert child.stdout is not None
        for _ in range(20):
            child.stdout.readline()
        child.kill()
        rest, _ = child.communicate(timeout=10)
        told = [str(number) for number in range(20 + len(rest.split()))]
        assert child.returncode == -signal.SIGKILL
        with Ledger(path) as ledger:
            assert len(ledger.recall_answers("model", told)) == len(told)

    def test_a_full_disk_is_one_clear_line_and_the_ledger_opens_fine_afterwards(self, path: Path) -> None:
        child = python(
            """
            import resource, signal
            from monitor.ledger import Ledger, LedgerUnwritable
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            ledger = Ledger(path)
            ledger.keep_answers("model", {"before": "kept"})
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, most))
            try:
                ledger.keep_answers("model", {str(number): "x" * 1000 for number in range(1000)})
            except LedgerUnwritable as error:
                print(error)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            ledger.keep_answers("model", {"after": "kept"})
            ledger.close()
            """,
            path,
        )
        out, problems = child.communicate(timeout=30)
        assert problems == ""
        assert len(out.splitlines()) == 1
        assert str(path.parent) in out
        assert "free space" in out
        with Ledger(path) as ledger:
            assert ledger.recall_answers("model", ["before", "after", "0"]) == {"before": "kept", "after": "kept"}

    @pytest.mark.parametrize("read_only", [False, True])
    def test_a_corrupt_file_is_refused_in_one_line_and_left_as_it_is(self, path: Path, read_only: bool) -> None:
        path.write_bytes(b"not a database at all " * 500)
        before = path.read_bytes()
        with pytest.raises(LedgerUnusable, match="damaged") as refused:
            Ledger(path, read_only=read_only)
        assert "\n" not in str(refused.value)
        assert path.read_bytes() == before

    def test_a_truncated_file_is_refused_in_one_line(self, path: Path) -> None:
        with Ledger(path) as ledger:
            ledger.keep_answers("model", {str(number): "x" * 100 for number in range(1000)})
        os.truncate(path, 8192)

        def read() -> None:
            with Ledger(path) as ledger:
                ledger.recall_answers("model", ["1"])

        with pytest.raises(LedgerUnusable, match="damaged"):
            read()

    def test_a_record_that_cannot_be_read_is_refused_in_one_line(self, path: Path) -> None:
        with Ledger(path) as ledger:
            ledger.open_review(ARRIVED, CONTEXT)
            change(path, "UPDATE reviews SET context = '{}'")
            with pytest.raises(LedgerUnusable, match="a Context in it") as refused:
                ledger.reviews()
        assert "\n" not in str(refused.value)

    def test_a_newer_schema_is_refused_in_one_line(self, path: Path) -> None:
        Ledger(path).close()
        change(path, "UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(LedgerUnusable, match="has schema 9999") as refused:
            Ledger(path)
        assert "\n" not in str(refused.value)

    def test_a_database_of_something_else_is_left_alone(self, path: Path) -> None:
        change(path, "CREATE TABLE recipes (name TEXT)")
        before = path.read_bytes()
        with pytest.raises(LedgerUnusable, match="something else"):
            Ledger(path)
        assert path.read_bytes() == before

    def test_reading_creates_nothing(self, path: Path) -> None:
        with pytest.raises(LedgerUnusable, match="does not exist"):
            Ledger(path, read_only=True)
        assert not path.exists()
        path.touch()
        with pytest.raises(LedgerUnusable, match="no reviews yet"):
            Ledger(path, read_only=True)

    def test_a_folder_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(LedgerUnusable, match="missing is not a folder"):
            Ledger(tmp_path / "missing" / "ledger.db")

    def test_a_ledger_held_by_another_writer_is_busy_not_broken(
        self, ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("monitor.ledger.database.BUSY_SECONDS", 0.05)
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with Ledger(path) as second, pytest.raises(LedgerUnwritable, match="other process"):
            second.keep_answers("model", {"key": "answer"})
        holder.close()
        ledger.keep_answers("model", {"key": "answer"})

    def test_errors_tell_what_happens_next(self) -> None:
        assert issubclass(LedgerUnwritable, Retryable)
        assert issubclass(LedgerUnusable, Permanent)
        assert issubclass(LedgerConflict, Permanent)

    def test_what_is_kept_is_on_the_disk_and_tied_together(self, ledger: Ledger, path: Path) -> None:
        with ledger._database.reading() as session:
            connection = session.connection()
            settings = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            }
        assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_the_present_time_is_utc() -> None:
    assert utc_now().tzinfo is UTC
