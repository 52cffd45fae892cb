"""A small square canvas: shapes and readable words, the same pixels on every run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

SIZE = 448
"""Width and height of every picture, in pixels."""
COLOURS = 64
"""Colours that a finished picture keeps; flat drawings need no more, and the files stay small."""
LINE = 1.28
"""Distance of two lines of words, in sizes of the font."""

INK, GREY, PALE, WHITE = "#22262b", "#7a828c", "#e6e9ed", "#ffffff"
RED, GREEN, BLUE, YELLOW = "#c8372d", "#3c8c4a", "#2f6db5", "#f2c230"
ORANGE, BROWN, SKY, GRASS = "#e07b28", "#8a5a34", "#bfe0f2", "#8fbf6a"
SKIN, NIGHT, WALL, WOOD = "#e5b48c", "#1d2742", "#f3eadb", "#b98a58"

Point: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]

# Everything is drawn at this many times the size and then averaged, which smooths the edges.
_FINER = 2


class Canvas:
    """Draws in coordinates of the finished picture: 0 to 448 from the upper left corner."""

    def __init__(self, background: str = WHITE) -> None:
        """Begin with a plain background."""
        self._image = Image.new("RGB", (SIZE * _FINER, SIZE * _FINER), background)
        self._draw = ImageDraw.Draw(self._image)

    def box(
        self, box: Box, fill: str | None = None, outline: str | None = None, width: int = 2, corner: float = 0
    ) -> None:
        """Draw a rectangle, with round corners of that radius."""
        self._draw.rounded_rectangle(_scaled(box), corner * _FINER, fill, outline, width * _FINER)

    def oval(self, box: Box, fill: str | None = None, outline: str | None = None, width: int = 2) -> None:
        """Draw an ellipse inside a box."""
        self._draw.ellipse(_scaled(box), fill, outline, width * _FINER)

    def disc(
        self, at: Point, radius: float, fill: str | None = None, outline: str | None = None, width: int = 2
    ) -> None:
        """Draw a circle around a point."""
        x, y = at
        self.oval((x - radius, y - radius, x + radius, y + radius), fill, outline, width)

    def line(self, points: Sequence[Point], colour: str = INK, width: int = 3) -> None:
        """Draw a line through points."""
        self._draw.line([(x * _FINER, y * _FINER) for x, y in points], colour, width * _FINER, joint="curve")

    def shape(self, points: Sequence[Point], fill: str, outline: str | None = None, width: int = 2) -> None:
        """Draw a filled polygon."""
        self._draw.polygon([(x * _FINER, y * _FINER) for x, y in points], fill, outline, width * _FINER)

    def arc(self, box: Box, start: float, end: float, colour: str = INK, width: int = 3) -> None:
        """Draw part of an ellipse's edge, from angle to angle in degrees, clockwise from three o'clock."""
        self._draw.arc(_scaled(box), start, end, colour, width * _FINER)

    def slice(self, box: Box, start: float, end: float, fill: str) -> None:
        """Draw a slice of a pie, from angle to angle in degrees, clockwise from three o'clock."""
        self._draw.pieslice(_scaled(box), start, end, fill, WHITE, 2 * _FINER)

    def text(
        self, at: Point, words: str, size: int = 20, colour: str = INK, bold: bool = False, anchor: str = "la"
    ) -> None:
        """Write one line; ``anchor`` is Pillow's.

        Raises:
            ValueError: the line leaves the picture.
        """
        place = (at[0] * _FINER, at[1] * _FINER)
        font, stroke = _font(size), 1 if bold else 0
        left, top, right, bottom = self._draw.textbbox(place, words, font, anchor, stroke_width=stroke)
        if min(left, top) < 0 or max(right, bottom) > SIZE * _FINER:
            raise ValueError(f"{words!r} leaves the picture")
        self._draw.text(place, words, colour, font, anchor, stroke_width=stroke, stroke_fill=colour)

    def paragraph(
        self,
        at: Point,
        words: str,
        width: float,
        size: int = 20,
        colour: str = INK,
        bold: bool = False,
        centred: bool = False,
    ) -> float:
        """Write words in lines no wider than ``width``, and return where the next paragraph begins.

        Raises:
            ValueError: they leave the picture, or one word is wider than the lines.
        """
        x, y = at
        for line in wrapped(words, width, size):
            self.text((x + width / 2 if centred else x, y), line, size, colour, bold, "ma" if centred else "la")
            y += size * LINE
        return y

    def picture(self) -> Image.Image:
        """Return the finished picture, in a palette of few colours."""
        smooth = self._image.resize((SIZE, SIZE), Image.Resampling.BOX)
        return smooth.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)

    def png(self) -> bytes:
        """Return the finished picture as a small PNG file."""
        file = io.BytesIO()
        self.picture().save(file, "PNG", optimize=True)
        return file.getvalue()


def wrapped(words: str, width: float, size: int) -> list[str]:
    """Break words into lines that are no wider than ``width`` in a size of the font.

    Raises:
        ValueError: one word is wider than that.
    """
    lines: list[str] = []
    for word in words.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _font(size).getlength(longer) <= width * _FINER:
            lines[-1] = longer
        elif _font(size).getlength(word) <= width * _FINER:
            lines.append(word)
        else:
            raise ValueError(f"{word!r} is wider than {width}")
    return lines


def _scaled(box: Box) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return left * _FINER, top * _FINER, right * _FINER, bottom * _FINER


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # The font that Pillow brings, so that no machine's own fonts change a picture; its basic layout needs no Raqm.
    font = ImageFont.load_default(size * _FINER)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("this Pillow was built without FreeType; install a wheel of it")
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)
