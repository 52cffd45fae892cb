"""Whatever happens to servers and wishes in whatever order: afterwards the fleet comes to what is desired."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fake_vllm import FAULTS, FakeVllm
from fleet_world import Clock, DictMemory, fleet_of, make_adapter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.fleet_record import Desired

PER_HOUR = 2
CYCLES = 6
"""Enough after the last trouble, an hour apart: two pass while two more roll-outs may begin in each hour, one for a
listing that is behind, the rest for what failed and waits at most an hour."""

_servers = st.integers(0, 1)
_adapters = st.integers(0, 3)
EVENTS = st.one_of(
    st.tuples(st.just("promote"), _adapters),
    st.tuples(st.just("retire"), _adapters),
    st.tuples(st.just("break"), _servers, st.sampled_from([fault for fault in FAULTS if fault != "hang"])),
    st.tuples(st.just("heal"), _servers),
    st.tuples(st.just("restart"), _servers, st.booleans()),
    st.tuples(st.just("drop"), _servers, _adapters),
    st.tuples(st.just("intrude"), _servers, st.sampled_from(["stranger", "0", "1", "2", "3"]), st.booleans()),
    st.tuples(st.just("lie"), _servers, st.integers(1, 4)),
    st.tuples(st.just("wait"), st.integers(1, 4000)),
    st.tuples(st.just("be killed")),
    st.just(("reconcile",)),
    st.just(("reconcile",)),
)


@pytest.fixture(scope="module")
def servers() -> Iterator[list[FakeVllm]]:
    with FakeVllm() as one, FakeVllm() as two:
        yield [one, two]


@pytest.fixture(scope="module")
def adapters() -> Iterator[list[Desired]]:
    with tempfile.TemporaryDirectory() as folder:
        yield [make_adapter(Path(folder), number, vision=number == 1) for number in range(4)]


class Storm:
    """One run of events over two servers and four adapters."""

    def __init__(self, servers: list[FakeVllm], adapters: list[Desired]) -> None:
        self.servers, self.adapters = servers, adapters
        self.clock = Clock()
        self.memory = DictMemory(self.clock)
        self.fleet = fleet_of(servers, self.memory, self.clock, promotions_per_hour=PER_HOUR)
        self.unrecorded: list[tuple[str, str]] = []
        for server in servers:
            server.heal()
            server.reset()
            server.on_change = self.check

    def check(self, url: str, verb: str, name: str) -> None:
        row = self.memory.rows.get((url, name))
        expected = {"load": {"loading"}, "unload": {"withdrawing", "failed"}}[verb]
        if row is None or row.state not in expected:
            self.unrecorded.append((verb, name))

    def play(self, event: tuple[object, ...]) -> None:
        match event:
            case ("promote", int(number)):
                self.memory.promote(self.adapters[number])
            case ("retire", int(number)):
                self.memory.wanted.pop(self.adapters[number].digest, None)
            case ("break", int(server), str(fault)):
                self.servers[server].break_(fault)
            case ("heal", int(server)):
                self.servers[server].heal()
            case ("restart", int(server), bool(keep)):
                self.servers[server].restart(keep=keep)
            case ("drop", int(server), int(number)):
                self.servers[server].adapters.pop(self.adapters[number].digest, None)
            case ("intrude", int(server), str(name), bool(own)):
                self.intrude(self.servers[server], name, own)
            case ("lie", int(server), int(listings)):
                self.servers[server].lie_for(listings)
            case ("wait", int(seconds)):
                self.clock.move(seconds=seconds)
            case ("be killed",):
                self.fleet = fleet_of(self.servers, self.memory, self.clock, promotions_per_hour=PER_HOUR)
            case _:
                self.fleet.reconcile()

    def intrude(self, server: FakeVllm, name: str, own: bool) -> None:
        """Somebody else loads something: a stranger, one of ours from its folder, or one of ours from another's."""
        chosen = self.adapters[int(name) if name.isdigit() else 0]
        shown = chosen if own else self.adapters[(self.adapters.index(chosen) + 1) % len(self.adapters)]
        server.adapters[chosen.digest if name.isdigit() else name] = str(shown.path)

    def most_begun_in_an_hour(self) -> int:
        hour = timedelta(hours=1)
        begun = self.memory.begun
        return max((len({d for at, d in begun if start <= at < start + hour}) for start, _ in begun), default=0)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(events=st.lists(EVENTS, min_size=4, max_size=25))
def test_after_any_storm_the_fleet_serves_exactly_what_is_desired(
    servers: list[FakeVllm], adapters: list[Desired], events: list[tuple[object, ...]]
) -> None:
    storm = Storm(servers, adapters)
    for event in events:
        storm.play(event)
    # The trouble is over. A name that stood for another folder is usable again only after a restart, which is told.
    for server in servers:
        server.heal()
        server.restart(keep=True)
    for _cycle in range(CYCLES):
        storm.fleet.reconcile()
        if any("restart the server" in storm.memory.detail(server) for server in servers):
            for server in servers:
                server.restart(keep=True)
        storm.clock.move(hours=1, seconds=1)
    wanted = {one.digest: str(one.path) for one in storm.memory.wanted.values()}
    for server in servers:
        assert server.adapters == wanted
        assert storm.memory.detail(server) == ""
    for row in storm.memory.rows.values():
        assert row.state == "serving" if row.digest in wanted else row.state in ("resident", "absent")
    assert storm.most_begun_in_an_hour() <= PER_HOUR
    assert not storm.unrecorded
