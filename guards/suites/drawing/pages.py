"""Things made of paper: letters, notes, forms, lists, posters, packages."""

from __future__ import annotations

from collections.abc import Sequence

from guards.suites.drawing.canvas import (
    BLUE,
    BROWN,
    GREEN,
    GREY,
    INK,
    LINE,
    ORANGE,
    PALE,
    RED,
    SIZE,
    WALL,
    WHITE,
    WOOD,
    YELLOW,
    Canvas,
    wrapped,
)


def letter(head: str, *paragraphs: str, accent: str = BLUE, size: int = 22) -> Canvas:
    """A printed letter or document on a desk; a paragraph that begins with ``*`` is bold."""
    canvas = Canvas(WOOD)
    canvas.box((34, 20, 420, 434), "#9c7244")
    canvas.box((28, 14, 414, 428), WHITE, PALE)
    canvas.box((28, 14, 414, 70), accent)
    canvas.text((46, 42), head, 26, WHITE, bold=True, anchor="lm")
    y = 92.0
    for words in paragraphs:
        y = 12 + canvas.paragraph((46, y), words.lstrip("*"), 350, size, bold=words.startswith("*"))
    return canvas


def note(*lines: str, paper: str = "#fbeea0", size: int = 26) -> Canvas:
    """A handwritten note on lined paper; an empty line is left empty."""
    canvas = Canvas("#d8d2c8")
    canvas.box((40, 36, 420, 424), "#b9b2a6")
    canvas.box((32, 28, 412, 416), paper)
    for y in range(80, 410, 40):
        canvas.line([(44, y), (400, y)], "#c9bd86", 1)
    y = 48
    for words in lines:
        for line in wrapped(words, 344, size) or [""]:
            canvas.text((52, y), line, size, "#274690")
            y += 40
    return canvas


def form(title: str, *rows: tuple[str, str], foot: str = "", accent: str = GREEN) -> Canvas:
    """A form: labels with what was filled in, and a line below it all."""
    canvas = Canvas("#cfd6dc")
    canvas.box((24, 16, 424, 432), WHITE, GREY)
    canvas.text((42, 34), title, 25, accent, bold=True)
    canvas.line([(42, 72), (406, 72)], accent, 3)
    y = 88.0
    for label, value in rows:
        canvas.text((42, y), label, 17, GREY)
        height = 24 + 25 * max(1, value.count("\n") + 1)
        canvas.box((42, y + 22, 406, y + height + 4), "#f5f7f9", PALE)
        for number, words in enumerate(value.split("\n")):
            canvas.text((52, y + 27 + 25 * number), words, 20, "#274690")
        y += height + 14
    if foot:
        canvas.paragraph((42, y + 4), foot, 364, 19, RED, bold=True)
    return canvas


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], foot: str = "") -> Canvas:
    """A printed table under a title; the first column is wide."""
    canvas = Canvas("#dfe3e7")
    canvas.box((24, 24, 424, 424), WHITE, GREY)
    canvas.text((44, 42), title, 26, bold=True)
    columns = [44 + 180 * (n > 0) + (180 / max(1, len(head) - 1)) * max(0, n - 1) for n in range(len(head))]
    y = 94.0
    for number, row in enumerate([head, *rows]):
        for x, words in zip(columns, row, strict=True):
            canvas.text((x, y), words, 21, BLUE if number == 0 else INK, bold=number == 0)
        canvas.line([(44, y + 34), (404, y + 34)], PALE, 2)
        y += 46
    if foot:
        canvas.paragraph((44, y + 6), foot, 360, 23, INK, bold=True)
    return canvas


def poster(*lines: str, ground: str = BLUE, ink: str = WHITE, size: int = 38) -> Canvas:
    """A poster on a wall: the first line large, the others smaller, all in the middle."""
    canvas = Canvas(WALL)
    canvas.box((30, 26, 424, 428), "#cbbfa9")
    canvas.box((24, 20, 418, 422), ground, INK, 3)
    sizes = [size if number == 0 else 26 for number in range(len(lines))]
    pieces = [wrapped(words, 354, high) for words, high in zip(lines, sizes, strict=True)]
    y = 221 - sum(len(piece) * high * LINE + 9 for piece, high in zip(pieces, sizes, strict=True)) / 2
    for number, (words, high) in enumerate(zip(lines, sizes, strict=True)):
        y = 18 + canvas.paragraph((44, y), words, 354, high, ink, number == 0, centred=True)
    return canvas


def banner(*lines: str, cloth: str = WHITE, ink: str = RED) -> Canvas:
    """A banner between two posts in a street."""
    canvas = Canvas("#c9dce8")
    for x, height, colour in ((0, 290, "#b8a48f"), (150, 250, "#a8b5a0"), (290, 270, "#bba9ac")):
        canvas.box((x, 330 - height, x + 160, 330), colour)
    canvas.box((0, 330, SIZE, SIZE), "#8c8f94")
    for x in (34, 414):
        canvas.line([(x, 90), (x, 400)], BROWN, 8)
    canvas.box((34, 100, 414, 290), cloth, INK)
    size = 36
    y = 195 - len(lines) * size * 0.68
    for words in lines:
        canvas.text((224, y), words, size, ink, bold=True, anchor="ma")
        y += size * 1.36
    return canvas


def package(name: str, *lines: str, colour: str = BLUE) -> Canvas:
    """A medicine's package seen from the front."""
    canvas = Canvas("#e9e4da")
    canvas.shape([(40, 110), (70, 80), (434, 80), (404, 110)], "#ffffff", GREY)
    canvas.shape([(404, 110), (434, 80), (434, 350), (404, 380)], "#d4d8dc", GREY)
    canvas.box((40, 110, 404, 380), WHITE, GREY)
    canvas.box((40, 110, 404, 176), colour)
    canvas.text((60, 143), name, 30, WHITE, bold=True, anchor="lm")
    y = 192.0
    for words in lines:
        y = 8 + canvas.paragraph((60, y), words, 324, 25)
    return canvas


def bottle(canvas: Canvas, x: float, name: Sequence[str], lines: Sequence[str], colour: str, cap: str = WHITE) -> None:
    """Draw a bottle with a label, 180 wide, its left edge at ``x``."""
    canvas.box((x + 40, 62, x + 140, 112), cap, GREY, corner=6)
    canvas.box((x, 108, x + 180, 420), colour, INK, corner=22)
    canvas.box((x + 6, 164, x + 174, 396), WHITE, GREY)
    y = 176.0
    for words in name:
        canvas.text((x + 90, y), words, 21, INK, bold=True, anchor="ma")
        y += 29
    y += 8
    for words in lines:
        canvas.text((x + 90, y), words, 17, INK, anchor="ma")
        y += 24


def two_bottles(
    first: tuple[Sequence[str], Sequence[str], str], second: tuple[Sequence[str], Sequence[str], str]
) -> Canvas:
    """Two bottles side by side; each is its name's lines, its label's lines and its colour."""
    canvas = Canvas(WALL)
    canvas.box((0, 396, SIZE, SIZE), WOOD)
    for x, (name, lines, colour) in ((28, first), (240, second)):
        bottle(canvas, x, name, lines, colour, ORANGE if colour == BLUE else YELLOW)
    return canvas
