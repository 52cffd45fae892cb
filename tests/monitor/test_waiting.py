"""Properties of company: only who is next, sound, fresh, and asked the same; and never at another's cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.adapter import Adapter
from adapters.intake import home_of
from guards.errors import Permanent
from monitor import waiting
from monitor.ledger import Ledger
from monitor.pipeline import receive
from monitor.state import StateFolder
from monitor.waiting import Company, Sound, staged
from policies.findings import Defect, Finding, Inconclusive, Result


class Clock:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class House:
    """A state folder, a ledger, and adapters that wait."""

    def __init__(self, state: StateFolder, ledger: Ledger, clock: Clock, inbox: Path) -> None:
        self.state, self.ledger, self.clock, self.inbox = state, ledger, clock, inbox

    def drop(self, name: str, repeat: int = 0, size: int = 0) -> Adapter:
        folder = self.inbox / name
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text(json.dumps({"name": name, "filler": "x" * size}))
        adapter = receive(folder, self.ledger, self.state, source="inbox")
        self.ledger.queue.add(adapter.digest, adapter.name, "arrival", repeat=repeat)
        return adapter

    def company(self, most: int = 8) -> list[str]:
        return [adapter.name for adapter in Company(self.ledger, self.state, most, self.clock)()]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    clock = Clock()
    with StateFolder.open(tmp_path / "state") as state, Ledger(state.ledger_path, clock) as ledger:
        yield House(state, ledger, clock, tmp_path / "inbox")


def test_who_comes_next_is_company_in_the_order_of_the_queue_and_up_to_the_limit(house: House) -> None:
    for number in range(5):
        house.drop(f"a{number}")
    assert house.company() == [], "nobody is under review"
    house.ledger.queue.lease("me", 60)
    assert house.company() == ["a1", "a2", "a3", "a4"]
    assert house.company(3) == ["a1", "a2"]
    assert house.company(1) == []


def test_an_attempt_that_may_have_ended_with_the_process_is_repeated_alone(house: House) -> None:
    for name in ("first", "second", "third"):
        house.drop(name)
    house.ledger.queue.lease("me", 60)
    house.ledger.queue.reclaim()
    house.ledger.queue.lease("me", 60)
    assert house.company() == []


def test_who_failed_or_pauses_or_draws_with_another_seed_is_no_company(house: House) -> None:
    failed = house.drop("failed")
    house.ledger.queue.lease("me", 60)
    house.ledger.queue.retry(failed.digest, "me", "the judge is down", 30)
    house.drop("running")
    house.drop("other seed", repeat=1)
    house.drop("fresh")
    house.ledger.queue.lease("me", 60)
    house.clock.now += timedelta(seconds=31)
    assert house.company() == ["fresh"]


def test_what_is_deployed_is_staged_from_there_and_what_was_changed_there_is_no_company(house: House) -> None:
    house.drop("running")
    deployed, changed = house.drop("deployed"), house.drop("changed")
    house.ledger.queue.lease("me", 60)
    for adapter in (deployed, changed):
        home_of(adapter.digest, house.state.promoted).parent.mkdir(exist_ok=True)
        adapter.path.rename(home_of(adapter.digest, house.state.promoted))
    config = home_of(changed.digest, house.state.promoted) / "adapter_config.json"
    config.parent.chmod(0o755)
    config.chmod(0o644)
    config.write_text("{}")
    assert house.company() == ["deployed"]
    assert home_of(deployed.digest, house.state.staging).is_dir()


def test_files_that_are_gone_are_no_company_and_a_reason_to_stop_their_own_review(house: House) -> None:
    house.drop("running")
    gone = house.drop("gone")
    running = house.ledger.queue.lease("me", 60)
    gone.path.rename(house.inbox / "elsewhere")
    job = house.ledger.queue.job(gone.digest)
    assert running is not None
    assert job is not None
    assert house.company() == []
    assert staged(running, house.ledger, house.state).name == "running"
    with pytest.raises(Permanent, match="its files are gone"):
        staged(job, house.ledger, house.state)


def test_company_that_would_fill_the_memory_is_left_out(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MOST_BYTES", 2500)
    house.drop("running")
    for name, size in (("small", 1000), ("large", 3000), ("another", 1000), ("one too many", 1000)):
        house.drop(name, size=size)
    house.ledger.queue.lease("me", 60)
    assert house.company() == ["small", "another"]


class Structure:
    """Finds what its adapters' names say."""

    name, version = "structure", "1"

    def __init__(self) -> None:
        self.looked: list[str] = []

    def examine(self, adapter: Adapter) -> list[Result]:
        self.looked.append(adapter.name)
        sound = Finding(guard="structure", version="1", measure="tensors", value=1, n=1)
        if adapter.name == "rotten":
            return [sound, Defect(guard="structure", version="1", code="nan", reason="not a number")]
        if adapter.name == "unknown":
            return [Inconclusive(guard="structure", version="1", measure="tensors", reason="no base")]
        if adapter.name == "fatal":
            raise Permanent("the base has no config")
        return [sound]


def adapters(*names: str) -> list[Adapter]:
    return [Adapter(Path(name), f"sha256-{name}", name) for name in names]


def test_nothing_unsound_is_ever_loaded_and_each_is_looked_at_once() -> None:
    structure = Structure()
    sound = Sound(lambda: adapters("good", "rotten", "fine", "unknown"), structure)
    for _ in range(3):
        assert [adapter.name for adapter in sound()] == ["good", "fine"]
    assert structure.looked == ["good", "rotten", "fine", "unknown"]


def test_where_company_cannot_be_looked_at_the_review_goes_on_by_itself() -> None:
    assert Sound(lambda: adapters("good", "fatal"), Structure())() == []

    def failing() -> list[Adapter]:
        raise OSError(28, "no space left")

    assert Sound(failing, Structure())() == []
