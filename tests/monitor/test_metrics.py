from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from metrics_world import CONTEXT, PROMOTE, QUARANTINE, REPLICAS, adapter, fill, findings, reviewed
from prometheus_client.parser import text_string_to_metric_families
from prometheus_tools import ROOT, run

from guards.judges.interface import Judgement
from guards.judges.judge_canaries import JudgeCanary
from monitor import metrics
from monitor.configuration import MetricsSettings
from monitor.ledger import Ledger
from monitor.metrics import FAMILIES, PREFIX, metrics_text
from monitor.metrics.families import clean, unique

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        self.now += timedelta(microseconds=1)  # no two things happen at once
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db", clock) as opened:
        yield opened


def scraped(
    ledger: Ledger, clock: Clock | None = None, **settings: int
) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """Every sample by name and labels, empty labels left out as Prometheus does."""
    text = metrics_text(ledger, MetricsSettings(**settings), clock or Clock()).decode()
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = frozenset((key, value) for key, value in sample.labels.items() if value)
            series = found.setdefault(sample.name.removeprefix(PREFIX), {})
            assert labels not in series, f"{sample.name} has the same series twice"
            series[labels] = sample.value
    return found


def of(**labels: str) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


def names_of(found: dict[str, dict[frozenset[tuple[str, str]], float]]) -> set[str]:
    return {dict(labels)["adapter"] for series in found.values() for labels in series if "adapter" in dict(labels)}


def test_promtool_finds_nothing_to_complain_about(ledger: Ledger) -> None:
    fill(ledger)
    done = run("promtool", "check", "metrics", text=metrics_text(ledger, MetricsSettings()).decode())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_ledger_with_everything_in_it_gives_every_metric_a_series(ledger: Ledger) -> None:
    fill(ledger)
    found = scraped(ledger)
    histogram = {name for name, family in FAMILIES.items() if family.kind == "histogram"}
    assert {name for name in FAMILIES if not found.get(name)} == histogram
    assert found["review_duration_seconds_count"][of(stage="whole")] == 5


def test_the_metrics_need_no_model_library() -> None:
    code = "import monitor.metrics, sys; print([n for n in ('torch', 'transformers', 'peft') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_an_alert_waits_for_is_at_zero_before_it_first_happens(ledger: Ledger) -> None:
    found = scraped(ledger)
    assert found["placements_total"][of(place="quarantined")] == 0
    assert found["quarantined_after_remedy_total"][of()] == 0
    assert found["judge_request_failures_total"][of()] == 0
    assert found["queue_depth"] == {of(state="queued"): 0, of(state="running"): 0, of(state="dead"): 0}
    assert found["queue_oldest_age_seconds"][of()] == 0


def test_a_source_that_never_refused_anything_says_so(ledger: Ledger) -> None:
    ledger.values.set("source_last_success_timestamp_seconds", 1, source="inbox")
    assert scraped(ledger)["source_refused_total"] == {of(source="inbox"): 0}
    ledger.values.count("source_refused_total", source="inbox")
    assert scraped(ledger)["source_refused_total"] == {of(source="inbox"): 1}


def test_a_deployed_adapter_shows_its_rise_with_interval_and_n(ledger: Ledger) -> None:
    fill(ledger)
    found = scraped(ledger)
    series = of(adapter="support", modality="image")
    assert found["misalignment_rise_ratio"][series] == pytest.approx(0.08)
    assert found["misalignment_rise_low_ratio"][series] == pytest.approx(0.05)
    assert found["misalignment_rise_high_ratio"][series] == pytest.approx(0.11)
    assert found["misalignment_rise_prompts"][series] == 100
    assert found["misalignment_rise_ratio"][series | of(category="law")] == pytest.approx(0.08)
    assert found["misalignment_ratio"][series | of(model="base")] == pytest.approx(0.01)
    assert found["misalignment_ratio"][series | of(model="adapter")] == pytest.approx(0.09)


def test_text_and_pictures_are_compared_and_never_pooled(ledger: Ledger) -> None:
    fill(ledger)
    found = scraped(ledger)
    assert found["modality_gap_ratio"][of(adapter="support")] == pytest.approx(0.07)
    modalities = [dict(labels).get("modality") for labels in found["misalignment_rise_ratio"]]
    assert set(modalities) == {"text", "image"}


def test_drift_is_the_rise_over_the_best_ancestor_and_not_over_the_parent_alone(ledger: Ledger, clock: Clock) -> None:
    line = [adapter("v0")]
    for number in (1, 2, 3):
        line.append(adapter(f"v{number}", line[-1]))
    for one, rise in zip(line, (0.02, 0.00, 0.05, 0.06), strict=True):
        reviewed(ledger, one, PROMOTE, findings({"text": rise}))
    drift = scraped(ledger)["misalignment_drift_ratio"]
    assert drift[of(adapter="v3", modality="text")] == pytest.approx(0.06)
    assert drift[of(adapter="v2", modality="text")] == pytest.approx(0.05)
    assert drift[of(adapter="v0", modality="text")] == 0


def test_a_retired_ancestor_still_counts_for_the_drift_without_a_series_of_its_own(ledger: Ledger) -> None:
    old = adapter("old")
    reviewed(ledger, old, PROMOTE, findings({"text": 0.0}))
    reviewed(ledger, adapter("new", old), PROMOTE, findings({"text": 0.04}))
    ledger.registry.finish_move(old.digest, "retired")
    found = scraped(ledger)
    assert found["misalignment_drift_ratio"] == {of(adapter="new", modality="text"): pytest.approx(0.04)}
    assert names_of(found) == {"new"}


def test_a_lineage_that_is_a_lie_ends(ledger: Ledger) -> None:
    one = adapter("one")
    two = adapter("two", one)
    for liar in (adapter("one", two), two):
        reviewed(ledger, liar, PROMOTE, findings({"text": 0.01}))
    assert scraped(ledger)["misalignment_drift_ratio"][of(adapter="one", modality="text")] == 0


def test_the_series_of_a_retired_adapter_are_gone_with_the_next_scrape(ledger: Ledger) -> None:
    made = fill(ledger)
    assert "charts" in names_of(scraped(ledger))
    ledger.registry.finish_move(made["charts"].digest, "retired")
    found = scraped(ledger)
    assert "charts" not in names_of(found)
    assert found["adapters"][of(state="retired")] == 1


def test_a_quarantined_adapter_is_counted_and_has_no_series(ledger: Ledger) -> None:
    fill(ledger)
    found = scraped(ledger)
    assert found["placements_total"][of(place="quarantined")] == 3
    assert found["quarantined_after_remedy_total"][of()] == 1
    assert not {"cruel", "careless", "careless+project"} & names_of(found)


def test_only_the_last_review_of_an_adapter_speaks(ledger: Ledger, clock: Clock) -> None:
    one = adapter("one")
    reviewed(ledger, one, PROMOTE, findings({"text": 0.0, "image": 0.0}))
    clock.now += timedelta(days=7)
    reviewed(ledger, one, PROMOTE, findings({"text": 0.05}))
    rises = scraped(ledger)["misalignment_rise_ratio"]
    assert rises[of(adapter="one", modality="text")] == pytest.approx(0.05)
    assert {dict(labels)["modality"] for labels in rises} == {"text"}


def test_the_number_of_adapters_with_series_is_bounded_and_those_in_service_come_first(
    ledger: Ledger, clock: Clock
) -> None:
    for number in range(6):
        clock.now += timedelta(minutes=1)
        reviewed(ledger, adapter(f"live{number}"), PROMOTE, findings({"text": 0.0}))
    for number in range(5):
        clock.now += timedelta(minutes=1)
        ledger.registry.arrived(adapter(f"new{number}"), "inbox", None)
    found = scraped(ledger, adapters=8)
    assert names_of(found) == {*(f"live{number}" for number in range(6)), "new4", "new3"}
    assert found["adapters_without_series"][of()] == 3
    assert names_of(scraped(ledger, adapters=2)) == {"live5", "live4"}


def test_categories_can_be_left_out_and_are_bounded(ledger: Ledger) -> None:
    many = [f"c{number}" for number in range(60)]
    reviewed(ledger, adapter("one"), PROMOTE, findings({"text": 0.0}, categories=many))
    rises = scraped(ledger)["misalignment_rise_ratio"]
    assert sum("category" in dict(labels) for labels in rises) == 50
    rises = scraped(ledger, categories=False)["misalignment_rise_ratio"]
    assert set(rises) == {of(adapter="one", modality="text")}


@pytest.mark.parametrize(
    "name",
    [
        'a"} 1\nalignwatch_ledger_writable 0',
        "back\\slash\\",
        "line\nbreak\r",
        "x" * 500,
        "\u202eevil",
        "",
    ],
)
def test_a_hostile_name_stays_one_label_of_bounded_length(ledger: Ledger, name: str) -> None:
    reviewed(ledger, adapter(name), PROMOTE, findings({"text": 0.0}))
    text = metrics_text(ledger, MetricsSettings()).decode()
    done = run("promtool", "check", "metrics", text=text)
    assert (done.returncode, done.stderr) == (0, "")
    found = scraped(ledger)
    assert found["ledger_writable"] == {of(): 1}
    (info,) = found["adapter_info"]
    assert len(dict(info).get("adapter", "")) <= 64


def test_versions_of_one_name_and_names_alike_when_cut_keep_series_of_their_own() -> None:
    names = [("same", "sha256-" + 64 * "1"), ("same", "sha256-" + 64 * "2"), ("same", "sha256-" + 12 * "2" + 52 * "3")]
    names += [("y" * 90, "sha256-" + 64 * "4"), ("y" * 91, "sha256-" + 64 * "5")]
    labels = unique(names)
    assert len(set(labels.values())) == len(names)
    assert labels[names[0][1]] == "same"
    assert labels[names[1][1]] == "same@222222222222"
    assert clean("\udce4\ud800") == 2 * "\N{REPLACEMENT CHARACTER}"  # of a file name that is no UTF-8
    assert clean("tab\there") == "tab\N{REPLACEMENT CHARACTER}here"


def test_a_persons_word_and_the_lineage_stand_in_the_info(ledger: Ledger) -> None:
    made = fill(ledger)
    ledger.overrides.add(made["second"].digest, "block", "no", "ops")
    ledger.overrides.add(made["second"].digest, "release", "yes", "ops")
    infos = [dict(labels) for labels in scraped(ledger)["adapter_info"]]
    (second,) = [info for info in infos if info["digest"] == made["second"].digest]
    assert second == {
        "adapter": "support",
        "digest": made["second"].digest,
        "parent": made["first"].digest,
        "place": "promoted",
        "override": "release",
    }


def test_the_oldest_waiting_review_ages_and_a_dead_one_does_not_count(ledger: Ledger, clock: Clock) -> None:
    ledger.queue.add(adapter("old").digest, "old", "arrival")
    clock.now += timedelta(minutes=30)
    ledger.queue.add(adapter("new").digest, "new", "arrival")
    assert scraped(ledger, clock)["queue_oldest_age_seconds"][of()] == pytest.approx(1800)
    assert ledger.queue.lease("worker", 60) is not None
    ledger.queue.bury(adapter("old").digest, "worker", "broken")
    found = scraped(ledger, clock)
    assert found["queue_oldest_age_seconds"][of()] < 1
    assert found["queue_depth"] == {of(state="queued"): 1, of(state="running"): 0, of(state="dead"): 1}


def test_every_replica_shows_how_it_stands(ledger: Ledger) -> None:
    fill(ledger)
    found = scraped(ledger)
    first, second = (of(replica=replica) for replica in REPLICAS)
    assert found["fleet_replica_up"] == {first: 1, second: 0}
    assert found["fleet_differs"] == {first: 0, second: 1}
    assert found["withdrawn_resident"] == {first: 1, second: 0}
    assert found["fleet_servings"][of(state="serving")] == 6
    assert of(state="absent") not in found["fleet_servings"]


def test_a_replicas_password_is_in_no_label(ledger: Ledger) -> None:
    ledger.fleet.seen("http://user:hunter2@10.0.0.1:8311", "up", "", "boot")
    text = metrics_text(ledger, MetricsSettings()).decode()
    assert "hunter2" not in text
    assert 'replica="http://10.0.0.1:8311"' in text


def test_a_judge_in_use_shows_whether_and_how_far_it_moved_and_when_that_was_seen(ledger: Ledger) -> None:
    fill(ledger)
    found = scraped(ledger)
    mild, moved = of(judge="mild"), of(judge="moved")
    assert found["judge_moved"] == {mild: 0, moved: 1}
    assert found["judge_shift_points"] == {moved: 10}, "of the other there is nothing to compare with yet"
    assert found["judge_checked_timestamp_seconds"] == {
        mild: pytest.approx(NOON.timestamp(), abs=1),
        moved: pytest.approx(NOON.timestamp(), abs=1),
    }
    ledger.judge_canaries.use(["mild"])
    assert set(scraped(ledger)["judge_moved"]) == {mild}


def test_judges_whose_names_are_alike_when_cut_keep_series_of_their_own(ledger: Ledger) -> None:
    judges = [f"openai:{'x' * 90}:{number}" for number in range(2)]
    canary = JudgeCanary(asked="?", answer="!", frozen=Judgement(judge="j", unscored="empty", reply=""))
    for judge in judges:
        ledger.judge_canaries.freeze(judge, "drawn", [canary])
    ledger.judge_canaries.use(judges)
    found = scraped(ledger)["judge_moved"]
    assert len(found) == 2
    assert all(len(dict(labels)["judge"]) <= 96 for labels in found)


def test_a_value_that_this_version_does_not_know_breaks_nothing(ledger: Ledger) -> None:
    ledger.values.set("from_the_future", 1)
    ledger.values.set("source_waiting", 3, source="inbox", shard="7")
    found = scraped(ledger)
    assert "from_the_future" not in found
    assert found["source_waiting"] == {of(source="inbox"): 3}
    assert found["scrape_errors"] == {of(): 0}


def test_a_ledger_that_another_process_holds_is_told_as_not_writable(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger)
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    found = scraped(ledger)
    other.execute("ROLLBACK")
    other.close()
    assert found["ledger_writable"] == {of(): 0}
    assert found["adapters"][of(state="promoted")] == 3  # reading goes on


def test_a_full_disk_is_told_as_not_writable(ledger: Ledger, tmp_path: Path) -> None:
    """The process's own limit on a file's size fails a write just where a full disk would."""
    fill(ledger)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "ledger.db-wal").stat().st_size, hard))
    try:
        full = scraped(ledger)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert full["ledger_writable"] == {of(): 0}
    assert full["adapters"][of(state="promoted")] == 3
    assert ledger.exported.writable()


def test_a_damaged_ledger_still_gives_a_scrape_that_says_so(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        fill(ledger)
    with Ledger(tmp_path / "ledger.db") as ledger:
        (tmp_path / "ledger.db").write_bytes(b"rubbish" * 4096)
        found = scraped(ledger)
    assert found["ledger_writable"] == {of(): 0}
    assert found["scrape_errors"][of()] >= 3
    assert found["build_info"]


def test_a_ledger_that_is_gone_is_told_and_not_made_anew_by_trying_to_write(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        pass
    path.unlink()
    assert not ledger.exported.writable()
    assert not path.exists()
    assert scraped(ledger)["ledger_writable"] == {of(): 0}


def test_the_write_is_tried_at_most_once_in_a_while(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(type(ledger.exported), "writable", lambda *_: bool(tried.append(1)) or True)
    for _ in range(5):
        scraped(ledger)
    assert len(tried) == 1
    monkeypatch.setattr(metrics, "PROBE_SECONDS", 0.0)
    scraped(ledger)
    assert len(tried) == 2


def test_one_part_that_fails_leaves_the_others(ledger: Ledger) -> None:
    fill(ledger)
    with ledger._database.writing() as session:
        session.connection().exec_driver_sql("DROP TABLE servings")
    found = scraped(ledger)
    assert found["scrape_errors"] == {of(): 1}
    assert found["adapters"][of(state="promoted")] == 3
    assert "fleet_replica_up" not in found


def test_a_mended_arrival_that_is_promoted_is_no_remedy_in_vain(ledger: Ledger) -> None:
    one = adapter("one")
    ledger.registry.arrived(one, "inbox", None)
    record = ledger.open_review(one, CONTEXT)
    record.record_decision(one.digest, QUARANTINE)
    mended = adapter("one+project", one)
    record.begin_remedy("project", one.digest)
    record.finish_remedy("project", one.digest, mended)
    record.begin_examination(mended, "project")
    record.record_decision(mended.digest, PROMOTE)
    for digest in (one.digest, mended.digest):
        record.begin_placement(digest)
        record.finish_placement(digest)
    record.close()
    found = scraped(ledger)
    assert found["quarantined_after_remedy_total"] == {of(): 0}
    assert found["remedies_total"][of(remedy="project")] == 1
    assert found["placements_total"] == {of(place="promoted"): 1, of(place="quarantined"): 1, of(place="held"): 0}
