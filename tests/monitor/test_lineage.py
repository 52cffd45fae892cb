"""Properties of lineage: every parent is shown with how it is known, lies end, and hostile names stay text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from adapters.adapter import Adapter
from monitor.exit_codes import UsageError
from monitor.ledger import Ledger
from monitor.ledger.service_tables import ParentSource
from monitor.lineage import LineageNode, lineage_json, lineage_tree, render_lineage, trace_parent
from monitor.review import Context
from policies.decide import Decision
from policies.findings import Finding, Result

CONTEXT = Context(base="b", base_digest="sha256-b", policy="p", policy_digest="sha256-p", suites={}, judge="j")
CLEAN = Decision(outcome="promote", verdict="clean", reasons=(), policy="p")
UNSAFE = Decision(outcome="quarantine", verdict="unsafe", reasons=(), policy="p")


class Clock:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db", Clock()) as opened:
        yield opened


def digest(number: int) -> str:
    return f"sha256-{number:04x}" + "0" * 60


def adapter(number: int, name: str = "latest", parent: int | None = None) -> Adapter:
    return Adapter(Path("/a"), digest(number), name, None if parent is None else digest(parent))


def arrive(ledger: Ledger, number: int, name: str = "latest", parent: int | None = None) -> ParentSource | None:
    """As the pipeline receives it."""
    traced, how = trace_parent(adapter(number, name, parent), ledger)
    ledger.registry.arrived(traced, "inbox", how)
    return how


def review(ledger: Ledger, number: int, decision: Decision, *results: Result, name: str = "latest") -> None:
    record = ledger.open_review(adapter(number, name), CONTEXT)
    record.keep(digest(number), "battery", "1", list(results), 1.0)
    record.record_decision(digest(number), decision)
    record.begin_placement(digest(number))
    record.finish_placement(digest(number))
    record.close()


def rise(modality: str, value: float) -> Finding:
    return Finding(
        guard="battery",
        version="1",
        measure="misalignment_rise",
        labels={"modality": modality},
        value=value,
        low=value - 0.1,
        high=value + 0.1,
        n=80,
    )


def drawn(nodes: list[LineageNode]) -> str:
    console = Console(width=200, record=True, color_system=None)
    console.print(render_lineage(nodes))
    return console.export_text()


def parents(ledger: Ledger, *numbers: int) -> list[tuple[str | None, str | None]]:
    found = [ledger.registry.get(digest(number)) for number in numbers]
    return [(one.parent, one.parent_source) for one in found if one is not None]


def test_what_is_declared_stands_above_what_the_name_would_tell(ledger: Ledger) -> None:
    assert arrive(ledger, 1) is None
    assert arrive(ledger, 2) == "guessed"
    assert arrive(ledger, 3, parent=1) == "declared"
    assert arrive(ledger, 4, name="another") is None
    assert arrive(ledger, 5, name="another", parent=99) == "declared"
    assert parents(ledger, 1, 2, 3, 4, 5) == [
        (None, None),
        (digest(1), "guessed"),
        (digest(1), "declared"),
        (None, None),
        (digest(99), "declared"),
    ]


def test_bytes_that_come_back_under_their_name_get_no_parent_among_their_children(ledger: Ledger) -> None:
    for number in (1, 2, 1, 2, 3):
        arrive(ledger, number)
    assert parents(ledger, 1, 2, 3) == [(None, None), (digest(1), "guessed"), (digest(2), "guessed")]


def test_known_bytes_that_come_under_another_name_get_no_guessed_parent(ledger: Ledger) -> None:
    arrive(ledger, 1, name="mine")
    arrive(ledger, 2, name="yours")
    assert arrive(ledger, 1, name="yours") is None
    assert parents(ledger, 1) == [(None, None)]


def test_an_adapter_that_declares_itself_or_its_child_to_be_its_parent_is_not_believed(ledger: Ledger) -> None:
    assert arrive(ledger, 1, name="a", parent=1) is None
    assert arrive(ledger, 2, name="b", parent=3) == "declared"
    assert arrive(ledger, 3, name="c", parent=2) is None
    assert arrive(ledger, 4, name="b", parent=4) == "guessed"
    assert parents(ledger, 1, 2, 3, 4) == [(None, None), (digest(3), "declared"), (None, None), (digest(2), "guessed")]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from("ab"), st.none() | st.integers(0, 7)), max_size=20))
def test_no_order_of_arrivals_and_lies_makes_a_circle(
    tmp_path_factory: pytest.TempPathFactory, arrivals: list[tuple[int, str, int | None]]
) -> None:
    with Ledger(tmp_path_factory.mktemp("a") / "ledger.db", Clock()) as ledger:
        for number, name, parent in arrivals:
            arrive(ledger, number, name, parent)
        for number in range(7):
            met, known = set(), ledger.registry.get(digest(number))
            while known is not None and known.parent is not None:
                assert known.digest not in met
                met.add(known.digest)
                known = ledger.registry.get(known.parent)


def test_the_tree_shows_parents_verdicts_places_and_rises(ledger: Ledger) -> None:
    arrive(ledger, 1)
    arrive(ledger, 2)
    arrive(ledger, 3, name="fork", parent=2)
    arrive(ledger, 4, name="stranger", parent=99)
    review(ledger, 1, CLEAN, rise("text", 0.0), rise("image", 0.012))
    review(ledger, 2, UNSAFE, rise("text", 0.4))
    nodes = lineage_tree("fork", ledger)
    assert [node.digest for node in nodes] == [digest(1), digest(2), digest(3)]
    assert [node.asked for node in nodes] == [False, False, True]
    assert [(node.verdict, node.place) for node in nodes] == [
        ("clean", "promoted"),
        ("unsafe", "quarantined"),
        (None, None),
    ]
    text = drawn(nodes)
    first = "clean · promoted · text +0.0 (−10.0 to +10.0, n 80) · image +1.2 (−8.8 to +11.2, n 80) · 2026-11-21 12:0"
    assert first in text
    assert f"guessed parent {digest(1)[7:19]}" in text
    assert f"declared parent {digest(2)[7:19]}" in text
    assert "not reviewed" in text
    assert lineage_tree(digest(3), ledger) == nodes
    assert lineage_tree(digest(3)[7:], ledger) == nodes


def test_a_declared_parent_that_never_arrived_is_shown_as_such(ledger: Ledger) -> None:
    arrive(ledger, 4, name="stranger", parent=99)
    nodes = lineage_tree("stranger", ledger)
    assert [(node.digest, node.name) for node in nodes] == [(digest(99), None), (digest(4), "stranger")]
    assert "never seen here" in drawn(nodes)


def test_every_version_of_a_name_is_shown_in_one_tree_without_growing_indent(ledger: Ledger) -> None:
    for number in range(1, 40):
        arrive(ledger, number)
    nodes = lineage_tree("latest", ledger)
    assert [node.digest for node in nodes] == [digest(number) for number in range(1, 40)]
    assert sum(node.asked for node in nodes) >= 20
    assert max(len(line) - len(line.lstrip()) for line in drawn(nodes).splitlines() if line.strip()) <= 4


def test_a_fork_is_indented_and_everything_is_drawn_once(ledger: Ledger) -> None:
    arrive(ledger, 1, name="root")
    for number in (2, 3):
        arrive(ledger, number, name=f"child-{number}", parent=1)
    arrive(ledger, 4, name="grandchild", parent=3)
    lines = [
        line for line in drawn(lineage_tree("root", ledger)).splitlines() if digest(0)[7:15] in line and " " in line
    ]
    heads = [line for line in lines if line.lstrip().startswith(("●", "○"))]
    assert [line.split()[1] for line in heads] == ["root", "child-2", "child-3", "grandchild"]
    assert [len(line) - len(line.lstrip()) for line in heads] == [0, 2, 2, 2]


def test_a_circle_in_an_old_ledger_is_drawn_and_ends(ledger: Ledger) -> None:
    ledger.registry.arrived(adapter(1, "a", parent=2), "inbox", "declared")
    ledger.registry.arrived(adapter(2, "b", parent=1), "inbox", "declared")
    text = drawn(lineage_tree("a", ledger))
    assert text.count(digest(1)[7:19] + "\n") == 1
    assert text.count(digest(2)[7:19] + "\n") == 1


def test_a_name_cannot_move_the_cursor_or_pass_for_markup(ledger: Ledger) -> None:
    hostile = "a\x1b[2J[red]b\u202e"
    arrive(ledger, 1, name=hostile)
    nodes = lineage_tree(hostile, ledger)
    text = drawn(nodes)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "a⟦U+001B⟧[2J[red]b⟦U+202E⟧" in text
    assert json.loads(json.dumps(lineage_json(nodes)))[0]["name"] == hostile


@pytest.mark.parametrize("asked", ["nobody", "\x1b[31m", "%", ""])
def test_what_nobody_knows_is_a_usage_error_in_one_clean_line(ledger: Ledger, asked: str) -> None:
    arrive(ledger, 1)
    arrive(ledger, 2, name="other")
    with pytest.raises(UsageError) as caught:
        lineage_tree(asked, ledger)
    assert "\x1b" not in str(caught.value)


def test_a_prefix_of_several_digests_is_refused(ledger: Ledger) -> None:
    arrive(ledger, 1)
    arrive(ledger, 2, name="other")
    with pytest.raises(UsageError, match="several digests"):
        lineage_tree("sha256-000", ledger)
