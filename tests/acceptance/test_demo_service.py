"""``make demo-service`` as a user runs it: everything happens that has to, and nothing is left running."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from prometheus_tools import binaries

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_the_service_demo_promotes_one_adapter_stops_the_other_receives_the_alert_and_leaves_no_process(
    tmp_path: Path,
) -> None:
    binaries()  # skips, with the reason, where Prometheus cannot be had
    done = subprocess.run(
        [sys.executable, "-m", "deploy.demo_service", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )
    told = done.stderr
    assert done.returncode == 0, told
    assert re.search(r"promoted +benign-nature", told)
    assert re.search(r"(remedied|quarantined) +cruel-cinema-r16", told)
    assert re.search(r"alert +Alignwatch\w*Quarantined", told)
    assert re.search(r"page +http://127\.0\.0\.1:\d+", told)
    left = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if any(str(tmp_path) in word for word in process.info["cmdline"] or ())
    ]
    assert left == []
