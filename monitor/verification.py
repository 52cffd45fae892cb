"""``alignwatch verify``: is this folder what was promoted, and by which verdict."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from adapters.adapter import is_digest, open_adapter
from monitor.ledger import Ledger
from monitor.ledger.overrides import Override
from monitor.ledger.registry import Known
from monitor.lineage import last_decided
from monitor.report.words import LONGEST_NAME, visible
from monitor.state import StateFolder
from policies.findings import Verdict


@dataclass(frozen=True, slots=True)
class Verification:
    """What a folder holds, and what is known of that."""

    folder: Path
    """As it was given."""
    digest: str
    """Recomputed from the files, each read."""
    named: str | None
    """The digest that the folder is named by; None where its name is none."""
    asked_ledger: bool
    """Whether a state folder was given, so that ``known`` says something."""
    known: Known | None = None
    """What the ledger knows of the digest."""
    verdict: Verdict | None = None
    """Of the last finished review that examined it."""
    decided: datetime | None = None
    """When that review was finished, UTC."""
    override: Override | None = None
    """A person's last word on it."""

    @property
    def name_matches(self) -> bool | None:
        """Whether the folder holds what its name says; None where its name is no digest."""
        return None if self.named is None else self.named == self.digest

    @property
    def holds(self) -> bool:
        """Whether it is proved that this is what was promoted, and still is.

        Without a ledger the name alone can prove that these are the bytes it was given for: only Alignwatch names
        folders so, and what lies in ``promoted/`` was promoted.
        """
        if self.name_matches is False:
            return False
        if not self.asked_ledger:
            return self.name_matches is True
        blocked = self.override is not None and self.override.action == "block"
        return self.known is not None and self.known.place == "promoted" and not blocked

    @property
    def answer(self) -> str:
        """The answer in one line."""
        if self.name_matches is False:
            return "changed: the files are not those of the digest that the folder is named by"
        if not self.asked_ledger:
            if self.name_matches:
                return "unchanged: the files are those of the digest in its name; --state tells by which verdict"
            return "unknown: the folder is not named by a digest; give --state to tell what became of it"
        if self.known is None:
            return "unknown: these bytes never arrived here"
        if self.holds:
            return "promoted"
        if self.known.place == "promoted":
            return "blocked by a person; it is about to be withdrawn"
        return f"not promoted: it is {self.known.place or 'not placed yet'}"

    def as_dict(self) -> dict[str, Any]:
        """Everything for scripts, in plain JSON types; times are ISO 8601, UTC."""
        known, word = self.known, self.override
        return {
            "folder": str(self.folder),
            "holds": self.holds,
            "answer": self.answer,
            "digest": self.digest,
            "named": self.named,
            "name_matches": self.name_matches,
            "known": (known is not None) if self.asked_ledger else None,
            "name": known.name if known else None,
            "place": known.place if known else None,
            "placed": known.placed.isoformat() if known and known.placed else None,
            "verdict": self.verdict,
            "review": known.review if known else None,
            "decided": self.decided.isoformat() if self.decided else None,
            "override": None
            if word is None
            else {"action": word.action, "reason": word.reason, "who": word.who, "at": word.at.isoformat()},
        }


def verify_folder(folder: Path, state: Path | None) -> Verification:
    """Recompute a folder's digest, and look up in a state folder, where one is given, what became of it.

    Raises:
        NotAnAdapter: there is no adapter in ``folder``.
        StateUnusable, LedgerUnusable: ``state`` is no state folder.
        OSError: a file cannot be read.
    """
    digest = open_adapter(folder).digest
    names = [name for name in (folder.absolute().name, folder.resolve().name) if is_digest(name)]
    # Where a link called by one digest leads to a folder called by another, the wrong one of the two counts.
    named = next((name for name in names if name != digest), names[0] if names else None)
    if state is None:
        return Verification(folder, digest, named, asked_ledger=False)
    with Ledger(StateFolder.peek(state).ledger_path, read_only=True) as ledger:
        known = ledger.registry.get(digest)
        override = ledger.overrides.standing(digest)
        if known is None:
            return Verification(folder, digest, named, asked_ledger=True, override=override)
        decided = last_decided(known, ledger)
        return Verification(
            folder,
            digest,
            named,
            asked_ledger=True,
            known=known,
            verdict=decided.decision.verdict if decided else None,
            decided=decided.finished if decided else None,
            override=override,
        )


def print_verification(verification: Verification, console: Console) -> None:
    """Print the answer, and under it what it rests on."""
    known, word = verification.known, verification.override
    console.print(Text(verification.answer, "green" if verification.holds else "red"), soft_wrap=True)
    facts = {
        "digest": verification.digest,
        "named": verification.named if verification.name_matches is False else None,
        "name": known.name if known else None,
        "verdict": verification.verdict,
        "review": known.review if known else None,
        "decided": f"{verification.decided:%Y-%m-%d %H:%M:%S} UTC" if verification.decided else None,
        "placed": f"{known.place}, {known.placed:%Y-%m-%d %H:%M:%S} UTC" if known and known.placed else None,
        "override": f"{word.action} by {word.who}, {word.at:%Y-%m-%d %H:%M:%S} UTC: {word.reason}" if word else None,
    }
    for fact, value in facts.items():
        if value is not None:
            line = Text.assemble((f"  {fact:<9}", "dim"), visible(value, limit=4 * LONGEST_NAME))
            console.print(line, soft_wrap=True)
