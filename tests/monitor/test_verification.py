"""Properties of verify: it says yes only to what is promoted now, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from dropped import CONFIG, drop
from rich.console import Console

from adapters.adapter import Adapter, NotAnAdapter, digest_adapter
from adapters.intake import stage
from guards.errors import Permanent
from monitor.ledger import Ledger
from monitor.pipeline import settle
from monitor.review import Context
from monitor.state import StateFolder
from monitor.verification import Verification, print_verification, verify_folder
from policies.decide import Decision, Outcome

CONTEXT = Context(base="b", base_digest="sha256-b", policy="p", policy_digest="sha256-p", suites={}, judge="j")


class House:
    def __init__(self, state: StateFolder, ledger: Ledger, arrivals: Path) -> None:
        self.state, self.ledger, self.arrivals = state, ledger, arrivals

    def review(self, outcome: Outcome, name: str = "mine") -> Adapter:
        adapter = stage(drop(self.arrivals / name), self.state.staging)
        self.ledger.registry.arrived(adapter, "inbox", None)
        record = self.ledger.open_review(adapter, CONTEXT)
        verdict = "clean" if outcome == "promote" else "unsafe"
        record.record_decision(adapter.digest, Decision(outcome=outcome, verdict=verdict, reasons=(), policy="p"))
        settle([adapter], record, self.state)
        record.close()
        return adapter

    def verify(self, folder: Path) -> Verification:
        return verify_folder(folder, self.state.path)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with StateFolder.open(tmp_path / "state") as state, Ledger(state.ledger_path) as ledger:
        yield House(state, ledger, tmp_path / "arrivals")


def printed(verification: Verification) -> str:
    console = Console(width=200, record=True)
    print_verification(verification, console)
    return console.export_text()


def test_what_is_promoted_is_verified_with_the_verdict_that_promoted_it(house: House) -> None:
    adapter = house.review("promote")
    found = house.verify(house.state.promoted / adapter.digest)
    assert found.holds
    assert found.name_matches is True
    assert (found.verdict, found.answer) == ("clean", "promoted")
    assert found.decided is not None
    for text in (adapter.digest, "mine", "clean", "promoted", str(found.known and found.known.review)):
        assert text in printed(found)
    told = json.loads(json.dumps(found.as_dict()))
    assert (told["holds"], told["place"], told["verdict"], told["known"]) == (True, "promoted", "clean", True)


def test_any_copy_of_promoted_bytes_is_verified_documents_aside(house: House) -> None:
    house.review("promote")
    copy = house.arrivals / "mine"
    (copy / "README.md").write_text("mine")
    assert house.verify(copy).holds
    assert house.verify(copy).name_matches is None


def test_a_promoted_folder_whose_bytes_changed_is_not_what_its_name_says(house: House) -> None:
    adapter = house.review("promote")
    path = house.state.promoted / adapter.digest
    path.chmod(0o755)
    (path / CONFIG).chmod(0o644)
    (path / CONFIG).write_text("{}")
    found = house.verify(path)
    assert not found.holds
    assert found.name_matches is False
    assert "changed" in printed(found)
    assert not verify_folder(path, None).holds


def test_a_folder_with_another_ones_digest_for_a_name_does_not_hold_though_its_bytes_are_promoted(
    house: House, tmp_path: Path
) -> None:
    adapter = house.review("promote")
    wrong = tmp_path / ("sha256-" + "0" * 64)
    (house.arrivals / "mine").rename(wrong)
    assert not house.verify(wrong).holds
    link = tmp_path / ("sha256-" + "1" * 64)
    link.symlink_to(house.state.promoted / adapter.digest)
    assert not house.verify(link).holds
    alias = tmp_path / "latest"
    alias.symlink_to(house.state.promoted / adapter.digest)
    assert house.verify(alias).holds


@pytest.mark.parametrize("outcome", ["quarantine", "hold"])
def test_what_was_not_promoted_does_not_hold(house: House, outcome: Outcome) -> None:
    adapter = house.review(outcome)
    found = house.verify(house.state.quarantine / adapter.digest)
    assert not found.holds
    assert found.verdict == "unsafe"
    assert "not promoted" in printed(found)


def test_what_was_promoted_and_is_retired_does_not_hold_any_more(house: House) -> None:
    adapter = house.review("promote")
    house.ledger.registry.begin_move(adapter.digest, "retired")
    house.ledger.registry.finish_move(adapter.digest, "retired")
    assert house.verify(house.arrivals / "mine").answer == "not promoted: it is retired"


def test_what_a_person_blocked_does_not_hold_from_that_moment_on(house: House) -> None:
    adapter = house.review("promote")
    house.ledger.overrides.add(adapter.digest, "block", "it \x1b[2J lies", "me")
    found = house.verify(house.state.promoted / adapter.digest)
    assert not found.holds
    assert "blocked by a person" in printed(found)
    assert "⟦U+001B⟧" in printed(found)
    assert found.as_dict()["override"]["action"] == "block"


def test_bytes_that_never_arrived_are_unknown(house: House) -> None:
    found = house.verify(drop(house.arrivals / "other", 1))
    assert not found.holds
    assert found.as_dict()["known"] is False


def test_without_a_state_folder_only_a_digest_for_a_name_can_be_verified(house: House) -> None:
    adapter = house.review("promote")
    found = verify_folder(house.state.promoted / adapter.digest, None)
    assert found.holds
    assert found.as_dict()["known"] is None
    found = verify_folder(house.arrivals / "mine", None)
    assert not found.holds
    assert found.digest == adapter.digest == digest_adapter(house.arrivals / "mine")
    assert "--state" in printed(found)


def test_what_is_no_adapter_and_what_is_no_state_folder_are_usage_errors(house: House, tmp_path: Path) -> None:
    with pytest.raises(NotAnAdapter):
        verify_folder(tmp_path, None)
    with pytest.raises(NotAnAdapter):
        verify_folder(tmp_path / "nowhere", house.state.path)
    with pytest.raises(Permanent):
        verify_folder(drop(tmp_path / "a"), tmp_path)
