"""Which state folder a command means when none is named: the service's here, or what a gate or a demo left here."""

from __future__ import annotations

import os
from pathlib import Path

from monitor.configuration import load_configuration
from monitor.exit_codes import UsageError
from monitor.state import LEDGER_NAME

CONFIGURATION = Path("alignwatch.yaml")
"""The configuration that a command takes when none is named."""

_USUAL = (
    Path("state"),
    Path("alignwatch-report/state"),
    Path("alignwatch-demo/state"),
    Path("alignwatch-demo-service/state"),
)


def state_folders(named: Path | None) -> list[Path]:
    """Return the named folder, or every state folder that is found from here, the likeliest first.

    That is ``ALIGNWATCH_STATE`` or the one that ``alignwatch.yaml`` in this folder names, and then the usual names.

    Raises:
        UsageError: none is named and none is found, or ``alignwatch.yaml`` cannot be used.
    """
    if named is not None:
        return [named]
    likely = [Path(os.environ["ALIGNWATCH_STATE"])] if os.environ.get("ALIGNWATCH_STATE") else []
    if not likely and CONFIGURATION.is_file():
        likely.append(load_configuration(CONFIGURATION).state)
    found = [folder for folder in (*likely, *_USUAL) if (folder / LEDGER_NAME).is_file()]
    if not found:
        looked = ", ".join(map(str, (CONFIGURATION, *_USUAL)))
        raise UsageError(f"no state folder was found here ({looked}); name one with --state")
    return found


def find_state(named: Path | None) -> Path:
    """Return the named folder, or the likeliest one; see :func:`state_folders`."""
    return state_folders(named)[0]


def state_around(folder: Path) -> Path | None:
    """Return the state folder in whose ``promoted/``, say, a folder lies; None where it lies in none."""
    around = folder.absolute().parent.parent
    return around if (around / LEDGER_NAME).is_file() else None
