"""Properties of the ledger's schema: every earlier ledger is taken over whole, or left as it was."""

import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from ledger_world import change, statements
from setuptools import find_packages

from monitor.ledger import Ledger, LedgerUnusable, schema
from monitor.ledger.tables import Row
from monitor.review import Review

FOLDER = Path(__file__).parent / "ledgers"
A, M, GOOD, HELD, UNDONE = (f"sha256-{letter * 64}" for letter in "acdef")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A ledger that the first Alignwatch wrote: a mended adapter, a reconsidered, a held and an interrupted one."""
    path = tmp_path / "ledger.db"
    connection = sqlite3.connect(path)
    connection.executescript((FOLDER / "schema_0001.sql").read_text(encoding="utf-8"))
    connection.close()
    return path


def test_a_ledger_of_the_first_schema_reads_the_same_after_its_upgrade(old: Path) -> None:
    before = [Review.model_validate(raw) for raw in json.loads((FOLDER / "schema_0001_reviews.json").read_text())]
    with Ledger(old) as ledger:
        assert ledger.reviews() == before
        assert ledger.recall_answers("sha256-" + "b" * 64, ["k"]) == {"k": "hi \0 there"}
        assert ledger.recall_judgements(["j"])["j"].alignment == 5


def test_its_adapters_and_their_numbers_are_known_afterwards(old: Path) -> None:
    with Ledger(old) as ledger:
        known = {adapter.digest: adapter for adapter in ledger.registry.newest()}
        assert {digest: (k.name, k.place) for digest, k in known.items()} == {
            A: ("fresh", "quarantined"),
            M: ("fresh+project", "promoted"),
            GOOD: ("good", "quarantined"),
            HELD: ("held", "held"),
            UNDONE: ("undone", None),
        }
        assert (known[M].parent, known[M].parent_source, known[M].arrival) == (A, "remedy", A)
        assert (known[A].parent, known[A].parent_source, known[A].arrival) == (None, None, A)
        assert known[GOOD].review == ledger.reviews()[2].id
        assert known[UNDONE].review is None
        assert [(m.measure, m.value, m.n) for m in ledger.measures.latest([A])] == [("misalignment_rise", 0.9, 40)]
        assert [m.value for m in ledger.measures.history([GOOD], "misalignment_rise")] == [0.02, 0.5]
        assert ledger.fleet.aliases() == {"fresh": [M]}
        assert ledger.registry.names(GOOD) == ["good"]


def test_its_audit_trail_begins_with_every_decision_and_place_and_goes_on(old: Path) -> None:
    with Ledger(old) as ledger:
        assert ledger.broken_link() is None
        assert [(r.kind, r.payload["place"]) for r in ledger.audit_trail(GOOD) if "place" in r.payload] == [
            ("placed", "promoted"),
            ("placed", "quarantined"),
        ]
        assert [r.kind for r in ledger.audit_trail(UNDONE)] == ["decided", "placing"]
        ledger.note("configured", judge="judge")
        assert ledger.broken_link() is None


def test_the_upgrade_leaves_a_copy_of_the_file_as_it_was(old: Path) -> None:
    before = statements(old)
    Ledger(old).close()
    assert statements(old.with_name("ledger.db.schema-0001")) == before
    assert not list(old.parent.glob("*.part"))


def test_a_job_that_waits_in_a_ledger_of_the_second_schema_waits_on_and_is_of_unknown_suspicion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    with monkeypatch.context() as before:
        before.setattr(schema, "HEAD", "0002")
        Ledger(path).close()
    change(
        path,
        "INSERT INTO jobs (digest, name, reason, repeat, priority, state, attempts, not_before, enqueued) "
        f"VALUES ('{GOOD}', 'good', 'arrival', 0, 10, 'queued', 0, '2026-01-01 12:00:00', '2026-01-01 12:00:00')",
    )
    with Ledger(path) as ledger:
        (job,) = ledger.queue.jobs()
        assert (job.digest, job.suspicion) == (GOOD, None)
        assert ledger.queue.lease("me", 60) is not None
    assert path.with_name("ledger.db.schema-0002").is_file()


def test_an_upgraded_ledger_has_the_tables_of_a_new_one_and_both_have_the_declared_ones(
    old: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new" / "ledger.db"
    new.parent.mkdir()
    for path in (old, new):
        with Ledger(path) as ledger, ledger._database.reading() as session:
            context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
            assert compare_metadata(context, Row.metadata) == []
            assert schema.revision(session.connection()) == schema.HEAD
    assert _objects(old) == _objects(new)


def test_the_head_is_the_newest_version_and_every_version_follows_on_the_one_before() -> None:
    versions = sorted((Path(schema.__file__).parent / "migrations" / "versions").glob("[0-9]*.py"))
    said = [re.findall(r"^(?:down_)?revision = \"?(\w+)", file.read_text(), re.MULTILINE) for file in versions]
    assert said[-1][0] == schema.HEAD
    assert [down for _, down in said] == ["None", *(revision for revision, _ in said[:-1])]
    assert [file.name[:4] for file in versions] == [revision for revision, _ in said]


def test_an_upgrade_that_fails_midway_leaves_the_old_ledger_as_it_was(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = statements(old)
    with monkeypatch.context() as broken:
        broken.setattr("monitor.ledger.migrations.fill_0002._audit", _fails)
        with pytest.raises(ZeroDivisionError):
            Ledger(old)
    assert statements(old) == before
    with Ledger(old) as ledger:
        assert len(ledger.reviews()) == 5


def test_an_upgrade_that_is_killed_midway_leaves_the_old_ledger_as_it_was(old: Path) -> None:
    before = statements(old)
    killed = _python(
        f"""
        import os
        import monitor.ledger.migrations.fill_0002 as fill
        fill._audit = lambda examined: os._exit(9)
        from pathlib import Path
        from monitor.ledger import Ledger
        Ledger(Path({str(old)!r}))
        """
    )
    assert killed.returncode == 9
    assert statements(old) == before
    with Ledger(old) as ledger:
        assert ledger.broken_link() is None


def test_who_only_reads_is_told_to_upgrade_first_and_changes_nothing(old: Path) -> None:
    before = old.read_bytes()
    with pytest.raises(LedgerUnusable, match="has schema 0001"):
        Ledger(old, read_only=True)
    assert old.read_bytes() == before


def test_a_ledger_of_a_newer_alignwatch_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Ledger(path).close()
    change(path, "UPDATE alembic_version SET version_num = '0099'")
    with pytest.raises(LedgerUnusable, match="has schema 0099") as refused:
        Ledger(path)
    assert "\n" not in str(refused.value)


def test_opening_an_up_to_date_ledger_loads_no_migrations(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Ledger(path).close()
    done = _python(
        f"""
        import sys
        from pathlib import Path
        from monitor.ledger import Ledger
        Ledger(Path({str(path)!r})).close()
        print(sorted(name for name in sys.modules if name.split(".")[0] in ("alembic", "mako", "torch")))
        """
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_an_installed_alignwatch_holds_every_version() -> None:
    root = Path(schema.__file__).parents[2]
    assert "monitor.ledger.migrations.versions" in find_packages(str(root), include=["monitor*"])


def _objects(path: Path) -> set[tuple[str, str]]:
    connection = sqlite3.connect(path)
    found = set(connection.execute("SELECT type, name FROM sqlite_master"))
    connection.close()
    return found


def _fails(_examined: object) -> object:
    raise ZeroDivisionError


def _python(code: str) -> "subprocess.CompletedProcess[str]":
    import textwrap

    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
