"""The command's own entry point, called in this process."""

from __future__ import annotations

import signal
import subprocess

import pytest

from monitor.cli import main


def called(capture: pytest.CaptureFixture[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    """Call ``alignwatch`` with these arguments; return its exit code and what it printed."""
    given = [str(argument) for argument in arguments]
    handler = signal.getsignal(signal.SIGTERM)
    capture.readouterr()
    try:
        with pytest.raises(SystemExit) as ended:
            main(given)
    finally:
        signal.signal(signal.SIGTERM, handler)
    printed = capture.readouterr()
    return subprocess.CompletedProcess(given, int(ended.value.code or 0), printed.out, printed.err)
