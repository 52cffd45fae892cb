"""The fleet of a configuration: real replicas, the real ledger as its memory, tokens from where they are named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_vllm import FakeVllm
from fleet_world import make_adapter
from ledger_world import CONTEXT, PROMOTE, Clock

from adapters.adapter import Adapter
from adapters.fleet_record import BEGUN, Desired
from monitor.configuration import FleetLimits, ServiceConfiguration, VllmSettings
from monitor.fleet_assembly import build_fleet
from monitor.ledger import Ledger

TOKEN = "a-secret-that-nobody-may-see"


@pytest.fixture
def server() -> Iterator[FakeVllm]:
    with FakeVllm(token=TOKEN) as fake:
        yield fake


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db", clock) as opened:
        yield opened


def _configuration(tmp_path: Path, server: FakeVllm, **settings: object) -> ServiceConfiguration:
    replica = VllmSettings.model_validate({"kind": "vllm", "url": server.url + "/", **settings})
    limits = FleetLimits(promotions_per_hour=1, timeout_seconds=5)
    return ServiceConfiguration(
        state=tmp_path, base="base", policy=tmp_path / "policy.yaml", fleet=(replica,), limits=limits
    )


def _promoted(ledger: Ledger, tmp_path: Path, number: int) -> Desired:
    made = make_adapter(tmp_path / "promoted", number)
    record = ledger.open_review(Adapter(made.path, made.digest, made.name), CONTEXT)
    record.record_decision(made.digest, PROMOTE)
    record.begin_placement(made.digest)
    record.finish_placement(made.digest)
    record.close()
    return made


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    return file


def test_what_was_promoted_is_served_by_the_servers_that_the_configuration_names(
    tmp_path: Path, server: FakeVllm, ledger: Ledger, clock: Clock, token_file: Path
) -> None:
    fleet = build_fleet(_configuration(tmp_path, server, token_file=token_file), ledger.fleet, clock)
    first, second = (_promoted(ledger, tmp_path, number) for number in range(2))
    fleet.reconcile()
    assert not server.adapters
    assert "it waits for its canaries" in ledger.fleet.replicas()[0].detail
    for one in (first, second):
        ledger.fleet.keep_canaries(one.digest, one.canaries)
    fleet.reconcile()
    (status,) = ledger.fleet.replicas()
    assert (status.replica, status.state) == (server.url, "up")
    assert server.adapters == {first.digest: str(tmp_path / "promoted" / first.digest)}
    assert "1 roll-outs an hour are the limit" in status.detail
    clock.pass_seconds(3601)
    fleet.reconcile()
    assert set(server.adapters) == {first.digest, second.digest}
    assert ledger.fleet.replicas()[0].detail == ""
    assert ledger.broken_link() is None


def test_a_restart_of_a_server_counts_as_no_roll_out(
    tmp_path: Path, server: FakeVllm, ledger: Ledger, clock: Clock, token_file: Path
) -> None:
    fleet = build_fleet(_configuration(tmp_path, server, token_file=token_file), ledger.fleet, clock)
    first = _promoted(ledger, tmp_path, 1)
    ledger.fleet.keep_canaries(first.digest, first.canaries)
    before = clock()
    fleet.reconcile()
    assert ledger.fleet.rolled_out_since(before) == 1
    clock.pass_seconds(7200)
    since = clock()
    server.restart()
    fleet.reconcile()
    assert list(server.adapters) == [first.digest]
    assert ledger.fleet.rolled_out_since(since) == 0
    assert BEGUN not in {row.detail for row in ledger.fleet.servings()}


def test_what_is_proved_absent_is_forgotten(
    tmp_path: Path, server: FakeVllm, ledger: Ledger, clock: Clock, token_file: Path
) -> None:
    fleet = build_fleet(_configuration(tmp_path, server, token_file=token_file), ledger.fleet, clock)
    server.adapters["stranger"] = str(tmp_path)
    fleet.reconcile()
    assert [(row.digest, row.state) for row in ledger.fleet.servings()] == [("stranger", "resident")]
    server.restart()
    fleet.reconcile()
    assert [(row.digest, row.state) for row in ledger.fleet.servings()] == [("stranger", "absent")]
    fleet.reconcile()
    assert ledger.fleet.servings() == []


def test_a_token_is_read_anew_and_is_in_no_record(
    tmp_path: Path,
    server: FakeVllm,
    ledger: Ledger,
    clock: Clock,
    token_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_file = build_fleet(_configuration(tmp_path, server, token_file=token_file), ledger.fleet, clock)
    token_file.write_text("an-older-one")
    by_file.reconcile()
    assert "401" in ledger.fleet.replicas()[0].detail
    assert "an-older-one" not in ledger.fleet.replicas()[0].detail
    token_file.write_text(TOKEN)
    by_file.reconcile()
    assert ledger.fleet.replicas()[0].state == "up"
    token_file.unlink()
    by_file.reconcile()
    assert f"{token_file} with its token cannot be read" in ledger.fleet.replicas()[0].detail
    by_variable = build_fleet(_configuration(tmp_path, server, token_env="FLEET_TOKEN"), ledger.fleet, clock)
    by_variable.reconcile()
    assert "FLEET_TOKEN holds no usable token" in ledger.fleet.replicas()[0].detail
    monkeypatch.setenv("FLEET_TOKEN", TOKEN)
    by_variable.reconcile()
    assert ledger.fleet.replicas()[0].state == "up"


def test_a_server_that_sees_the_folder_elsewhere_is_told_its_own_path(
    tmp_path: Path, server: FakeVllm, ledger: Ledger, clock: Clock, token_file: Path
) -> None:
    mounted = tmp_path / "mnt"
    settings = _configuration(tmp_path, server, token_file=token_file, promoted=mounted)
    first = _promoted(ledger, tmp_path, 1)
    shutil.copytree(first.path, mounted / first.digest)
    ledger.fleet.keep_canaries(first.digest, first.canaries)
    build_fleet(settings, ledger.fleet, clock).reconcile()
    assert server.adapters == {first.digest: str(mounted / first.digest)}
    assert ledger.fleet.replicas()[0].detail == ""


def test_replicas_that_are_changed_side_by_side_are_all_in_the_ledger(
    tmp_path: Path, server: FakeVllm, ledger: Ledger, clock: Clock, token_file: Path
) -> None:
    with FakeVllm() as second, FakeVllm() as third:
        one = _configuration(tmp_path, server, token_file=token_file)
        more = tuple(VllmSettings(kind="vllm", url=other.url) for other in (second, third))
        limits = FleetLimits(replicas_at_once=3, timeout_seconds=5)
        fleet = build_fleet(
            one.model_copy(update={"fleet": (*one.fleet, *more), "limits": limits}), ledger.fleet, clock
        )
        promoted = _promoted(ledger, tmp_path, 1)
        ledger.fleet.keep_canaries(promoted.digest, promoted.canaries)
        for each in (server, second, third):
            each.adapters["stranger"] = str(tmp_path)
        fleet.reconcile()
        fleet.reconcile()
        assert all(list(each.adapters) == [promoted.digest] for each in (server, second, third))
        assert [status.detail for status in ledger.fleet.replicas()] == ["", "", ""]
        assert sorted(row.state for row in ledger.fleet.servings()) == ["resident"] * 3 + ["serving"] * 3
        assert ledger.broken_link() is None
