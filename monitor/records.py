"""A review's own files: ``review.json`` for scripts, ``review.md`` for people."""

from __future__ import annotations

from pathlib import Path

from monitor.report.files import write_atomically
from monitor.report.markdown import review_markdown
from monitor.review import Review


def write_record(review: Review, folder: Path) -> None:
    """Write ``review.json`` and ``review.md`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(review.model_dump_json(indent=2) + "\n", folder / "review.json")
    write_atomically(review_markdown(review), folder / "review.md")
