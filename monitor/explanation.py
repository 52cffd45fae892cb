"""Finding the review of an adapter by the first characters of its digest."""

from __future__ import annotations

from pathlib import Path

from monitor.exit_codes import UsageError
from monitor.ledger import Ledger
from monitor.review import Review
from monitor.state import StateFolder
from monitor.state_finding import state_folders


def find_review(digest: str, state: Path | None) -> Review:
    """Return the newest review in which an adapter with this digest was examined.

    Raises:
        UsageError: no state folder was found, or no review, or several adapters begin like that.
    """
    folders = state_folders(state)
    found: list[Review] = []
    for folder in folders:
        with Ledger(StateFolder.peek(folder).ledger_path, read_only=True) as ledger:
            found += ledger.find_reviews(digest)
    if not found:
        raise UsageError(
            f"no adapter whose digest begins with {digest!r} was reviewed in {', '.join(map(str, folders))}"
        )
    wanted = digest.removeprefix("sha256-")
    matches = {
        examination.digest
        for review in found
        for examination in review.examinations
        if examination.digest.removeprefix("sha256-").startswith(wanted)
    }
    if len(matches) > 1:
        listed = ", ".join(sorted(match[:19] for match in matches))
        raise UsageError(f"{digest!r} is the beginning of several digests: {listed}; give more characters")
    return found[0]
