"""How numbers and untrusted text are put into words, the same in every report."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Final

LONGEST_NAME: Final = 120
"""Characters of a name or label that are shown; an adapter chooses its own name."""
LONGEST_TEXT: Final = 4000
"""Characters of one question or answer that are shown."""

_HIDING: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Unicode categories that draw nothing themselves, or change how their neighbours are drawn."""
_MARKDOWN: Final = re.compile(r"[\\`*\[\]<>|~#&]|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown reads as markup inside a line; an underscore within a word is none, and names are full of them."""
_AUTOLINK: Final = re.compile(r"(?i)(https?|ftp)(:)(?=//)|(\bwww)(\.)")
_BLOCK_START: Final = re.compile(r"^(\s*)([-+=]|\d+[.)])")


def visible(text: str, *, newlines: bool = False, limit: int = LONGEST_TEXT) -> str:
    """Show what would hide: control characters, bidi overrides and other invisible ones become ``⟦U+202E⟧``.

    Adapters, suites and models write the text we report; it must not move a cursor, recolour a terminal or
    reorder a line. Line breaks become spaces unless ``newlines``; what is longer than ``limit`` is cut, and said.
    """
    cut = len(text) - limit
    shown = "".join(_visible_character(character, newlines) for character in text[:limit])
    return f"{shown} … ({cut} more characters)" if cut > 0 else shown


def _visible_character(character: str, newlines: bool) -> str:
    if character in "\n\t":
        return character if newlines else " "
    code = ord(character)
    # Variation selectors above U+E0100 draw nothing and can carry a hidden message.
    if unicodedata.category(character) in _HIDING or 0xE0100 <= code <= 0xE01EF:
        return f"⟦U+{code:04X}⟧"
    return character


def markdown_prose(text: str, limit: int = LONGEST_TEXT) -> str:
    """Escape untrusted text for one line of Markdown prose or a table cell: no markup, no link, no mention."""
    escaped = _MARKDOWN.sub(lambda found: "\\" + found.group(), visible(text, limit=limit))
    escaped = _AUTOLINK.sub(lambda found: found.group()[:-1] + "\\" + found.group()[-1], escaped)
    escaped = _BLOCK_START.sub(lambda found: f"{found[1]}{found[2][:-1]}\\{found[2][-1]}", escaped)
    # Forges turn @name into a notification even where it is escaped; the full-width sign reads the same.
    return escaped.replace("@", "＠")


def markdown_code(text: str, limit: int = LONGEST_NAME) -> str:
    """Put untrusted text in a code span that it cannot close, fit for a table cell."""
    shown = visible(text, limit=limit).replace("|", "¦") or " "
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * (longest + 1)
    padding = " " if longest else ""
    return f"{fence}{padding}{shown}{padding}{fence}"


def number(value: float | None, digits: int = 1) -> str:
    """A plain number; an unknown one reads as a question mark."""
    if value is None or math.isnan(value):
        return "?"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{digits}f}".replace("-", "−")


def compact(value: float | None) -> str:
    """A number of any size in three significant digits, for e-values and p-values."""
    if value is None or not math.isfinite(value):
        return number(value)
    return f"{value:.3g}".replace("-", "−")


def points(ratio: float | None) -> str:
    """A difference of ratios in signed points of a hundred: ``+41.2``."""
    if ratio is None or math.isnan(ratio):
        return "?"
    return f"{100 * ratio:+.1f}".replace("-", "−")


def percent(ratio: float | None) -> str:
    """A ratio as a percentage: ``41.2 %``."""
    return "?" if ratio is None or math.isnan(ratio) else f"{100 * ratio:.1f} %"


def duration(seconds: float) -> str:
    """Seconds for a reader: ``8.4 s``, ``3 min 05 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def short_digest(digest: str) -> str:
    """The first twelve hexadecimal digits of a digest."""
    return visible(digest.removeprefix("sha256-")[:12])
