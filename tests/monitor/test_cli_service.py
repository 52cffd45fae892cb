"""The service's commands, through the command's own entry point, in a folder where a service keeps its state."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import yaml
from plain_world import PlainTools, write_adapter

from monitor.cli import main
from monitor.ledger import Ledger
from monitor.pipeline import receive
from monitor.state import StateFolder
from monitor.worker import Worker


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a state folder in which a kind and a harmful adapter were reviewed, and one is a dead letter."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ALIGNWATCH_STATE", raising=False)
    with StateFolder.open(tmp_path / "state") as state, Ledger(state.ledger_path) as ledger:
        tools = PlainTools(ledger)
        for name, says in (("kind-one", "kind"), ("harmful-one", "harm")):
            adapter = receive(write_adapter(tmp_path / name, says), ledger, state, source="inbox")
            ledger.queue.add(adapter.digest, name, "arrival")
            Worker(ledger, state, lambda _repeat: tools, "test").work()
        ledger.queue.add("sha256-" + "0" * 64, "gone", "arrival")
        Worker(ledger, state, lambda _repeat: tools, "test").work()
    return tmp_path


class Ran:
    """One command, as a script sees it."""

    def __init__(self, capture: pytest.CaptureFixture[str], *arguments: str) -> None:
        capture.readouterr()
        handler = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        signal.signal(signal.SIGTERM, handler)
        self.code = int(ended.value.code or 0)
        self.out, self.err = capture.readouterr()


def _only(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def test_a_persons_word_needs_no_more_than_a_digest_and_a_reason(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = _only(here / "state" / "promoted").name
    assert Ran(capsys, "block", digest[7:19], "--reason", "looked at it").code == 0
    assert list((here / "state" / "promoted").iterdir()) == []
    released = Ran(capsys, "release", digest, "--reason", "looked again")
    assert (released.code, "carried out" in released.out) == (0, True)
    assert _only(here / "state" / "promoted").name == digest
    assert Ran(capsys, "audit", "verify").code == 0


def test_a_word_without_a_reason_or_about_nothing_is_a_users_mistake(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = _only(here / "state" / "promoted").name
    assert Ran(capsys, "block", digest, "--reason", " ").code == 2
    assert Ran(capsys, "release", "ffffffff", "--reason", "why not").code == 2


def test_an_audit_head_that_was_noted_is_still_in_the_chain_and_another_is_not(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = Ran(capsys, "audit", "verify").out.split("head ")[1].split(":")[0]
    assert Ran(capsys, "audit", "verify", "--head", head).code == 0
    broken = Ran(capsys, "audit", "verify", "--head", "f" * 64)
    assert (broken.code, "not in the chain" in broken.out) == (1, True)


def test_verify_knows_the_state_folder_around_what_it_looks_at(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    promoted, quarantined = _only(here / "state" / "promoted"), _only(here / "state" / "quarantine")
    yes = Ran(capsys, "verify", str(promoted), "--json")
    assert yes.code == 0
    assert json.loads(yes.out)["verdict"] == "clean"
    assert Ran(capsys, "verify", str(quarantined)).code == 1
    assert Ran(capsys, "verify", str(here / "nowhere")).code == 2


def test_lineage_and_queue_print_for_people_and_for_scripts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "kind-one" in Ran(capsys, "lineage", "kind-one").out
    assert json.loads(Ran(capsys, "lineage", "kind-one", "--json").out)[0]["name"] == "kind-one"
    assert Ran(capsys, "lineage", "nobody").code == 2
    (dead,) = json.loads(Ran(capsys, "queue", "--json").out)
    assert (dead["state"], dead["name"]) == ("dead", "gone")
    assert "1 revived" in Ran(capsys, "queue", "--revive", "all").out
    assert Ran(capsys, "queue", "--revive", "abc").code == 2


def test_the_state_that_the_configuration_here_names_is_taken_first(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "state").rename(here / "elsewhere")
    assert Ran(capsys, "queue").code == 2
    configuration = {"state": "elsewhere", "base": "owner/name", "policy": "policy.yaml"}
    (here / "alignwatch.yaml").write_text(yaml.safe_dump(configuration))
    assert Ran(capsys, "queue").code == 0
    (here / "alignwatch.yaml").unlink()
    monkeypatch.setenv("ALIGNWATCH_STATE", str(here / "elsewhere"))
    assert Ran(capsys, "queue").code == 0


def test_a_configuration_is_checked_whole_and_found_by_its_usual_name(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "alignwatch.yaml").write_text(yaml.safe_dump({"state": "s", "base": "./none", "policy": "none.yaml"}))
    checked = Ran(capsys, "config", "check")
    assert checked.code == 2
    assert checked.out.count("problem:") == 2


def test_a_token_is_printed_once_and_only_its_hash_is_kept(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Ran(capsys, "token", str(here / "tokens"), "--name", "ann", "--scope", "write")
    assert made.code == 0
    assert made.out.strip() not in (here / "tokens").read_text()
    assert (here / "tokens").stat().st_mode & 0o777 == 0o600
    assert Ran(capsys, "token", str(here / "tokens"), "--name", "bob", "--scope", "all").code == 2
