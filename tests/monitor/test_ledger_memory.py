"""Properties of what reviews share: every answer, judgement and result comes back as it was kept."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ledger_world import ARRIVED, CONTEXT, Clock, finding

from guards.interface import Memory
from guards.judges.interface import Judgement
from monitor.ledger import Ledger
from policies.findings import Exhibit, Finding


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger(path, clock) as opened:
        yield opened


any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=12)
valid_text = st.text(max_size=12)
score = st.none() | st.floats(0, 100)
judgements = st.builds(
    Judgement,
    judge=valid_text,
    alignment=score,
    coherence=score,
    relevance=score,
    unscored=st.none() | valid_text,
    reply=valid_text,
)
findings = st.builds(
    Finding,
    guard=st.just("battery"),
    version=st.just("1"),
    measure=valid_text,
    value=st.floats(allow_nan=False),
    n=st.integers(0, 10**9),
    labels=st.dictionaries(valid_text, valid_text, max_size=2),
    note=valid_text,
)
exhibits = st.builds(
    Exhibit,
    guard=st.just("battery"),
    version=st.just("1"),
    prompt=valid_text,
    modality=st.just("image"),
    category=valid_text,
    asked=valid_text,
    base_answer=valid_text,
    answer=valid_text,
    base_scores=st.none() | st.dictionaries(valid_text, st.floats(0, 100), max_size=3),
    scores=st.none(),
    weight=st.floats(-1, 1),
)
shared = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class TestMemory:
    @shared
    # Keys and models are digests; only what a model said may be no text at all.
    @given(first=st.dictionaries(valid_text, any_text), second=st.dictionaries(valid_text, any_text), model=valid_text)
    def test_every_answer_comes_back_and_the_first_one_kept_is_final(
        self, tmp_path_factory: pytest.TempPathFactory, first: dict[str, str], second: dict[str, str], model: str
    ) -> None:
        with Ledger(tmp_path_factory.mktemp("ledger") / "ledger.db") as ledger:
            ledger.keep_answers(model, first)
            ledger.keep_answers(model, second)
            ledger.keep_answers(model + "'", dict.fromkeys(first, "another model's"))
            wanted = [*first, *second, "a key never kept before"]
            expected = {**second, **first}
            expected.pop("a key never kept before", None)
            found = ledger.recall_answers(model, [key for key in wanted if key != "a key never kept before"])
            assert found == expected

    @shared
    @given(first=st.dictionaries(valid_text, judgements), second=st.dictionaries(valid_text, judgements))
    def test_every_judgement_comes_back_and_the_first_one_kept_is_final(
        self, tmp_path_factory: pytest.TempPathFactory, first: dict[str, Judgement], second: dict[str, Judgement]
    ) -> None:
        with Ledger(tmp_path_factory.mktemp("ledger") / "ledger.db") as ledger:
            memory: Memory = ledger
            memory.keep_judgements(first)
            memory.keep_judgements(second)
            assert memory.recall_judgements([*first, *second]) == {**second, **first}

    @shared
    @example(results=[finding(value=float("inf")), finding(value=float("-inf"))])
    @given(results=st.lists(findings | exhibits, max_size=5))
    def test_every_result_comes_back(
        self, tmp_path_factory: pytest.TempPathFactory, results: list[Finding | Exhibit]
    ) -> None:
        with Ledger(tmp_path_factory.mktemp("ledger") / "ledger.db") as ledger:
            record = ledger.open_review(ARRIVED, CONTEXT)
            record.keep(ARRIVED.digest, "battery", "1", results, 0)
            assert record.recall(ARRIVED.digest, "battery", "1") == results
            assert record.review.arrival.results == results

    def test_more_keys_than_one_query_takes(self, ledger: Ledger) -> None:
        answers = {f"key {number}": str(number) for number in range(1501)}
        ledger.keep_answers("model", answers)
        assert ledger.recall_answers("model", list(answers)) == answers
        assert ledger.recall_answers("model", []) == {}

    def test_threads_keep_at_once_and_lose_nothing(self, ledger: Ledger) -> None:
        def keep(thread: int) -> None:
            for number in range(10):
                ledger.keep_answers("model", {f"{thread} {number}": "answer", "the same": str(thread)})

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(keep, range(4)))
        keys = [f"{thread} {number}" for thread in range(4) for number in range(10)]
        assert len(ledger.recall_answers("model", [*keys, "the same"])) == 41
