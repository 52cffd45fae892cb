"""The service on its worst days: killed at any moment, disk full, ledger held or read-only, clocks that jump."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapters.adapter import digest_adapter
from monitor.audit_check import check_audit
from monitor.ledger import Ledger
from monitor.review import Review

TESTS = Path(__file__).parents[1]
SEED = os.environ.get("ALIGNWATCH_SEED", "20261121")
KILLS = 200 if os.environ.get("ALIGNWATCH_SOAK") else 80


@dataclass
class Killed:
    """What many killed lives left behind."""

    root: Path
    told: dict[str, Any]
    ledger: Ledger

    def folder(self, name: str) -> set[str]:
        return {path.name for path in (self.root / "state" / name).glob("sha256-*")}

    def standing(self, *places: str) -> set[str]:
        return {known.digest for known in self.ledger.registry.newest(limit=10_000) if known.place in places}

    def reviews(self) -> list[Review]:
        return self.ledger.reviews()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("killed")
    command = [sys.executable, str(TESTS / "killed_house.py"), str(root), SEED, str(KILLS)]
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    with Ledger(root / "state" / "ledger.db") as ledger:
        yield Killed(root, json.loads(done.stdout), ledger)


@pytest.mark.slow
class TestKilled:
    """Kill -9 at random moments of settling, reviewing, mending, promoting and withdrawing."""

    def test_the_kills_fell_into_every_stage(self, killed: Killed) -> None:
        kills = killed.told["kills"]
        assert sum(kills.values()) == KILLS
        assert set(kills) >= {"start", "settle", "review", "remedy", "promote", "override", "fleet"}, kills
        assert killed.told["failures"] == 0

    def test_nothing_that_was_dropped_is_lost(self, killed: Killed) -> None:
        arrived = {review.arrival.digest for review in killed.reviews() if review.finished}
        assert arrived >= set(killed.told["dropped"])
        assert len(killed.told["dropped"]) > KILLS / 4

    def test_the_queue_is_empty_and_no_review_half_done(self, killed: Killed) -> None:
        assert sum(killed.ledger.queue.depths().values()) == 0
        assert killed.ledger.unfinished_placements() == []
        assert killed.ledger.overrides.waiting() == []

    def test_no_judgement_that_was_recorded_is_asked_for_again(self, killed: Killed) -> None:
        assert killed.told["judgements"] > 0
        assert killed.told["repeated"] == []

    def test_nothing_is_reviewed_or_promoted_twice(self, killed: Killed) -> None:
        done = Counter((review.arrival.digest, review.context.judge) for review in killed.reviews() if review.finished)
        assert [key for key, times in done.items() if times > 1] == []
        placed = Counter()
        for record in killed.ledger.audit_trail():
            if record.kind in ("overridden", "arrived"):  # after which an adapter may be placed anew
                placed = Counter({key: times for key, times in placed.items() if key[1] != record.subject})
            if record.kind == "placed" and record.payload.get("place") == "promoted":
                placed[record.payload.get("review"), record.subject] += 1
        assert [key for key, times in placed.items() if times > 1] == []

    def test_every_folder_holds_exactly_what_the_ledger_says_byte_for_byte(self, killed: Killed) -> None:
        assert killed.folder("promoted") == killed.standing("promoted")
        assert killed.folder("quarantine") == killed.standing("quarantined", "held")
        assert killed.folder("retired") == killed.standing("retired")
        for name in ("promoted", "quarantine", "retired"):
            for digest in killed.folder(name):
                assert digest_adapter(killed.root / "state" / name / digest) == digest

    def test_both_servers_serve_exactly_what_is_promoted_from_its_own_folder(self, killed: Killed) -> None:
        promoted = killed.root / "state" / "promoted"
        wanted = {digest: str(promoted / digest) for digest in killed.standing("promoted")}
        assert wanted
        assert killed.told["served"] == [wanted, wanted]
        assert [status.detail for status in killed.ledger.fleet.replicas()] == ["", ""]

    def test_nothing_half_written_is_left_anywhere(self, killed: Killed) -> None:
        state = killed.root / "state"
        assert killed.folder("staging") == set()
        assert list((state / "remedied").iterdir()) == []
        assert [path for path in state.rglob(".*") if path.name not in (".lock", ".holder")] == []

    def test_every_adapter_is_where_its_decision_or_a_persons_word_puts_it(self, killed: Killed) -> None:
        for known in killed.ledger.registry.newest(limit=10_000):
            word = killed.ledger.overrides.standing(known.digest)
            review = killed.ledger.last_review_of(known.digest)
            assert review is not None
            decided = next(e.decision for e in review.examinations if e.digest == known.digest)
            promotes = decided.promotes if word is None else word.action == "release"
            fine = {"promoted", "retired", "removed"} if promotes else {"quarantined", "held", "removed"}
            assert known.place in fine, (known, word, decided)

    def test_every_finished_review_has_its_files(self, killed: Killed) -> None:
        for review in killed.reviews():
            if review.finished:
                found = (killed.root / "state" / "reviews" / review.id / "review.json").read_text()
                assert Review.model_validate_json(found) == review

    def test_the_audit_chain_is_whole_and_agrees_with_the_tables(self, killed: Killed) -> None:
        report = check_audit(killed.ledger)
        assert report.problems == ()
        assert report.records > 10 * KILLS

    def test_the_database_is_sound(self, killed: Killed) -> None:
        connection = sqlite3.connect(killed.root / "state" / "ledger.db")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.close()
