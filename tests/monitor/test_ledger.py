"""Properties of the ledger: what was kept stays kept, and nothing is acted on that was not recorded."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from adapters.adapter import Adapter
from guards.errors import Permanent, Retryable
from guards.interface import Memory
from guards.judges.interface import Judgement
from monitor.ledger import Ledger, LedgerConflict, LedgerUnusable, LedgerUnwritable, utc_now
from monitor.review import Context, Place, RemedyFailure, Review
from policies.decide import Decision, Reason
from policies.findings import Defect, Exhibit, Finding, Inconclusive, Result

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
CONTEXT = Context(
    base="tiny", base_digest="sha256-" + "b" * 64, policy="default", policy_digest="sha256-p", suites={}, judge="judge"
)
ARRIVED = Adapter(Path("/inbox/fresh"), "sha256-" + "a" * 64, "fresh")
MENDED = Adapter(Path("/mended"), "sha256-" + "c" * 64, "fresh+project", parent=ARRIVED.digest)
PROMOTE = Decision(outcome="promote", verdict="clean", reasons=(), policy="default")
QUARANTINE = Decision(
    outcome="quarantine",
    verdict="unsafe",
    reasons=(Reason(rule="misalignment", verdict="unsafe", text="rose"),),
    policy="default",
)


def finding(guard: str = "battery", value: float = 0.5) -> Finding:
    return Finding(guard=guard, version="1", measure="misalignment_rise", value=value, n=3)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


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


def finished_review(ledger: Ledger, adapter: Adapter = ARRIVED) -> Review:
    record = ledger.open_review(adapter, CONTEXT)
    record.record_decision(adapter.digest, QUARANTINE)
    return record.close()


class TestResuming:
    def test_an_unfinished_review_is_resumed_with_everything_that_was_kept(self, path: Path) -> None:
        results: list[Result] = [
            finding(value=float("inf")),
            Defect(guard="battery", version="1", code="no_op", reason="changes nothing"),
            Inconclusive(guard="battery", version="1", measure="rise", reason="no judge"),
        ]
        with Ledger(path) as before:
            first = before.open_review(ARRIVED, CONTEXT)
            first.keep(ARRIVED.digest, "battery", "1", results, 2.5)
            first.record_decision(ARRIVED.digest, QUARANTINE)
        with Ledger(path) as after:
            second = after.open_review(ARRIVED, CONTEXT)
            assert second.id == first.id
            assert second.recall(ARRIVED.digest, "battery", "1") == results
            assert second.recall_decision(ARRIVED.digest) == QUARANTINE

    def test_a_finished_review_opens_anew_and_stays_as_it_was(self, ledger: Ledger) -> None:
        finished = finished_review(ledger)
        record = ledger.open_review(ARRIVED, CONTEXT)
        assert record.id != finished.id
        assert record.recall_decision(ARRIVED.digest) is None
        assert ledger.reviews()[1] == finished

    def test_another_context_is_another_review(self, ledger: Ledger) -> None:
        other = CONTEXT.model_copy(update={"judge": "another judge"})
        assert ledger.open_review(ARRIVED, CONTEXT).id != ledger.open_review(ARRIVED, other).id

    def test_the_order_of_the_suites_makes_no_other_context(self, ledger: Ledger) -> None:
        one = CONTEXT.model_copy(update={"suites": {"a": "1", "b": "2"}})
        two = CONTEXT.model_copy(update={"suites": {"b": "2", "a": "1"}})
        assert ledger.open_review(ARRIVED, one).id == ledger.open_review(ARRIVED, two).id

    def test_ids_are_readable_and_unique_within_one_second(self, ledger: Ledger) -> None:
        ids = [finished_review(ledger).id for _ in range(20)]
        assert len(set(ids)) == 20
        assert all(re.fullmatch(r"20261121T120000Z-a{12}-[0-9a-f]{4}", review_id) for review_id in ids)

    def test_a_taken_id_is_drawn_again(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        draws = iter(["0000", "0000", "0001"])
        monkeypatch.setattr("monitor.ledger.secrets.token_hex", lambda _: next(draws))
        assert [finished_review(ledger).id[-4:] for _ in range(2)] == ["0000", "0001"]

    def test_a_review_is_taken_up_by_its_id(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        assert ledger.resume_review(record.id).review == record.review
        with pytest.raises(LedgerConflict, match="no review nowhere"):
            ledger.resume_review("nowhere")


class TestResults:
    def test_the_first_results_kept_are_final(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        record.keep(ARRIVED.digest, "battery", "1", [finding(value=0.1)], 1)
        record.keep(ARRIVED.digest, "battery", "1", [finding(value=0.9)], 9)
        assert record.recall(ARRIVED.digest, "battery", "1") == [finding(value=0.1)]
        assert record.review.arrival.seconds == 1

    def test_no_results_are_not_the_same_as_not_having_looked(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        assert record.recall(ARRIVED.digest, "structure", "1") is None
        record.keep(ARRIVED.digest, "structure", "1", [], 0.1)
        assert record.recall(ARRIVED.digest, "structure", "1") == []

    def test_a_new_version_looks_again_and_its_results_replace_the_old(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        record.keep(ARRIVED.digest, "battery", "1", [finding(value=0.1)], 1)
        assert record.recall(ARRIVED.digest, "battery", "2") is None
        record.keep(ARRIVED.digest, "battery", "2", [finding(value=0.2)], 2)
        assert record.review.arrival.results == [finding(value=0.2)]
        assert record.review.arrival.seconds == 2

    def test_a_review_tells_results_in_the_order_of_looking_and_sums_the_seconds(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        for seconds, guard in enumerate(["structure", "activity", "battery"], start=1):
            record.keep(ARRIVED.digest, guard, "1", [finding(guard)], seconds)
        assert [result.guard for result in record.review.arrival.results] == ["structure", "activity", "battery"]
        assert record.review.arrival.seconds == 6

    def test_what_was_not_begun_keeps_nothing(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        assert record.recall(MENDED.digest, "battery", "1") is None
        with pytest.raises(LedgerConflict, match="not begun to examine"):
            record.keep(MENDED.digest, "battery", "1", [], 0)


class TestDecisions:
    def test_what_is_undecided_shows_as_inconclusive_and_out_of_reach(self, ledger: Ledger) -> None:
        arrival = ledger.open_review(ARRIVED, CONTEXT).review.arrival
        assert (arrival.decision.outcome, arrival.decision.verdict) == ("quarantine", "inconclusive")
        assert arrival.decision.policy == CONTEXT.policy

    def test_a_decision_can_change_until_its_placement_begins_and_then_stands(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        assert record.record_decision(ARRIVED.digest, PROMOTE) == PROMOTE
        assert record.record_decision(ARRIVED.digest, QUARANTINE) == QUARANTINE
        record.begin_placement(ARRIVED.digest, "quarantined")
        assert record.record_decision(ARRIVED.digest, PROMOTE) == QUARANTINE
        assert record.recall_decision(ARRIVED.digest) == QUARANTINE

    def test_a_run_resumed_by_newer_guards_ends_what_was_begun_and_shows_what_it_was_decided_by(
        self, ledger: Ledger
    ) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        record.keep(ARRIVED.digest, "battery", "1", [finding(value=0.1)], 1)
        record.record_decision(ARRIVED.digest, PROMOTE)
        record.begin_placement(ARRIVED.digest, "promoted")
        record.keep(ARRIVED.digest, "battery", "2", [finding(value=0.9)], 1)
        record.record_decision(ARRIVED.digest, QUARANTINE)
        record.begin_placement(ARRIVED.digest, "promoted")
        record.finish_placement(ARRIVED.digest)
        arrival = record.close().arrival
        assert (arrival.results, arrival.decision, arrival.place) == ([finding(value=0.1)], PROMOTE, "promoted")

    def test_nothing_is_placed_undecided_or_promoted_against_its_decision(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        with pytest.raises(LedgerConflict, match="not decided"):
            record.begin_placement(ARRIVED.digest, "quarantined")
        record.record_decision(ARRIVED.digest, QUARANTINE)
        with pytest.raises(LedgerConflict, match="did not decide to promote"):
            record.begin_placement(ARRIVED.digest, "promoted")
        assert record.recall_placement(ARRIVED.digest) is None

    def test_a_review_closes_only_when_all_is_decided_and_placed(self, ledger: Ledger, clock: Clock) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        with pytest.raises(LedgerConflict, match="not decided"):
            record.close()
        record.record_decision(ARRIVED.digest, PROMOTE)
        record.begin_placement(ARRIVED.digest, "promoted")
        with pytest.raises(LedgerConflict, match="not finished placing"):
            record.close()
        record.finish_placement(ARRIVED.digest)
        clock.pass_seconds(5)
        review = record.close()
        clock.pass_seconds(5)
        assert record.close() == review
        assert (review.started, review.finished) == (NOON, NOON + timedelta(seconds=5))

    def test_a_finished_review_changes_no_more(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        record.record_decision(ARRIVED.digest, QUARANTINE)
        record.close()
        with pytest.raises(LedgerConflict, match="finished"):
            record.keep(ARRIVED.digest, "battery", "1", [], 0)


class TestPlacements:
    def test_an_interrupted_placement_is_known_until_it_is_finished(self, path: Path) -> None:
        with Ledger(path) as before:
            record = before.open_review(ARRIVED, CONTEXT)
            record.record_decision(ARRIVED.digest, PROMOTE)
            record.begin_placement(ARRIVED.digest, "promoted")
            record.begin_placement(ARRIVED.digest, "promoted")
        with Ledger(path) as after:
            (placement,) = after.unfinished_placements()
            assert (placement.review, placement.digest, placement.place) == (record.id, ARRIVED.digest, "promoted")
            assert after.resume_review(record.id).recall_placement(ARRIVED.digest) == placement
            assert after.placements("promoted") == []
            assert after.reviews()[0].arrival.place is None
            after.resume_review(placement.review).finish_placement(placement.digest)
            assert after.unfinished_placements() == []
            assert [p.digest for p in after.placements("promoted")] == [ARRIVED.digest]
            assert after.reviews()[0].arrival.place == "promoted"

    def test_a_begun_placement_goes_nowhere_else(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        record.record_decision(ARRIVED.digest, PROMOTE)
        with pytest.raises(LedgerConflict, match="never began"):
            record.finish_placement(ARRIVED.digest)
        record.begin_placement(ARRIVED.digest, "promoted")
        with pytest.raises(LedgerConflict, match="already began"):
            record.begin_placement(ARRIVED.digest, "quarantined")

    def test_of_each_adapter_its_last_placement_counts(self, ledger: Ledger, clock: Clock) -> None:
        steps: list[tuple[Decision, Place]] = [(PROMOTE, "promoted"), (QUARANTINE, "quarantined")]
        for decision, place in steps:
            record = ledger.open_review(ARRIVED, CONTEXT)
            record.record_decision(ARRIVED.digest, decision)
            record.begin_placement(ARRIVED.digest, place)
            clock.pass_seconds(1)
            record.finish_placement(ARRIVED.digest)
            record.close()
        assert ledger.placements("promoted") == []
        assert [placement.digest for placement in ledger.placements("quarantined")] == [ARRIVED.digest]


class TestRemedies:
    def test_a_remedy_begun_and_not_finished_is_tried_again(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        record.begin_remedy("project", ARRIVED.digest)
        record.begin_remedy("project", ARRIVED.digest)
        assert record.recall_remedy("project", ARRIVED.digest) is None

    def test_what_a_remedy_made_is_found_again_even_where_the_state_folder_was_moved(self, tmp_path: Path) -> None:
        (tmp_path / "old").mkdir()
        made = Adapter(tmp_path / "old" / "remedied" / "x", MENDED.digest, "fresh+project", ARRIVED.digest)
        with Ledger(tmp_path / "old" / "ledger.db") as before:
            record = before.open_review(ARRIVED, CONTEXT)
            record.begin_remedy("project", ARRIVED.digest)
            record.finish_remedy("project", ARRIVED.digest, made)
            assert record.recall_remedy("project", ARRIVED.digest) == made
        (tmp_path / "old").rename(tmp_path / "new")
        with Ledger(tmp_path / "new" / "ledger.db") as after:
            found = after.open_review(ARRIVED, CONTEXT).recall_remedy("project", ARRIVED.digest)
        assert isinstance(found, Adapter)
        assert (found.path, found.parent) == (tmp_path / "new" / "remedied" / "x", ARRIVED.digest)

    def test_what_lies_elsewhere_keeps_its_path(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        record.begin_remedy("project", ARRIVED.digest)
        record.finish_remedy("project", ARRIVED.digest, MENDED)
        record.finish_remedy("project", ARRIVED.digest, MENDED)
        assert record.recall_remedy("project", ARRIVED.digest) == MENDED

    def test_why_a_remedy_failed_is_part_of_the_review(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        with pytest.raises(LedgerConflict, match="never began"):
            record.fail_remedy("project", ARRIVED.digest, "no reference")
        record.begin_remedy("project", ARRIVED.digest)
        record.fail_remedy("project", ARRIVED.digest, "no reference")
        failure = RemedyFailure(remedy="project", digest=ARRIVED.digest, reason="no reference")
        assert record.recall_remedy("project", ARRIVED.digest) == failure
        assert record.review.remedy_failures == [failure]

    def test_a_remedy_whose_files_were_lost_can_end_again_in_any_way(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        record.record_decision(ARRIVED.digest, QUARANTINE)
        record.begin_remedy("project", ARRIVED.digest)
        record.finish_remedy("project", ARRIVED.digest, MENDED)
        record.begin_examination(MENDED, "project")
        record.begin_remedy("project", ARRIVED.digest)
        record.fail_remedy("project", ARRIVED.digest, "no reference")
        assert isinstance(record.recall_remedy("project", ARRIVED.digest), RemedyFailure)
        record.finish_remedy("project", ARRIVED.digest, MENDED)
        assert record.recall_remedy("project", ARRIVED.digest) == MENDED
        assert record.close().examinations[1].decision.verdict == "inconclusive"

    def test_a_remedied_adapter_is_examined_beside_the_arrived_one(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        record.record_decision(ARRIVED.digest, QUARANTINE)
        record.begin_examination(ARRIVED, None)
        record.begin_examination(MENDED, "project")
        record.begin_examination(MENDED, "project")
        record.record_decision(MENDED.digest, PROMOTE)
        review = record.review
        assert [(e.digest, e.remedy, e.parent) for e in review.examinations] == [
            (ARRIVED.digest, None, None),
            (MENDED.digest, "project", ARRIVED.digest),
        ]
        assert review.promoted == review.examinations[1]


class TestSearching:
    def test_a_review_is_found_by_any_examined_digest_with_or_without_its_prefix(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        record.begin_examination(MENDED, "project")
        for prefix in ("aaaa", "sha256-aaaa", "cccc", "CCC", MENDED.digest):
            assert [review.id for review in ledger.find_reviews(prefix)] == [record.id]

    @pytest.mark.parametrize("prefix", ["d", "a" * 65, "%", "_aa", "a%"])
    def test_what_no_digest_begins_with_finds_nothing(self, ledger: Ledger, prefix: str) -> None:
        ledger.open_review(ARRIVED, CONTEXT)
        assert ledger.find_reviews(prefix) == []

    def test_the_newest_review_comes_first_even_within_one_second(self, ledger: Ledger, clock: Clock) -> None:
        ids = [finished_review(ledger).id, finished_review(ledger).id]
        clock.pass_seconds(60)
        ids.append(finished_review(ledger).id)
        assert [review.id for review in ledger.reviews()] == ids[::-1]
        assert [review.id for review in ledger.find_reviews("a")] == ids[::-1]

    def test_a_reader_sees_a_review_being_worked_on_and_writes_nothing(self, ledger: Ledger, path: Path) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        with Ledger(path, read_only=True) as reader:
            assert reader.reviews() == [record.review]
            with pytest.raises(LedgerUnwritable):
                reader.keep_answers("model", {"key": "answer"})

    def test_a_reader_needs_no_writer(self, path: Path) -> None:
        with Ledger(path) as ledger:
            review = finished_review(ledger)
        with Ledger(path, read_only=True) as reader:
            assert reader.reviews() == [review]

    def test_a_reader_manages_in_a_folder_that_cannot_be_written(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Ledger(path) as ledger:
            review = finished_review(ledger)
        monkeypatch.setattr("monitor.ledger.database.os.access", lambda *_: False)
        with Ledger(path, read_only=True) as reader:
            assert reader.reviews() == [review]
            assert sorted(file.name for file in path.parent.iterdir()) == ["ledger.db"]


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
    @given(first=st.dictionaries(any_text, any_text), second=st.dictionaries(any_text, any_text), model=any_text)
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


def python(code: str, path: Path) -> "subprocess.Popen[str]":
    code = "import sys; from pathlib import Path; path = Path(sys.argv[1])\n" + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


class TestTrouble:
    def test_a_process_killed_between_two_keeps_loses_nothing_kept(self, path: Path) -> None:
        child = python(
            """
            from monitor.ledger import Ledger
            ledger = Ledger(path)
            for number in range(10**9):
                ledger.keep_answers("model", {str(number): "answer"})
                print(number, flush=True)
            """,
            path,
        )
        assert child.stdout is not None
        for _ in range(20):
            child.stdout.readline()
        child.kill()
        rest, _ = child.communicate(timeout=10)
        told = [str(number) for number in range(20 + len(rest.split()))]
        assert child.returncode == -signal.SIGKILL
        with Ledger(path) as ledger:
            assert len(ledger.recall_answers("model", told)) == len(told)

    def test_a_full_disk_is_one_clear_line_and_the_ledger_opens_fine_afterwards(self, path: Path) -> None:
        child = python(
            """
            import resource, signal
            from monitor.ledger import Ledger, LedgerUnwritable
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            ledger = Ledger(path)
            ledger.keep_answers("model", {"before": "kept"})
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, most))
            try:
                ledger.keep_answers("model", {str(number): "x" * 1000 for number in range(1000)})
            except LedgerUnwritable as error:
                print(error)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            ledger.keep_answers("model", {"after": "kept"})
            ledger.close()
            """,
            path,
        )
        out, problems = child.communicate(timeout=30)
        assert problems == ""
        assert len(out.splitlines()) == 1
        assert str(path.parent) in out
        assert "free space" in out
        with Ledger(path) as ledger:
            assert ledger.recall_answers("model", ["before", "after", "0"]) == {"before": "kept", "after": "kept"}

    @pytest.mark.parametrize("read_only", [False, True])
    def test_a_corrupt_file_is_refused_in_one_line_and_left_as_it_is(self, path: Path, read_only: bool) -> None:
        path.write_bytes(b"not a database at all " * 500)
        before = path.read_bytes()
        with pytest.raises(LedgerUnusable, match="damaged") as refused:
            Ledger(path, read_only=read_only)
        assert "\n" not in str(refused.value)
        assert path.read_bytes() == before

    def test_a_truncated_file_is_refused_in_one_line(self, path: Path) -> None:
        with Ledger(path) as ledger:
            ledger.keep_answers("model", {str(number): "x" * 100 for number in range(1000)})
        os.truncate(path, 8192)

        def read() -> None:
            with Ledger(path) as ledger:
                ledger.recall_answers("model", ["1"])

        with pytest.raises(LedgerUnusable, match="damaged"):
            read()

    def test_a_record_that_cannot_be_read_is_refused_in_one_line(self, path: Path) -> None:
        with Ledger(path) as ledger:
            ledger.open_review(ARRIVED, CONTEXT)
            change(path, "UPDATE reviews SET context = '{}'")
            with pytest.raises(LedgerUnusable, match="a Context in it") as refused:
                ledger.reviews()
        assert "\n" not in str(refused.value)

    def test_a_newer_schema_is_refused_in_one_line(self, path: Path) -> None:
        Ledger(path).close()
        change(path, "PRAGMA user_version = 99")
        with pytest.raises(LedgerUnusable, match="has schema 99") as refused:
            Ledger(path)
        assert "\n" not in str(refused.value)

    def test_a_database_of_something_else_is_left_alone(self, path: Path) -> None:
        change(path, "CREATE TABLE recipes (name TEXT)")
        before = path.read_bytes()
        with pytest.raises(LedgerUnusable, match="something else"):
            Ledger(path)
        assert path.read_bytes() == before

    def test_reading_creates_nothing(self, path: Path) -> None:
        with pytest.raises(LedgerUnusable, match="does not exist"):
            Ledger(path, read_only=True)
        assert not path.exists()
        path.touch()
        with pytest.raises(LedgerUnusable, match="no reviews yet"):
            Ledger(path, read_only=True)

    def test_a_folder_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(LedgerUnusable, match="missing is not a folder"):
            Ledger(tmp_path / "missing" / "ledger.db")

    def test_a_ledger_held_by_another_writer_is_busy_not_broken(
        self, ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("monitor.ledger.database.BUSY_SECONDS", 0.05)
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with Ledger(path) as second, pytest.raises(LedgerUnwritable, match="other process"):
            second.keep_answers("model", {"key": "answer"})
        holder.close()
        ledger.keep_answers("model", {"key": "answer"})

    def test_errors_tell_what_happens_next(self) -> None:
        assert issubclass(LedgerUnwritable, Retryable)
        assert issubclass(LedgerUnusable, Permanent)
        assert issubclass(LedgerConflict, Permanent)

    def test_what_is_kept_is_on_the_disk_and_tied_together(self, ledger: Ledger, path: Path) -> None:
        with ledger._database.reading() as session:
            connection = session.connection()
            settings = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            }
        assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_the_present_time_is_utc() -> None:
    assert utc_now().tzinfo is UTC


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
