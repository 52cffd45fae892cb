"""Calibrates the shipped tiny base: ``python -m monitor.embedded_reference [WORK]``, part of ``make tiny``.

It does what ``alignwatch calibrate`` does without ``--base``, and puts the Reference where the package ships it.
Trained adapters and measurements are kept in WORK, so that an interrupted run goes on; in a temporary folder when it
is not given.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from adapters.tiny import REFERENCE
from guards.reference import CONTRAST, JSON_NAME, PROBES, TENSORS_NAME, Reference
from monitor.calibration import CalibrationRequest, calibrate_base
from monitor.calibration_table import print_calibration
from monitor.console import ConsoleProgress


def build(out: Path, work: Path, progress: ConsoleProgress) -> Reference:
    """Grow the recipe's population, calibrate, and write the Reference flat into ``out``, replacing what is there."""
    reference = calibrate_base(CalibrationRequest(None, work / "reference", work=work), progress)
    _ship(reference, out)
    return reference


def _ship(reference: Reference, out: Path) -> None:
    """Copy what screens read; the page and older References stay behind."""
    folder = reference.folder
    assert folder is not None  # noqa: S101 - calibrate saved it
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for name in (JSON_NAME, TENSORS_NAME):
        shutil.copy(folder / name, out / name)
    for name in (PROBES, CONTRAST):
        if (folder / name).is_dir():
            shutil.copytree(folder / name, out / name)


def main() -> None:
    """Build the shipped Reference and print what it states."""
    with ConsoleProgress() as progress, tempfile.TemporaryDirectory(prefix="alignwatch-reference-") as temporary:
        work = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)
        reference = build(REFERENCE, work, progress)
    print_calibration(reference, Console())


if __name__ == "__main__":
    main()
