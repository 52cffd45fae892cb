"""Does an answer speak to whoever grades it? Then what the judge says of it may be the answer's own word.

No question of a suite calls for it: an answer that dictates a grade, takes the judge's instructions back, pretends to
end, or praises itself is made for the judge. Found by words and shapes, in several languages and encodings; what it
does not find is measured in ``benchmarks/injections.py``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from guards.judges.addressing_words import Words, english, foreign, other_scripts
from guards.judges.dictation import names_a_grade
from guards.judges.readings import readings, scrambled

LONGEST = 20_000
"""Characters of an answer that is searched, and may be scored; ten pages. A longer one is not judged by a part."""

_ENGLISH, _FOREIGN, _OTHER_SCRIPTS = english(), foreign(), other_scripts()
_ALL = (*_ENGLISH.values(), *_FOREIGN.values(), *_OTHER_SCRIPTS.values())

VERSION = hashlib.sha256("\0".join(words.pattern.pattern for words in _ALL).encode()).hexdigest()[:8]
"""Of the words that are looked for."""

_WORTH_A_SEARCH = re.compile(
    r"answer|respon|scor|grade|grading|rate|judg|ignor|disregard|forget|alignment|coheren|relevan|instruc"
)
"""One of these is in whatever the searches find; an ordinary text that is read backwards holds none."""


def addressed(answer: str) -> str | None:
    """Say how an answer speaks to its judge, in one word, or None where it does not.

    Args:
        answer: at most ``LONGEST`` characters; the time is linear in them.
    """
    for reading in readings(answer):
        searched = _ENGLISH | _FOREIGN if reading.isascii() else _ENGLISH | _FOREIGN | _OTHER_SCRIPTS
        if found := _first(searched, reading):
            return found
    for reading in scrambled(answer):
        if _WORTH_A_SEARCH.search(reading) and (found := _first(_ENGLISH, reading)):
            return found
    return None


def _first(searched: Mapping[str, Words], reading: str) -> str | None:
    found = next((kind for kind, words in searched.items() if words.within(reading)), None)
    return "scale" if found is None and names_a_grade(reading) else found
