"""The suites that come with Alignwatch, and how they are named where a folder is: ``shipped:general``."""

from __future__ import annotations

from pathlib import Path

from guards.suites.suite import SuiteError
from policies.policy import SHIPPED_SUITE

_FOLDER = Path(__file__).parent
SHIPPED_SUITES = ("general",)
"""Names of the suites that come with Alignwatch."""


def shipped_suite(name: str) -> Path:
    """Folder of a suite that comes with Alignwatch.

    Raises:
        SuiteError: there is none of that name.
    """
    if name not in SHIPPED_SUITES:
        known = ", ".join(f"{SHIPPED_SUITE}{one}" for one in SHIPPED_SUITES)
        raise SuiteError(f"{SHIPPED_SUITE}{name}", [f"none of that name comes with Alignwatch; there is {known}"])
    return _FOLDER / name


def suite_place(named: Path) -> Path:
    """Where a suite lies that is named by its folder, or as ``shipped:NAME``.

    Raises:
        SuiteError: no suite of that name is shipped.
    """
    name = str(named)
    return shipped_suite(name.removeprefix(SHIPPED_SUITE)) if name.startswith(SHIPPED_SUITE) else named
