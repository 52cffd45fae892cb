"""The reconciler brings servers to what is desired, proves it, and takes back what fails; whatever the servers do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from fake_vllm import FakeVllm
from fleet_world import Clock, DictMemory, fleet_of, make_adapter

from adapters.adapter import WEIGHTS_NAME
from adapters.canary import Canary
from adapters.fleet import Fleet
from adapters.fleet_record import FOREIGN, Desired, ReplicaState


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> DictMemory:
    return DictMemory(clock)


@pytest.fixture
def adapters(tmp_path: Path) -> list[Desired]:
    return [make_adapter(tmp_path, number, vision=number == 1) for number in range(4)]


@pytest.fixture
def servers() -> Iterator[list[FakeVllm]]:
    with FakeVllm() as one, FakeVllm() as two:
        yield [one, two]


@pytest.fixture
def fleet(servers: list[FakeVllm], memory: DictMemory, clock: Clock) -> Fleet:
    return fleet_of(servers, memory, clock)


def _as_desired(servers: list[FakeVllm], memory: DictMemory) -> bool:
    wanted = {one.digest: str(one.path) for one in memory.wanted.values()}
    return all(server.adapters == wanted and memory.detail(server) == "" for server in servers)


def test_a_promoted_adapter_is_served_everywhere_under_its_digest_from_its_own_folder(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired]
) -> None:
    memory.promote(adapters[0])
    memory.promote(adapters[1])
    fleet.reconcile()
    assert _as_desired(servers, memory)
    first, second = (server.url for server in servers)
    for url in (first, second):
        assert [state for at, digest, state in memory.history if (at, digest) == (url, adapters[0].digest)] == [
            "loading",
            "proving",
            "serving",
        ]
    # One replica after the other: the second begins when the first serves.
    assert memory.history.index((first, adapters[0].digest, "serving")) < memory.history.index(
        (second, adapters[0].digest, "loading")
    )


def test_everything_is_recorded_before_it_is_done(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired]
) -> None:
    seen = []

    def check(url: str, verb: str, name: str) -> None:
        row = memory.rows.get((url, name))
        seen.append((verb, row.state if row else None))

    for server in servers:
        server.on_change = check
    memory.promote(adapters[0])
    fleet.reconcile()
    servers[0].adapters["stranger"] = "/tmp/stranger"
    memory.wanted.clear()
    fleet.reconcile()
    assert set(seen) == {("load", "loading"), ("unload", "withdrawing")}
    assert len(seen) == 5


def test_a_pass_over_a_fleet_that_is_as_desired_asks_for_two_things_a_replica_and_writes_no_history(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired]
) -> None:
    memory.promote(adapters[0])
    fleet.reconcile()
    history = list(memory.history)
    servers[0].asked.clear()
    fleet.reconcile()
    assert sorted(servers[0].asked) == [("GET", "/metrics"), ("GET", "/v1/models")]
    assert memory.history == history


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("no_op", "the base answers under the adapter's name (text"),
        ("blind", "(image"),
        ("refuse_load", "does not yet support DoRA"),
        ("deaf", "not listed after it was loaded"),
        ("wrong_root", "listed from '/elsewhere/"),
        ("mixes", "same batch"),
        ("no_logprobs", "without log-probabilities"),
    ],
)
def test_what_fails_on_one_replica_is_taken_back_from_all_with_the_reason(
    fault: str, told: str, fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired]
) -> None:
    servers[1].break_(fault)
    memory.promote(adapters[0])
    fleet.reconcile()
    assert memory.states(adapters[0]) == {"failed"}
    assert told in memory.detail(servers[1])
    assert "rolled back" in memory.detail(servers[0])
    assert not servers[0].adapters
    assert not servers[1].adapters
    assert (servers[0].url, adapters[0].digest, "serving") in memory.history  # it had been proved there


def test_a_part_that_only_pictures_reach_and_that_is_dropped_is_caught_and_named(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired]
) -> None:
    sighted = adapters[1]
    # The language part alone moves this picture's answer as far as the whole does: only its own canary can tell.
    text, _picture, blinded = sighted.canaries
    memory.promote(replace(sighted, canaries=(text, blinded)))
    servers[0].break_("blind")
    fleet.reconcile()
    assert "--enable-tower-connector-lora" in memory.detail(servers[0])
    assert memory.states(sighted) == {"failed"}


def test_stale_features_of_other_weights_under_the_same_name_are_caught(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired]
) -> None:
    servers[0].first_weights[adapters[0].digest] = b"what an intruder had loaded under this name"
    servers[0].break_("stale")
    memory.promote(adapters[0])
    fleet.reconcile()
    assert memory.states(adapters[0]) == {"failed"}
    assert "under the adapter's name (image" in memory.detail(servers[0])


def test_what_could_not_be_unloaded_when_it_was_taken_back_is_unloaded_by_the_next_pass(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired]
) -> None:
    servers[1].break_("no_op")
    servers[1].break_("stubborn")
    memory.promote(adapters[0])
    fleet.reconcile()
    assert list(servers[1].adapters) == [adapters[0].digest]
    fleet.reconcile()
    assert f"{adapters[0].digest} does not leave" in memory.detail(servers[1])
    servers[1].heal()
    fleet.reconcile()
    assert not servers[1].adapters
    assert memory.states(adapters[0]) == {"failed"}


def test_a_failure_is_tried_again_after_a_pause_that_doubles(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired], clock: Clock
) -> None:
    servers[1].break_("refuse_load")
    memory.promote(adapters[0])
    fleet.reconcile()
    for pause in (30, 60, 120):
        tries = memory.history.count((servers[1].url, adapters[0].digest, "loading"))
        clock.move(seconds=pause - 1)
        fleet.reconcile()
        assert memory.history.count((servers[1].url, adapters[0].digest, "loading")) == tries
        assert "tried again at" in memory.detail(servers[1])
        clock.move(seconds=1)
        fleet.reconcile()
        assert memory.history.count((servers[1].url, adapters[0].digest, "loading")) == tries + 1
    servers[1].heal()
    clock.move(seconds=240)
    fleet.reconcile()
    assert _as_desired(servers, memory)
    assert memory.begun[-1][0] == memory.begun[0][0]  # trying again is no new roll-out


def test_a_server_that_fails_what_serves_well_elsewhere_loses_it_alone(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired], clock: Clock
) -> None:
    memory.promote(adapters[0])
    fleet.reconcile()
    servers[1].restart()
    servers[1].break_("no_op")
    fleet.reconcile()
    assert memory.state(servers[0], adapters[0]) == "serving"
    assert memory.state(servers[1], adapters[0]) == "failed"
    servers[0].restart()  # and it keeps that standing through restarts of its own
    fleet.reconcile()
    clock.move(minutes=1)
    fleet.reconcile()
    assert memory.state(servers[0], adapters[0]) == "serving"
    servers[1].heal()
    clock.move(hours=1)
    fleet.reconcile()
    assert _as_desired(servers, memory)


def test_what_is_withdrawn_is_resident_until_the_server_restarts_then_absent_then_forgotten(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired]
) -> None:
    memory.promote(adapters[0])
    fleet.reconcile()
    memory.wanted.clear()
    fleet.reconcile()
    assert memory.states(adapters[0]) == {"resident"}
    assert _as_desired(servers, memory)
    fleet.reconcile()
    assert memory.states(adapters[0]) == {"resident"}
    servers[0].restart()
    fleet.reconcile()
    assert memory.state(servers[0], adapters[0]) == "absent"
    assert memory.state(servers[1], adapters[0]) == "resident"
    fleet.reconcile()
    assert memory.state(servers[0], adapters[0]) is None


def test_a_withdrawal_is_not_believed_until_a_listing_proves_it(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired]
) -> None:
    memory.promote(adapters[0])
    fleet.reconcile()
    memory.wanted.clear()
    servers[0].break_("stubborn")
    servers[1].lie_for(4)
    for _cycle in range(2):
        fleet.reconcile()
        assert memory.states(adapters[0]) == {"withdrawing"}
        assert "does not leave" in memory.detail(servers[0])
    servers[0].heal()
    fleet.reconcile()
    fleet.reconcile()
    assert memory.states(adapters[0]) == {"resident"}


def test_a_name_that_is_none_of_ours_is_told_and_unloaded(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired]
) -> None:
    memory.promote(adapters[0])
    fleet.reconcile()
    unapproved = {"harmful": "/tmp/harmful", adapters[2].digest: str(adapters[2].path), "n" * 5000: "/x"}
    servers[0].adapters.update(unapproved)
    fleet.reconcile()
    for name in unapproved:
        assert f"serves what was not approved: {name[:200]}" in memory.detail(servers[0])
    assert len(memory.detail(servers[0])) <= 1000
    assert list(servers[0].adapters) == [adapters[0].digest]
    fleet.reconcile()
    assert memory.detail(servers[0]) == ""


def test_another_folder_under_an_approved_name_is_withdrawn_and_not_loaded_again_before_a_restart(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired], tmp_path: Path
) -> None:
    memory.promote(adapters[0])
    fleet.reconcile()
    servers[0].adapters[adapters[0].digest] = str(tmp_path / "elsewhere")
    for _cycle in range(3):
        fleet.reconcile()
        assert not servers[0].adapters
        assert FOREIGN in memory.detail(servers[0])
    servers[0].restart()
    fleet.reconcile()
    assert _as_desired(servers, memory)


@pytest.mark.parametrize("keep", [False, True], ids=["empty", "with its old names"])
def test_a_restarted_server_is_proved_anew_and_cleaned_within_one_cycle(
    keep: bool, fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired]
) -> None:
    memory.promote(adapters[0])
    memory.promote(adapters[1])
    fleet.reconcile()
    servers[0].restart(keep=keep)
    del memory.wanted[adapters[1].digest]
    questions = servers[0].asked.count(("POST", "/v1/chat/completions"))
    fleet.reconcile()
    assert _as_desired(servers, memory)
    assert servers[0].asked.count(("POST", "/v1/chat/completions")) > questions
    assert memory.state(servers[0], adapters[1]) == ("resident" if keep else "absent")
    assert len({digest for _, digest in memory.begun}) == 2  # a restart is no roll-out


def test_what_was_withdrawn_after_a_restart_is_not_taken_for_absent_where_the_pass_was_cut_off(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired], clock: Clock
) -> None:
    memory.promote(adapters[0])
    fleet.reconcile()
    memory.wanted.clear()
    servers[0].restart(keep=True)
    seen = memory.seen

    def cut_off(replica: str, state: ReplicaState, detail: str, boot: str) -> None:
        if "restarted" not in detail:
            raise KeyboardInterrupt
        seen(replica, state, detail, boot)

    memory.seen = cut_off  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        fleet.reconcile()
    memory.seen = seen  # type: ignore[method-assign]
    assert memory.state(servers[0], adapters[0]) == "resident"
    fleet_of(servers, memory, clock).reconcile()
    assert memory.state(servers[0], adapters[0]) == "resident"


def test_a_server_that_dropped_an_adapter_gets_it_back(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired]
) -> None:
    memory.promote(adapters[0])
    fleet.reconcile()
    servers[0].adapters.clear()
    fleet.reconcile()
    assert _as_desired(servers, memory)


def test_answers_are_asked_for_again_from_time_to_time_and_a_change_is_noticed(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired], clock: Clock
) -> None:
    memory.promote(adapters[0])
    fleet.reconcile()
    servers[1].break_("no_op")
    fleet.reconcile()
    assert memory.state(servers[1], adapters[0]) == "serving"
    clock.move(minutes=10)
    fleet.reconcile()
    assert memory.state(servers[1], adapters[0]) == "failed"
    assert memory.state(servers[0], adapters[0]) == "serving"


@pytest.mark.parametrize("fault", ["hang", "hang_up", "error"])
def test_a_server_out_of_reach_delays_nobody_else_and_is_caught_up_with(
    fault: str, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired], clock: Clock
) -> None:
    fleet = fleet_of(servers, memory, clock, timeout_seconds=1)
    memory.promote(adapters[0])
    fleet.reconcile()
    memory.wanted.clear()
    memory.promote(adapters[1])
    servers[0].break_(fault)
    began = time.monotonic()
    fleet.reconcile()
    assert time.monotonic() - began < 10  # its timeout is a second
    assert memory.statuses[servers[0].url].state == "unreachable"
    assert memory.detail(servers[0])
    assert memory.state(servers[0], adapters[0]) == "withdrawing"
    assert memory.state(servers[0], adapters[1]) is None
    assert memory.state(servers[1], adapters[0]) == "resident"
    assert memory.state(servers[1], adapters[1]) == "serving"
    servers[0].heal()
    fleet.reconcile()
    assert memory.statuses[servers[0].url].state == "up"
    assert _as_desired(servers, memory)


def test_a_server_that_hangs_in_the_middle_of_a_roll_out_is_no_failure_of_the_adapter(
    servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired], clock: Clock
) -> None:
    fleet = fleet_of(servers, memory, clock, timeout_seconds=1)
    servers[0].on_change = lambda url, verb, name: servers[0].break_("hang")
    memory.promote(adapters[0])
    fleet.reconcile()
    assert memory.statuses[servers[0].url].state == "unreachable"
    assert "failed" not in memory.states(adapters[0])
    servers[0].on_change = lambda url, verb, name: None
    servers[0].heal()
    fleet.reconcile()
    assert _as_desired(servers, memory)


def test_no_more_roll_outs_begin_within_an_hour_than_allowed_and_withdrawals_go_on(
    servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired], clock: Clock
) -> None:
    fleet = fleet_of(servers, memory, clock, promotions_per_hour=2)
    for one in adapters:
        memory.promote(one)
    fleet.reconcile()
    assert [len(server.adapters) for server in servers] == [2, 2]
    assert "2 roll-outs an hour are the limit" in memory.detail(servers[0])
    clock.move(minutes=59)
    del memory.wanted[adapters[0].digest]
    servers[1].restart()
    fleet.reconcile()
    assert [list(server.adapters) for server in servers] == [[adapters[1].digest]] * 2
    clock.move(minutes=1, seconds=1)
    fleet.reconcile()
    assert _as_desired(servers, memory)


def test_only_so_many_replicas_get_an_adapter_before_it_is_proved_on_them(
    servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired], clock: Clock
) -> None:
    with FakeVllm() as third:
        replicas = [*servers, third]
        fleet = fleet_of(replicas, memory, clock, replicas_at_once=2)
        servers[0].break_("no_op")
        memory.promote(adapters[0])
        fleet.reconcile()
        assert not any(path.endswith("load_lora_adapter") and "unload" not in path for _, path in third.asked)
        loaded = {url for url, _digest, state in memory.history if state == "loading"}
        assert loaded == {servers[0].url, servers[1].url}


def test_what_ceases_to_be_desired_during_a_roll_out_is_withdrawn_before_the_next_step(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired]
) -> None:
    memory.promote(adapters[0])
    fleet.reconcile()
    memory.promote(adapters[1])
    changes = []

    def block(url: str, verb: str, name: str) -> None:
        changes.append((url, verb, name))
        memory.wanted.pop(adapters[0].digest, None)

    for server in servers:
        server.on_change = block
    fleet.reconcile()
    loads = [index for index, (_, verb, _name) in enumerate(changes) if verb == "load"]
    unloads = [index for index, (_, verb, _name) in enumerate(changes) if verb == "unload"]
    assert len(loads) == len(unloads) == 2
    assert loads[0] < min(unloads)
    assert max(unloads) < loads[1]
    assert _as_desired(servers, memory)


def test_an_adapter_without_canaries_or_with_ones_that_cannot_tell_waits_and_says_so(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired]
) -> None:
    text = adapters[1].canaries[0]
    blunt = Canary("text", text.asked, None, None, text.base, text.base, 0.0)
    memory.promote(replace(adapters[0], canaries=()))
    memory.promote(replace(adapters[1], canaries=(blunt,)))
    fleet.reconcile()
    assert not any(method == "POST" for method, _path in servers[0].asked)
    assert "it waits for its canaries" in memory.detail(servers[0])
    assert "nothing tells text from a server that does not apply it" in memory.detail(servers[0])


def test_files_that_changed_after_approval_are_not_served(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired]
) -> None:
    (adapters[0].path / WEIGHTS_NAME).write_bytes(b"other weights")
    memory.promote(adapters[0])
    fleet.reconcile()
    assert memory.states(adapters[0]) == {"failed"}
    assert "no longer what was approved" in memory.detail(servers[0])
    assert not any(verb == "POST" for verb, _ in servers[0].asked if "unload" not in _)


def test_a_replica_that_the_configuration_names_no_more_is_forgotten(
    servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired], clock: Clock
) -> None:
    memory.promote(adapters[0])
    fleet_of(servers, memory, clock).reconcile()
    fleet_of(servers[:1], memory, clock).reconcile()
    assert set(memory.statuses) == {servers[0].url}
    assert {url for url, _digest in memory.rows} == {servers[0].url}


def test_a_fleet_without_replicas_has_nothing_to_do(memory: DictMemory, adapters: list[Desired], clock: Clock) -> None:
    memory.promote(adapters[0])
    fleet_of([], memory, clock).reconcile()
    assert not memory.history


def test_another_fleet_after_ours_was_killed_proves_everything_once_more_and_changes_nothing(
    fleet: Fleet, servers: list[FakeVllm], memory: DictMemory, adapters: list[Desired], clock: Clock
) -> None:
    memory.promote(adapters[0])
    fleet.reconcile()
    history = list(memory.history)
    servers[0].asked.clear()
    fleet_of(servers, memory, clock, prove_again=timedelta(hours=9)).reconcile()
    assert servers[0].asked.count(("POST", "/v1/chat/completions")) > 0
    assert memory.history == history
    assert _as_desired(servers, memory)
