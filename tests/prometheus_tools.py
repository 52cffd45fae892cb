"""The binaries of Prometheus and Alertmanager, by the project's own script, and what tests ask of them."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from deploy.local_stack import StackError, find_binaries

ROOT = Path(__file__).parent.parent

_T = TypeVar("_T")


@cache
def _found() -> tuple[dict[str, str], str]:
    try:
        return find_binaries(), ""
    except StackError as error:
        return {}, str(error)


def binaries() -> dict[str, str]:
    """Where each program is; the test is skipped where they truly cannot be had."""
    found, trouble = _found()
    if not found:
        pytest.skip(trouble)
    return found


def run(name: str, *arguments: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool or amtool."""
    command = [binaries()[name], *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: Callable[[], _T | None], seconds: float = 30, told: str = "it") -> _T:
    """Poll until something is there; the only way to wait for another process."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{told} did not happen within {seconds} s")


def query(url: str, expression: str) -> list[dict[str, Any]]:
    """The result of one query, now."""
    answer = httpx.get(f"{url}/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", (expression, answer)
    return list(answer["data"]["result"])
