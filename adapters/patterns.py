"""Whether the regular expressions of an untrusted config can be run at all: tried in a child that can be stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

SECONDS = 5.0
"""Longest time for all patterns over all module names. Honest ones take milliseconds."""

_CHILD = """
import json, re, sys
patterns, names = json.load(sys.stdin)
for pattern in patterns:
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        sys.exit(json.dumps([pattern, str(error)]))
    for name in names:
        compiled.fullmatch(name)
        compiled.match(name)
"""


def pattern_fault(patterns: Sequence[str], names: Sequence[str]) -> str | None:
    """Say in one line why loading would fail or hang on these patterns, or None where it would not.

    A regular expression can take exponential time (``(a+)+$``), and Python cannot interrupt one in its own process.
    """
    if not patterns:
        return None
    try:
        child = subprocess.run(  # noqa: S603 - our own interpreter on our own program; the patterns go in as data
            [sys.executable, "-I", "-S", "-c", _CHILD],
            input=json.dumps([list(patterns), list(names)]),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"takes more than {SECONDS:g} s to match the base's module names; list the modules by name instead"
    if child.returncode == 0:
        return None
    return "is no valid regular expression; list the modules by name instead"
