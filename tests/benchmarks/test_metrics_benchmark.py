from __future__ import annotations

from pathlib import Path

from benchmarks.metrics import SMALL, Size, compare, filled, report
from monitor.configuration import MetricsSettings
from monitor.metrics import metrics_text


def test_a_scrape_shows_the_same_series_however_much_was_reviewed_before(tmp_path: Path) -> None:
    sizes = {SMALL: Size(10, 10), "more": Size(40, 10, 2)}
    with filled(tmp_path, sizes) as ledgers:
        texts = [metrics_text(ledger, MetricsSettings()).decode() for ledger in ledgers.values()]
        names = [{line.split("{")[0] for line in text.splitlines() if "adapter=" in line} for text in texts]
        counts = [sum("adapter=" in line for line in text.splitlines()) for text in texts]
        told = report(ledgers, compare(ledgers, rounds=1))
    assert names[0] == names[1]
    assert counts[0] == counts[1] == 10 * (32 + 5 * 8)
    assert "alignwatch_scrape_errors 0.0" in texts[1]
    assert told.count("\n") == 3
