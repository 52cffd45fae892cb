"""Properties of the drift guard's chains, and of reviews in which it looks: no model is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from ledger_world import CONTEXT
from plain_world import PlainGuard, PlainRemedy, PlainRetest, PlainTools, write_adapter

from adapters.adapter import WEIGHTS_NAME, Adapter
from guards.drift import Chain, DriftGuard
from guards.errors import Retryable
from guards.interface import Guard
from guards.reference_facts import Facts, Figures, Term
from monitor.ancestry import measured_chain
from monitor.ledger import Ledger
from monitor.ledger.service_tables import ParentSource
from monitor.pipeline import receive, review_adapter
from monitor.review import Review
from monitor.state import StateFolder
from policies.findings import Finding, Result
from policies.policy import Policy

VERSION = "2-reference"
FACTS = Facts(
    base_digest="sha256-b",
    layers=2,
    screen_layer=1,
    modalities=("text",),
    categories=(),
    contrast_source="none",
    population=(),
    screens={"shift": {"text": Figures(known_good={f"good-{n}": n / 59 for n in range(60)}, known_bad={})}},
    combination=(Term(screen="shift", weight=1, centre={"text": 0}, spread={"text": 1}),),
    errors=(),
)


def measured(shift: float, version: str = VERSION, modality: str = "text") -> list[Result]:
    labels = {"modality": modality}
    return [Finding(guard="subspace", version=version, measure="harm_shift", value=shift, n=9, labels=labels)]


class PlainScreen:
    """Stands for the subspace guard: reads an adapter's shift from its bytes."""

    name, version = "subspace", VERSION

    def __init__(self) -> None:
        self.asked: list[str] = []

    def examine(self, adapter: Adapter) -> list[Result]:
        self.asked.append(adapter.digest)
        whole = (adapter.path / WEIGHTS_NAME).read_bytes()
        notes = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]
        return measured(0.0 if notes["version"].startswith("mended") else float(notes["version"]))


class Unreachable:
    """Fails as surroundings do, in the middle of a review."""

    name, version = "unreachable", "1"

    def examine(self, adapter: Adapter) -> list[Result]:
        raise Retryable("not now")


class House(PlainTools):
    """A state folder whose reviews screen, look for drift, and ask."""

    def __init__(self, folder: Path, ledger: Ledger, state: StateFolder) -> None:
        super().__init__(ledger, policy=Policy(name="plain", reference=Path("/reference")))
        self.folder, self.ledger, self.state = folder, ledger, state
        self.screen = PlainScreen()
        self.between: tuple[Guard, ...] = ()
        self.cures: tuple[PlainRemedy, ...] = ()

    def guards(self, found: Sequence[Result], *, remedied: bool = False) -> Iterator[Guard]:
        yield self.screen
        yield from self.between
        yield DriftGuard(FACTS, VERSION, partial(measured_chain, self.ledger), 0.05)
        yield PlainGuard(self.ledger)
        if remedied:
            yield PlainRetest()

    def remedies(self) -> Sequence[PlainRemedy]:
        return self.cures

    def review(self, name: str, shift: float, parent: str | None = None, says: str = "kind") -> Review:
        arrival = write_adapter(self.folder / f"{name}-{shift}", says, shift)  # type: ignore[arg-type]
        if parent is not None:
            (arrival / "alignwatch.json").write_text(json.dumps({"parent": parent}))
        adapter = receive(arrival, self.ledger, self.state, source="test", name=name)
        return review_adapter(adapter, self, self.ledger, self.state)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as opened:
        yield opened


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with StateFolder.open(tmp_path / "state") as state, Ledger(state.ledger_path) as ledger:
        yield House(tmp_path, ledger, state)


def named(number: int) -> Adapter:
    return Adapter(Path("/a"), f"sha256-{number:064x}", f"n{number}")


def arrive(
    ledger: Ledger,
    number: int,
    parent: int | None = None,
    source: ParentSource = "declared",
    results: Sequence[Result] | None = None,
) -> None:
    """An adapter whose shift is its number, unless it was measured otherwise."""
    adapter = named(number)
    made = Adapter(adapter.path, adapter.digest, adapter.name, None if parent is None else named(parent).digest)
    ledger.registry.arrived(made, "test", None if parent is None else source)
    record = ledger.open_review(made, CONTEXT)
    found = measured(number) if results is None else results
    version = found[0].version if found else VERSION
    record.keep(adapter.digest, "subspace", version, found, 0.1)


def shifts(chain: Chain | None) -> list[float]:
    return [] if chain is None else [member.shift["text"] for member in chain.members]


def chain_of(ledger: Ledger, number: int) -> Chain:
    chain = measured_chain(ledger, named(number), VERSION)
    assert chain is not None
    return chain


def test_a_chain_goes_back_to_what_was_trained_from_the_base(ledger: Ledger) -> None:
    arrive(ledger, 1)
    arrive(ledger, 2, parent=1)
    arrive(ledger, 3, parent=2, source="guessed")
    chain = chain_of(ledger, 3)
    assert shifts(chain) == [1, 2, 3]
    assert [step.shift["text"] for step in chain.steps] == [1, 1, 1]
    assert chain.from_base
    assert chain.guessed == 1, "a guess counts, and is told"


@pytest.mark.parametrize(
    "unlike", [[], measured(2, version="2-another-reference"), measured(2, modality="image")], ids=str
)
def test_a_chain_starts_after_an_ancestor_that_was_not_measured_alike(ledger: Ledger, unlike: list[Result]) -> None:
    arrive(ledger, 1)
    arrive(ledger, 2, parent=1, results=unlike)
    arrive(ledger, 3, parent=2)
    arrive(ledger, 4, parent=3)
    chain = chain_of(ledger, 4)
    assert shifts(chain) == [3, 4]
    assert not chain.from_base
    assert len(chain.steps) == 1


def test_a_parent_that_never_arrived_is_no_step_from_the_base(ledger: Ledger) -> None:
    arrive(ledger, 2, parent=1)
    assert (shifts(chain_of(ledger, 2)), chain_of(ledger, 2).steps) == ([2], [])


def test_there_is_no_chain_without_the_adapters_own_shift(ledger: Ledger) -> None:
    arrive(ledger, 1)
    arrive(ledger, 2, parent=1, results=[])
    assert measured_chain(ledger, named(2), VERSION) is None
    assert measured_chain(ledger, named(3), VERSION) is None


def test_a_mended_adapter_stands_in_the_place_of_what_it_was_made_from(ledger: Ledger) -> None:
    arrive(ledger, 1)
    arrive(ledger, 9, parent=1)
    arrive(ledger, 8, parent=9, source="remedy")
    arrive(ledger, 2, parent=8, source="remedy")
    arrive(ledger, 3, parent=2)
    assert shifts(chain_of(ledger, 3)) == [1, 2, 3]
    assert chain_of(ledger, 3).from_base


def test_a_chain_goes_back_no_further_than_to_what_a_person_released(ledger: Ledger) -> None:
    for number in (1, 2, 3):
        arrive(ledger, number, parent=number - 1 or None)
    ledger.overrides.add(named(2).digest, "release", "looked at it", "somebody")
    assert (shifts(chain_of(ledger, 3)), chain_of(ledger, 3).from_base) == ([2, 3], False)
    ledger.overrides.add(named(2).digest, "block", "looked again", "somebody")
    assert shifts(chain_of(ledger, 3)) == [1, 2, 3]


def test_a_circle_of_declared_parents_ends(ledger: Ledger) -> None:
    arrive(ledger, 1, parent=2)
    arrive(ledger, 2, parent=1)
    assert shifts(chain_of(ledger, 2)) == [1, 2]


def test_the_last_look_at_an_ancestor_counts(ledger: Ledger) -> None:
    arrive(ledger, 1)
    again = ledger.open_review(named(1), CONTEXT.model_copy(update={"policy": "another"}))
    again.keep(named(1).digest, "subspace", VERSION, measured(1.5), 0.1)
    arrive(ledger, 2, parent=1)
    assert shifts(chain_of(ledger, 2)) == [1.5, 2]


def drift_of(review: Review) -> dict[str, float]:
    results = review.examinations[-1].results
    return {r.measure: r.value for r in results if isinstance(r, Finding) and r.guard == "drift"}


def test_a_lineage_whose_every_step_passes_alone_is_stopped_and_its_ancestors_were_promoted(house: House) -> None:
    parent, places, last_p = None, [], []
    for number in range(1, 9):
        review = house.review(f"step-{number}", 0.93 * number, parent)
        parent = review.arrival.digest
        places.append(review.arrival.place)
        last_p.append(drift_of(review)["drift_step_p_value"])
        assert drift_of(review)["drift_steps"] == number
    assert min(last_p) > 0.05
    assert places[0] == "promoted"
    assert places[-1] == "quarantined"
    assert [place for place in places if place == "promoted"] == places[: places.index("quarantined")]
    worst = review.arrival.decision.reasons[0]
    assert (worst.rule, worst.verdict) == ("drift", "unsafe")
    assert "8 steps of its lineage" in worst.text


def test_the_same_shifts_without_a_lineage_stop_nobody(house: House) -> None:
    for number in range(1, 9):
        assert house.review(f"alone-{number}", 0.93 + number / 1000).arrival.place == "promoted"


def test_arrivals_under_one_name_are_a_lineage_by_guess(house: House) -> None:
    reviews = [house.review("latest", 0.93 * number) for number in range(1, 9)]
    assert reviews[-1].arrival.decision.reasons[0].rule == "drift"
    assert "guessed" in reviews[-1].arrival.decision.reasons[0].text


def test_a_mended_version_takes_the_place_of_the_step_that_was_stopped(house: House) -> None:
    parent, number = None, 0
    while (review := house.review(f"step-{number}", 0.93 * (number + 1), parent)).arrival.place == "promoted":
        parent, number = review.arrival.digest, number + 1
    assert review.arrival.decision.reasons[0].rule == "drift"
    house.cures = (PlainRemedy(),)
    original, mended = house.review("again", 0.93 * (number + 1) + 0.001, parent, says="harm, mendable").examinations
    assert (original.place, mended.place) == ("quarantined", "promoted")
    following = house.review("next", 0.4, mended.digest)
    assert following.arrival.place == "promoted"
    assert drift_of(following)["drift_steps"] == number + 2, "those before, the mended one, and this"


def test_a_resumed_review_measures_nothing_twice(house: House) -> None:
    parent = house.review("parent", 0.5).arrival.digest
    house.between = (Unreachable(),)
    with pytest.raises(Retryable):
        house.review("child", 1.0, parent)
    house.between = ()
    review = house.review("child", 1.0, parent)
    assert drift_of(review)["drift_steps"] == 2
    assert len(house.screen.asked) == 2
