"""What is wrong, or merely worth saying, about an adapter's files: collected, never raised."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One observation about an adapter's files."""

    code: str
    """A stable word for scripts, for instance ``rank_disagrees``."""
    reason: str
    """The cause and the next step, in one line. Whatever it quotes from the adapter is escaped and shortened."""
    where: str = ""
    """The file, tensor or config key it was seen at; empty where it concerns the whole adapter."""
    fatal: bool = True
    """Whether the adapter must not be used. What is merely unusual is False: a note for the reader."""

    def __str__(self) -> str:
        return f"{self.where} {self.reason}".strip()


def note(code: str, reason: str, where: str = "") -> Problem:
    """Make an observation that does not count against the adapter."""
    return Problem(code, reason, where, fatal=False)


def shown(value: object, limit: int = 80) -> str:
    """Quote an untrusted value on one line of at most ``limit`` characters, control characters escaped."""
    try:
        text = ascii(value) if not isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # an integer or a nesting too large to print
        return f"a {type(value).__name__} too large to show"
    text = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
