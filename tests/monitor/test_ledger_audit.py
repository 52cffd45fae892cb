"""Properties of the audit trail: append-only, chained, and in agreement with the tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ledger_world import ARRIVED, CONTEXT, PROMOTE, QUARANTINE, Clock, change

from guards.judges.interface import Judgement
from guards.judges.judge_canaries import JudgeCanary
from monitor.audit_check import HEAD_NAME, check_audit, note_head
from monitor.ledger import Ledger, audit
from monitor.ledger.audit import GENESIS

OTHER = "sha256-" + "d" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger in which one adapter was promoted, blocked, and looked at again."""
    path = tmp_path / "ledger.db"
    with Ledger(path, Clock()) as ledger:
        ledger.registry.arrived(ARRIVED, "inbox", None)
        for decision in (QUARANTINE, PROMOTE):
            record = ledger.open_review(ARRIVED, CONTEXT)
            record.record_decision(ARRIVED.digest, decision)
            record.begin_placement(ARRIVED.digest)
            record.finish_placement(ARRIVED.digest)
            record.close()
        override = ledger.overrides.add(ARRIVED.digest, "block", "found on a forum", "ann")
        ledger.registry.begin_move(ARRIVED.digest, "quarantined")
        ledger.registry.finish_move(ARRIVED.digest, "quarantined", override)
        ledger.fleet.record("http://replica", ARRIVED.digest, "withdrawing")
    return path


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path, Clock()) as opened:
        yield opened


def problems(path: Path, head: str | None = None) -> tuple[str, ...]:
    with Ledger(path, read_only=True) as ledger:
        return check_audit(ledger, head).problems


def tampered(path: Path, *steps: str) -> None:
    """Do what somebody does who may write the file and knows of the triggers."""
    change(path, "DROP TRIGGER audit_refuses_update")
    change(path, "DROP TRIGGER audit_refuses_delete")
    for step in steps:
        change(path, step)


def test_a_ledger_that_nobody_touched_is_whole(ledger: Ledger) -> None:
    report = check_audit(ledger)
    trail = ledger.audit_trail()
    assert report.problems == ()
    assert (report.records, report.head) == (len(trail), trail[-1].hash)
    assert [record.kind for record in trail] == [
        "arrived",
        *(["decided", "placing", "placed", "reviewed"] * 2),
        "overridden",
        "placing",
        "placed",
        "withdrawn",
    ]


def test_an_empty_chain_is_whole(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        report = check_audit(ledger)
    assert (report.records, report.head, report.problems) == (0, GENESIS, ())


@pytest.mark.parametrize("step", ["UPDATE audit SET at = 'x' WHERE ordinal = 1", "DELETE FROM audit", "VACUUM"])
def test_the_database_itself_refuses_to_change_a_record(path: Path, step: str) -> None:
    if step == "VACUUM":
        change(path, step)
    else:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            change(path, step)
    assert problems(path) == ()


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ("""UPDATE audit SET payload = replace(payload, 'ann', 'ben') WHERE kind = 'overridden'""", "was changed"),
        ("UPDATE audit SET at = '2020' || substr(at, 5) WHERE ordinal = 3", "record 3 was changed"),
        ("UPDATE audit SET kind = 'decided' WHERE ordinal = 1", "record 1 was changed"),
        ("UPDATE audit SET payload = 'no json' WHERE ordinal = 2", "record 2 was changed"),
        ("DELETE FROM audit WHERE ordinal = 1", "record 1 is missing"),
        ("DELETE FROM audit WHERE ordinal = 4", "record 4 is missing"),
        (
            "INSERT INTO audit SELECT ordinal + 1000, at, kind, subject, payload, previous, hash FROM audit "
            "WHERE ordinal = 2",
            "is missing",
        ),
        ("UPDATE audit SET ordinal = CASE ordinal WHEN 2 THEN -3 ELSE 2 END WHERE ordinal IN (2, 3)", "record 1"),
    ],
    ids=["word", "time", "kind", "garbage", "first", "middle", "inserted", "reordered"],
)
def test_a_record_that_was_changed_removed_inserted_or_moved_is_found_out(path: Path, step: str, problem: str) -> None:
    tampered(path, step)
    assert any(problem in found for found in problems(path)), problems(path)


def test_two_records_that_changed_places_are_found_out(path: Path) -> None:
    tampered(
        path,
        "UPDATE audit SET ordinal = -2 WHERE ordinal = 2",
        "UPDATE audit SET ordinal = 2 WHERE ordinal = 3",
        "UPDATE audit SET ordinal = 3 WHERE ordinal = -2",
    )
    assert "record 2 does not follow on record 1" in problems(path)


def test_an_end_that_was_cut_off_is_told_by_the_tables_by_the_noted_head_and_by_the_file_beside_it(path: Path) -> None:
    with Ledger(path) as ledger:
        note_head(ledger)
        head = check_audit(ledger).head
    assert problems(path, head) == ()
    tampered(path, "DELETE FROM audit WHERE ordinal >= 12")
    found = problems(path, "f" * 64)
    assert any("stands as quarantined, but its record says promoted" in line for line in found)
    assert any(f"the head {'f' * 64} is not in the chain" in line for line in found)
    assert any(f"the head in {HEAD_NAME} ({head}) is not in the chain" in line for line in found)


def test_a_last_record_that_no_table_tells_of_is_missed_by_the_noted_head(path: Path) -> None:
    with Ledger(path) as ledger:
        note_head(ledger)
    tampered(path, "DELETE FROM audit WHERE kind = 'withdrawn'")
    (found,) = problems(path)
    assert HEAD_NAME in found


def test_a_head_that_was_noted_earlier_is_in_a_chain_that_grew(path: Path) -> None:
    with Ledger(path) as ledger:
        note_head(ledger)
        head = check_audit(ledger).head
        ledger.note("configured", judge="judge")
        assert check_audit(ledger, head).problems == ()
        before = (path.parent / HEAD_NAME).read_text()
        note_head(ledger)
        after = (path.parent / HEAD_NAME).stat().st_mtime_ns
        note_head(ledger)
        assert (path.parent / HEAD_NAME).stat().st_mtime_ns == after
        assert (path.parent / HEAD_NAME).read_text() != before


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ("UPDATE adapters SET place = 'promoted'", "stands as promoted, but its record says quarantined"),
        ("UPDATE examinations SET decision = replace(decision, 'unsafe', 'clean')", "is not the recorded one"),
        ("UPDATE examinations SET decision = NULL WHERE ordinal = 1", "the recorded decision about"),
        ("UPDATE placements SET place = 'held' WHERE ordinal = 1", "came to held, but its record says quarantined"),
        ("UPDATE overrides SET who = 'ben'", "the block of"),
        ("DELETE FROM overrides", "is gone"),
        (
            f"INSERT INTO adapters (digest, name, arrival, seen, place) VALUES ('{OTHER}', 'x', '{OTHER}', "
            "'2026-01-01 00:00:00.000000', 'promoted')",
            "stands as promoted, but its record says nothing",
        ),
        (
            f"INSERT INTO overrides (digest, action, reason, who, at) VALUES ('{OTHER}', 'release', 'x', 'x', "
            "'2026-01-01 00:00:00.000000')",
            "the release of",
        ),
    ],
)
def test_a_table_that_was_changed_behind_the_trail_is_found_out(path: Path, step: str, problem: str) -> None:
    change(path, step)
    found = problems(path)
    assert any(problem in line for line in found), found


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """A ledger with one judge that moved, was accepted, and moved once more."""
    path = tmp_path / "judged.db"
    with Ledger(path, Clock()) as ledger:
        canary = JudgeCanary(asked="?", answer="!", frozen=Judgement(judge="j", unscored="empty", reply=""))
        ledger.judge_canaries.freeze("j", "drawn", [canary])
        for moved in (True, False, True):
            hold(ledger, moved)
        ledger.judge_canaries.accept("j", "a new release of it", "ann")
        hold(ledger, True)
    return path


def hold(ledger: Ledger, moved: bool) -> None:
    """Tell that the judge was asked again."""
    standing = ledger.judge_canaries.standing("j")
    assert standing is not None
    ledger.judge_canaries.checked(standing, standing.canaries, 9.0, moved, ["j"])


def test_what_was_found_of_a_judge_and_who_accepted_it_is_in_the_trail(judged: Path) -> None:
    assert problems(judged) == ()


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ("UPDATE judge_canaries SET moved = 0", "judge j stands as unmoved, but its record says moved"),
        ("UPDATE judge_canaries SET accepted = '2026-01-01 00:00:00.000000'", "accepted 2 times, by the records 1"),
        ("DELETE FROM judge_canaries", "judge j has a record of its canaries, but is not known"),
        ("UPDATE judge_canaries SET judge = 'k'", "judge k: no record of its canaries"),
    ],
)
def test_a_judge_that_was_changed_behind_the_trail_is_found_out(judged: Path, step: str, problem: str) -> None:
    change(judged, step)
    found = problems(judged)
    assert any(problem in line for line in found), found


def test_what_is_found_of_canaries_that_were_replaced_meanwhile_is_kept_nowhere(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db", Clock()) as ledger:
        canary = JudgeCanary(asked="?", answer="!", frozen=Judgement(judge="j", unscored="empty", reply=""))
        ledger.judge_canaries.freeze("j", "drawn", [canary])
        old = ledger.judge_canaries.standing("j")
        assert old is not None
        ledger.judge_canaries.freeze("j", "a-file", [canary])
        ledger.judge_canaries.checked(old, old.canaries, 9.0, True, ["j"])
        assert ledger.judge_canaries.moved() == []
        assert check_audit(ledger).problems == ()


def test_a_promotion_that_nobody_decided_is_found_out(ledger: Ledger) -> None:
    ledger.overrides.add(OTHER, "release", "why", "ann")
    ledger.overrides.add(ARRIVED.digest, "release", "why", "ann")
    ledger.registry.begin_move(ARRIVED.digest, "promoted")
    ledger.registry.finish_move(ARRIVED.digest, "promoted")
    assert check_audit(ledger).problems == ()
    ledger.overrides.add(ARRIVED.digest, "block", "why", "ann")
    ledger.registry.finish_move(ARRIVED.digest, "promoted")
    (found,) = check_audit(ledger).problems
    assert "was promoted although it is blocked" in found


def test_a_promotion_without_a_decision_is_found_out(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.registry.arrived(ARRIVED, "inbox", None)
        ledger.registry.finish_move(ARRIVED.digest, "promoted")
        (found,) = check_audit(ledger).problems
    assert "was promoted without a decision or a release" in found


def test_nothing_is_recorded_of_what_did_not_happen(ledger: Ledger) -> None:
    before = len(ledger.audit_trail())

    def fails() -> None:
        with ledger._database.writing() as session:
            audit.append(session, Clock()(), "configured")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert len(ledger.audit_trail()) == before


def test_two_connections_with_four_threads_append_to_one_chain(path: Path) -> None:
    with Ledger(path) as one, Ledger(path) as another, ThreadPoolExecutor(4) as threads:
        both = [threads.submit(ledger.note, "configured", number=n) for n in range(20) for ledger in (one, another)]
        assert len({done.result() for done in both}) == 40
        assert check_audit(one).problems == ()
