"""Properties of reviews in the ledger: what was kept stays kept, and a rerun goes on from it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_world import ARRIVED, CONTEXT, MENDED, PROMOTE, QUARANTINE, Clock, finding, finished_review

from adapters.adapter import Adapter
from monitor.ledger import Ledger, LedgerConflict, LedgerUnwritable
from monitor.review import RemedyFailure
from policies.findings import Defect, Inconclusive, Result


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
