"""What a remedy measured, as it travels beside the adapter that it made: findings in ``alignwatch.json``.

Nothing of it is part of the adapter's digest, and no rule reads it; a review keeps it with what the guards find. Of an
adapter that arrives the file is not even copied, so that only what a remedy here has written is ever read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from adapters.adapter import MANIFEST_NAME
from policies.findings import Finding

_FINDINGS: TypeAdapter[list[Finding]] = TypeAdapter(list[Finding])


def as_measured(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Turn findings into what :func:`adapters.rewrite.adopted` writes."""
    return [finding.model_dump(mode="json") for finding in findings]


def measured_by(folder: Path, remedy: str) -> list[Finding]:
    """Return what ``remedy`` measured of the adapter that it wrote to ``folder``; nothing where it told nothing."""
    try:
        record = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
        found = _FINDINGS.validate_python(record.get("measured", []))
    except (OSError, ValueError, AttributeError, ValidationError):
        return []
    return [finding for finding in found if finding.guard == remedy]
