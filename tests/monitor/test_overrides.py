"""Properties of people's words: recorded, above every decision, and followed by the files."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from plain_world import PlainTools, Says, write_adapter

from adapters.adapter import digest_adapter
from monitor.audit_check import check_audit
from monitor.exit_codes import UsageError
from monitor.ledger import Ledger
from monitor.ledger.registry import Known
from monitor.overrides import apply_overrides, record_override
from monitor.pipeline import receive, review_adapter
from monitor.review import Review
from monitor.state import StateFolder, StateUnusable


@dataclass
class House:
    state: StateFolder
    ledger: Ledger
    inbox: Path

    def review(self, name: str, says: Says, version: object = 1) -> Review:
        adapter = receive(write_adapter(self.inbox / name, says, version), self.ledger, self.state, source="inbox")
        return review_adapter(adapter, PlainTools(self.ledger), self.ledger, self.state)

    def known(self, digest: str) -> Known:
        known = self.ledger.registry.get(digest)
        assert known is not None
        return known

    def folders(self, digest: str) -> set[str]:
        names = ("staging", "promoted", "quarantine", "retired")
        return {name for name in names if (self.state.path / name / digest).is_dir()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def house(path: Path, tmp_path: Path) -> Iterator[House]:
    with StateFolder.open(path) as state, Ledger(state.ledger_path) as ledger:
        yield House(state, ledger, tmp_path / "inbox")
        assert check_audit(ledger).problems == ()


def said_of(house: House, digest: str, action: str = "block") -> list[str]:
    words = [record.payload for record in house.ledger.audit_trail(digest) if record.kind == "overridden"]
    return [f"{word['action']} by {word['who']}: {word['reason']}" for word in words]


def test_a_released_adapter_is_promoted_byte_for_byte_and_its_verdict_stays(house: House) -> None:
    review = house.review("bad", "harm")
    digest = review.arrival.digest
    override, applied = record_override(house.state.path, digest[7:15], "release", "our\nred  team's", "ann")
    assert (override.digest, override.reason, applied) == (digest, "our red team's", False), "this process holds it"
    assert house.folders(digest) == {"quarantine"}
    assert apply_overrides(house.ledger, house.state) == [override]
    assert house.folders(digest) == {"promoted"}
    assert digest_adapter(house.state.promoted / digest) == digest
    assert house.known(digest).place == "promoted"
    assert house.ledger.reviews()[0].arrival.decision.verdict == "unsafe"
    assert said_of(house, digest) == ["release by ann: our red team's"]
    assert apply_overrides(house.ledger, house.state) == []


def test_a_blocked_adapter_leaves_the_promoted_folder_and_every_later_review_keeps_it_away(house: House) -> None:
    digest = house.review("good", "kind").arrival.digest
    assert house.folders(digest) == {"promoted"}
    record_override(house.state.path, digest, "block", "found on a forum", "ben")
    apply_overrides(house.ledger, house.state)
    assert house.folders(digest) == {"quarantine"}
    again = house.review("good", "kind")
    assert again.arrival.decision.outcome == "promote"
    assert again.arrival.place == house.known(digest).place == "quarantined"
    assert house.folders(digest) == {"quarantine"}


def test_the_last_word_stands_and_the_ones_before_are_not_carried_out(house: House) -> None:
    digest = house.review("bad", "harm").arrival.digest
    record_override(house.state.path, digest, "release", "wanted", "ann")
    record_override(house.state.path, digest, "block", "not wanted", "ben")
    (done,) = apply_overrides(house.ledger, house.state)
    assert done.action == "block"
    assert house.folders(digest) == {"quarantine"}
    assert [word.note for word in house.ledger.overrides.latest()] == [None, "a later word stands"]
    assert house.ledger.overrides.waiting() == []


def test_a_digest_is_blocked_before_it_was_ever_seen(house: House) -> None:
    digest = digest_adapter(write_adapter(house.inbox / "known-bad", "kind"))
    override, applied = record_override(house.state.path, digest, "block", "on a list", "ann")
    assert not applied
    assert apply_overrides(house.ledger, house.state) == []
    assert "never seen" in str(house.ledger.overrides.latest()[0].note)
    assert house.review("known-bad", "kind").arrival.place == "quarantined"
    assert override.digest == digest


def test_a_release_whose_files_are_gone_says_so_is_not_tried_for_ever_and_holds_when_they_come_back(
    house: House,
) -> None:
    digest = house.review("bad", "harm").arrival.digest
    (house.state.quarantine / digest).chmod(0o700)
    shutil.rmtree(house.state.quarantine / digest)
    record_override(house.state.path, digest, "release", "wanted", "ann")
    assert apply_overrides(house.ledger, house.state) == []
    assert "its files are gone" in str(house.ledger.overrides.latest()[0].note)
    assert house.ledger.overrides.waiting() == []
    assert house.known(digest).place == "quarantined"
    assert house.review("bad", "harm").arrival.place == "promoted"
    assert house.folders(digest) == {"promoted"}


def test_changed_bytes_are_never_released(house: House) -> None:
    digest = house.review("bad", "harm").arrival.digest
    weights = house.state.quarantine / digest / "adapter_model.safetensors"
    weights.chmod(0o600)
    weights.write_text("something else")
    record_override(house.state.path, digest, "release", "wanted", "ann")
    assert apply_overrides(house.ledger, house.state) == []
    assert house.folders(digest) == {"quarantine"}
    assert "bytes were changed" in str(house.ledger.overrides.latest()[0].note)


def test_changed_bytes_are_blocked_all_the_same(house: House) -> None:
    digest = house.review("good", "kind").arrival.digest
    weights = house.state.promoted / digest / "adapter_model.safetensors"
    weights.chmod(0o600)
    weights.write_text("something else")
    record_override(house.state.path, digest, "block", "tampered with", "ann")
    assert len(apply_overrides(house.ledger, house.state)) == 1
    assert house.folders(digest) == {"quarantine"}


def test_a_block_said_while_its_review_runs_decides_where_it_goes(house: House) -> None:
    adapter = receive(write_adapter(house.inbox / "good", "kind"), house.ledger, house.state, source="inbox")

    def judge(_key: str) -> None:
        if not house.ledger.overrides.latest():
            record_override(house.state.path, adapter.digest, "block", "stop it", "ann")

    review = review_adapter(adapter, PlainTools(house.ledger, judge), house.ledger, house.state)
    assert review.arrival.place == "quarantined"
    assert [word.action for word in apply_overrides(house.ledger, house.state)] == ["block"]
    assert house.folders(adapter.digest) == {"quarantine"}


def test_a_release_that_finds_the_disk_full_keeps_no_block_from_being_carried_out(house: House) -> None:
    good = house.review("good", "kind").arrival.digest
    bad = house.review("bad", "harm", version="x" * 4_000_000).arrival.digest
    record_override(house.state.path, bad, "release", "wanted", "ann")
    record_override(house.state.path, good, "block", "not wanted", "ann")
    with _files_at_most(3_000_000), pytest.raises(OSError, match="too large"):
        apply_overrides(house.ledger, house.state)
    assert house.folders(good) == house.folders(bad) == {"quarantine"}
    assert [word.action for word in apply_overrides(house.ledger, house.state)] == ["release"]
    assert house.folders(bad) == {"promoted"}


@contextmanager
def _files_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_where_no_process_holds_the_folder_the_word_is_carried_out_at_once(path: Path, tmp_path: Path) -> None:
    with StateFolder.open(path) as state, Ledger(state.ledger_path) as ledger:
        house = House(state, ledger, tmp_path / "inbox")
        digest = house.review("good", "kind").arrival.digest
    override, applied = record_override(path, digest, "block", "not wanted", "ann")
    assert applied
    assert override.applied is not None
    assert not (path / "promoted" / digest).exists()


def test_another_process_is_heard_while_this_one_holds_the_folder_and_writes(house: House) -> None:
    digest = house.review("good", "kind").arrival.digest
    code = (
        "import sys; from pathlib import Path; from monitor.overrides import record_override\n"
        "print(record_override(Path(sys.argv[1]), sys.argv[2], 'block', 'from outside', 'ann')[1])"
    )
    command = [sys.executable, "-c", code, str(house.state.path), digest]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as outside:
        while outside.poll() is None:
            house.ledger.values.count("busy_total")
        assert outside.stdout is not None
        assert outside.stdout.read() == "False\n"
    assert [word.reason for word in apply_overrides(house.ledger, house.state)] == ["from outside"]


@pytest.mark.parametrize(
    ("digest", "reason", "problem"),
    [
        ("sha256-" + "0" * 64, " \n", "--reason is empty"),
        ("abc", "why", "too short"),
        ("0000", "why", "no adapter here"),
        ("../x", "why", "no adapter here"),
        ("%%%%", "why", "no adapter here"),
    ],
)
def test_what_names_no_adapter_or_gives_no_reason_is_refused_in_one_line_and_not_recorded(
    house: House, digest: str, reason: str, problem: str
) -> None:
    house.review("good", "kind")
    with pytest.raises(UsageError, match=problem) as refused:
        record_override(house.state.path, digest, "block", reason, "ann")
    assert "\n" not in str(refused.value)
    assert house.ledger.overrides.latest() == []


def test_an_unknown_digest_is_not_released(house: House) -> None:
    with pytest.raises(UsageError, match="no adapter here"):
        record_override(house.state.path, "sha256-" + "0" * 64, "release", "why", "ann")


def test_a_folder_without_a_ledger_is_no_state_folder(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable):
        record_override(tmp_path, "sha256-" + "0" * 64, "block", "why", "ann")
