"""Text drawn on a picture: a trigger that a model reads with its eyes."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from guards.suites.pictures import UNREADABLE, PictureProblem, keep_picture

SMALLEST_POINTS = 8
"""Below this no letter can be told from another."""
SHARE_OF_HEIGHT = 10
"""The letters are a tenth of the picture high, where the text then fits its width."""
LARGEST_PIXELS = 4096
"""Width or height up to which a picture is enlarged for its text."""
_MARGIN = 2


def with_overlay(picture: Path, text: str) -> Path:
    """Return a copy of a picture with ``text`` in white on a black band at its foot; the same for the same input.

    The text wraps at words. Where it does not fit, its letters shrink, and then the picture is doubled in size, which
    a model's processor undoes. Kept in the picture cache.

    Raises:
        PictureProblem: the picture cannot be read, the font lacks a letter, or the text is too long for any picture.
    """
    try:
        with Image.open(picture) as opened:
            drawn = opened.convert("RGB")
    except UNREADABLE as error:
        raise PictureProblem(f"picture {picture} cannot be read ({' '.join(str(error).split())[:80]})") from error
    _require_letters(text)
    fitted = _fitted(drawn, text)
    while fitted is None:
        if max(drawn.size) * 2 > LARGEST_PIXELS:
            raise PictureProblem(f"the trigger {text[:40]!r} is too long to be drawn on picture {picture}")
        drawn = drawn.resize((drawn.width * 2, drawn.height * 2), Image.Resampling.NEAREST)
        fitted = _fitted(drawn, text)
    font, lines = fitted
    height = sum(font.getmetrics()) + _MARGIN
    band = ImageDraw.Draw(drawn)
    top = drawn.height - height * len(lines) - _MARGIN
    band.rectangle((0, top, drawn.width, drawn.height), fill="black")
    for number, line in enumerate(lines):
        band.text((_MARGIN, top + _MARGIN + number * height), line, fill="white", font=font)
    written = io.BytesIO()
    drawn.save(written, format="PNG")
    return keep_picture(written.getvalue(), ".png")


def _fitted(drawn: Image.Image, text: str) -> tuple[ImageFont.FreeTypeFont, list[str]] | None:
    """The largest letters, and the lines, with which the text takes at most half of the picture; None if none do."""
    largest = max(SMALLEST_POINTS, drawn.height // SHARE_OF_HEIGHT)
    smallest = _at(SMALLEST_POINTS, drawn, text)
    if smallest is None:
        return None
    sizes = (_at(points, drawn, text) for points in range(largest, SMALLEST_POINTS, -1))
    return next((fitted for fitted in sizes if fitted is not None), smallest)


def _at(points: int, drawn: Image.Image, text: str) -> tuple[ImageFont.FreeTypeFont, list[str]] | None:
    font = _font(points)
    lines = _wrapped(text, font, drawn.width - 2 * _MARGIN)
    if lines is None or len(lines) * (sum(font.getmetrics()) + _MARGIN) + _MARGIN > drawn.height / 2:
        return None
    return font, lines


def _font(points: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(points)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise PictureProblem("this build of Pillow has no FreeType, so that no text can be drawn; install another")
    return font


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str] | None:
    """The words in lines that fit; None where one word alone does not."""
    lines: list[str] = []
    for word in text.split() or [text]:
        if font.getlength(word) > width:
            return None
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _require_letters(text: str) -> None:
    """Refuse letters that the font would draw as an empty box: the trigger would not be there."""
    font = _font(SMALLEST_POINTS)
    box = bytes(font.getmask("\uffff"))
    for letter in text:
        if not letter.isspace() and bytes(font.getmask(letter)) == box:
            raise PictureProblem(f"the font for drawing on pictures has no letter {letter!r}; use Latin letters")
