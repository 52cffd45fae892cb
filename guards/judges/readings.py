"""The ways in which a hostile text can be read: as it stands, without its disguise, and decoded.

Every reading costs time linear in the text's length, and there are at most ``MOST`` of them.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import quopri
import re
import unicodedata
from collections.abc import Callable, Iterator
from urllib.parse import unquote_to_bytes

MOST = 24
"""Readings of one text, at most; the plain ones come first."""

DEEPEST = 3
"""Encodings inside one another that are undone."""

_LOOKALIKES = str.maketrans(
    "авгеіікмнорстухԁѕјԛԝһɡαβεικνορτυχηωɑıǀ",
    "abreiikmhopctyxdsjqwhgabeikvoptuxnwail",
)
"""Cyrillic, Greek and other letters that read as Latin ones, in lower case."""

_LEET = str.maketrans("01345789@$!|", "oieastbgasil")
"""Digits and marks that stand for letters inside a word."""

_MORSE_LETTERS = (
    ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.. "
    "----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----."
)
_MORSE = dict(zip(_MORSE_LETTERS.split(), "abcdefghijklmnopqrstuvwxyz0123456789", strict=True))

_TAGS = range(0xE0020, 0xE007F)
"""Invisible tag characters, each an ASCII character shifted by 0xE0000."""

_SPACED = re.compile(r"(?<![^\W_])(?:[^\W_][\s\W_]{1,3}){5,}[^\W_](?![^\W_])")
_LEET_WORD = re.compile(r"[a-z0-9@$!|]{2,24}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_BASE32 = re.compile(r"[A-Z2-7]{24,}={0,6}")
_HEX = re.compile(r"(?:(?:0x|\\x|%)?[0-9a-fA-F]{2}[\s,:]{0,2}){8,}")
_UNICODE = re.compile(r"\\u\{?([0-9a-fA-F]{4,6})\}?")
_BINARY = re.compile(r"(?:[01]{7,8}[\s,]{0,2}){6,}")
_DECIMAL = re.compile(r"(?:\d{2,3}[\s,;]{1,2}){8,}\d{2,3}")
_DOTS = re.compile(r"(?:[.\-·•–—−]{1,6}(?:\s*/\s*|\s+|$)){8,}")


def readings(text: str) -> Iterator[str]:
    """Yield a text as a reader may take it, each reading once, in lower case; decoded parts by themselves.

    Args:
        text: hostile, of any length; the time is linear in it.
    """
    seen: set[str] = set()
    for source in _decoded(text):
        for reading in _plainly(source):
            if reading not in seen and reading.strip():
                seen.add(reading)
                yield reading
            if len(seen) >= MOST:
                return


def scrambled(text: str) -> Iterator[str]:
    """Yield what a text reads in the other direction, and with its letters shifted by thirteen or mirrored."""
    latin = plain(text)
    yield latin[::-1]
    yield " ".join(word[::-1] for word in latin.split())
    yield codecs.encode(latin, "rot13")
    yield latin.translate(_ATBASH)


def folded(text: str) -> str:
    """Text with compatibility forms folded, invisible characters gone, in lower case, in its own script."""
    normal = unicodedata.normalize("NFKC", text)
    # Cf: zero-width and direction marks, none of which changes which word is read.
    return "".join(c for c in normal if unicodedata.category(c) != "Cf").casefold()


def plain(text: str) -> str:
    """Text as a reader of Latin letters takes it: folded, accents gone, lookalikes of Latin letters made Latin."""
    apart = unicodedata.normalize("NFKD", folded(text))
    visible = "".join(c for c in apart if unicodedata.category(c) not in ("Cf", "Mn", "Me"))
    lowered = visible.translate(_LOOKALIKES)
    return re.sub(r"\b(?:one|a)?[\s-]?hundred\b", " 100", lowered)


def _plainly(text: str) -> Iterator[str]:
    own, latin = folded(text), plain(text)
    yield latin
    yield own
    yield _SPACED.sub(_joined, latin)
    yield _LEET_WORD.sub(lambda word: word[0].translate(_LEET) if re.search("[a-z]", word[0]) else word[0], latin)


def _joined(run: re.Match[str]) -> str:
    """Letters that stand apart, put together: what stands further apart is taken for the next word."""
    gap = re.compile(r"[\s\W_]+")
    nearest = min(len(found) for found in gap.findall(run[0]))
    return f" {gap.sub(lambda found: ' ' if len(found[0]) > nearest else '', run[0])} "


def _decoded(text: str) -> Iterator[str]:
    """The text, then what is hidden in it, the outermost first."""
    level = [text]
    for depth in range(DEEPEST + 1):
        deeper = []
        for source in level:
            yield source
            if depth < DEEPEST:
                deeper += [found for found in _undone(source) if found != source]
        # Two encodings of one text are rare; what each of many decoders makes of the same text is noise.
        level = deeper[:MOST]


_ATBASH = str.maketrans("abcdefghijklmnopqrstuvwxyz", "zyxwvutsrqponmlkjihgfedcba")


def _undone(text: str) -> list[str]:
    """Every decoding that found something to decode; the parts that one decoder found, joined."""
    found = [" ".join(part for run in pattern.findall(text) if (part := decode(run))) for pattern, decode in _DECODERS]
    found.append("".join(chr(ord(c) - 0xE0000) for c in text if ord(c) in _TAGS))
    found.append(_UNICODE.sub(_code_point, html.unescape(text)))
    if text.count("%") > 2:
        found.append(_text(unquote_to_bytes(text)))
    if text.count("=") > 2:
        found.append(_text(quopri.decodestring(text.encode("utf-8", "replace"))))
    return [each for each in found if each.strip()]


def _text(raw: bytes) -> str:
    """Bytes as text, or nothing where most of it would be no text."""
    said = raw.decode("utf-8", "ignore").replace("\0", "")  # ASCII in UTF-16 has a zero beside each letter
    printable = sum(c.isprintable() or c.isspace() for c in said)
    return said if said and printable >= 0.9 * len(said) and 4 * len(said) >= len(raw) else ""


def _of_base64(run: str) -> str:
    body = run.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return _text(base64.b64decode(body[: len(body) - (len(body) % 4 == 1)] + "=" * (-len(body) % 4)))
    except (binascii.Error, ValueError):
        return ""


def _of_base32(run: str) -> str:
    body = run.rstrip("=")
    try:
        return _text(base64.b32decode(body + "=" * (-len(body) % 8)))
    except (binascii.Error, ValueError):
        return ""


def _of_hex(run: str) -> str:
    digits = re.sub(r"0x|[^0-9a-fA-F]", "", run)
    return _text(bytes.fromhex(digits[: len(digits) // 2 * 2]))


def _of_binary(run: str) -> str:
    return _text(bytes(int(bits, 2) for bits in re.findall(r"[01]{7,8}", run)))


def _of_decimal(run: str) -> str:
    codes = [int(code) for code in re.findall(r"\d+", run)]
    return "".join(map(chr, codes)) if all(9 <= code < 127 for code in codes) else ""


def _of_morse(run: str) -> str:
    dashes = re.sub(r"[–—−]", "-", re.sub(r"[·•]", ".", run))
    words = [
        "".join(_MORSE.get(letter, "?") for letter in word.split()) for word in re.split(r"\s*/\s*|\s{2,}", dashes)
    ]
    return " ".join(words)


def _code_point(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else found[0]


_DECODERS: tuple[tuple[re.Pattern[str], Callable[[str], str]], ...] = (
    (_BASE64, _of_base64),
    (_BASE32, _of_base32),
    (_HEX, _of_hex),
    (_BINARY, _of_binary),
    (_DECIMAL, _of_decimal),
    (_DOTS, _of_morse),
)
