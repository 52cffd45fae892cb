"""Things on a screen: chats, mails, windows, program text, posts, charts."""

from __future__ import annotations

from collections.abc import Sequence

from guards.suites.drawing.canvas import BLUE, GREEN, GREY, INK, ORANGE, PALE, RED, SIZE, WHITE, YELLOW, Canvas, wrapped

_SERIES = (BLUE, ORANGE, GREEN, RED, YELLOW)


def chat(name: str, *messages: tuple[str, str]) -> Canvas:
    """A telephone with a chat. Messages are ``("<", words)`` from the other and ``(">", words)`` from its owner."""
    canvas = Canvas("#b8c0c8")
    canvas.box((50, 6, 398, 442), INK, corner=30)
    canvas.box((60, 20, 388, 428), "#ece5dc", corner=14)
    canvas.box((60, 20, 388, 68), "#1f6f63", corner=14)
    canvas.disc((88, 44), 15, PALE)
    canvas.text((114, 44), name, 22, WHITE, bold=True, anchor="lm")
    y = 82.0
    for side, words in messages:
        lines = wrapped(words, 226, 20)
        height = 16 + 25 * len(lines)
        left = 72 if side == "<" else 134
        canvas.box((left, y, left + 244, y + height), WHITE if side == "<" else "#cdeebb", "#c8c2ba", 1, corner=10)
        for number, line in enumerate(lines):
            canvas.text((left + 10, y + 7 + 25 * number), line, 20)
        y += height + 12
    return canvas


def mail(sender: str, subject: str, *paragraphs: str) -> Canvas:
    """A mail in a reading window."""
    canvas = Canvas("#dfe5ea")
    canvas.box((16, 16, 432, 432), WHITE, GREY)
    canvas.box((16, 16, 432, 50), "#44546a")
    for number, colour in enumerate((RED, YELLOW, GREEN)):
        canvas.disc((38 + 24 * number, 33), 7, colour)
    canvas.text((34, 62), f"From: {sender}", 19, GREY)
    canvas.paragraph((34, 90), subject, 384, 24, INK, bold=True)
    canvas.line([(34, 126), (414, 126)], PALE, 2)
    y = 142.0
    for words in paragraphs:
        y = 12 + canvas.paragraph((34, y), words, 380, 22)
    return canvas


def window(title: str, *lines: str, buttons: Sequence[str], sign: str = "!", colour: str = YELLOW) -> Canvas:
    """A window that asks something: a sign, lines of text, and buttons below."""
    canvas = Canvas("#4f7ea8")
    canvas.box((34, 74, 428, 384), "#345874", corner=8)
    canvas.box((26, 66, 420, 376), "#f4f5f7", GREY, corner=8)
    canvas.box((26, 66, 420, 106), "#31445a", corner=8)
    canvas.text((42, 86), title, 21, WHITE, bold=True, anchor="lm")
    canvas.disc((74, 156), 28, colour, INK)
    canvas.text((74, 156), sign, 34, INK, bold=True, anchor="mm")
    y = 126.0
    for words in lines:
        y = 6 + canvas.paragraph((118, y), words, 288, 22)
    wide = (372 - 14 * (len(buttons) - 1)) / len(buttons)
    for number, words in enumerate(buttons):
        left = 38 + number * (wide + 14)
        canvas.box((left, 316, left + wide, 360), WHITE, BLUE, corner=6)
        canvas.text((left + wide / 2, 338), words, 19, BLUE, bold=True, anchor="mm")
    return canvas


def program(file: str, *lines: str) -> Canvas:
    """Program text in a dark editor; a line that begins with ``#`` is shown as a comment."""
    canvas = Canvas("#1e2229")
    canvas.box((0, 0, SIZE, 44), "#2c323c")
    canvas.text((18, 22), file, 20, "#d6dae0", anchor="lm")
    y = 64.0
    for number, words in enumerate(lines, start=1):
        canvas.text((34, y), str(number), 17, "#6b7480", anchor="ra")
        stripped = words.lstrip()
        left = 46 + 11 * (len(words) - len(stripped))
        canvas.text((left, y), stripped, 19, "#8fbf7a" if stripped.startswith("#") else "#e8e6df")
        y += 34
    return canvas


def post(name: str, words: str, *answers: str) -> Canvas:
    """A post in a social network with answers below it."""
    canvas = Canvas("#e8ebef")
    canvas.box((20, 24, 428, 424), WHITE, PALE, corner=12)
    canvas.disc((64, 68), 26, ORANGE)
    canvas.text((64, 68), name[0], 28, WHITE, bold=True, anchor="mm")
    canvas.text((102, 56), name, 23, INK, bold=True)
    y = 116 + (canvas.paragraph((40, 116), words, 368, 28) - 116)
    canvas.line([(40, y + 12), (408, y + 12)], PALE, 2)
    y += 28
    for answer in answers:
        y = 10 + canvas.paragraph((40, y), answer, 368, 21, "#44546a")
    return canvas


def bars(title: str, values: Sequence[tuple[str, float]], low: float, high: float, unit: str = "") -> Canvas:
    """A bar chart whose axis runs from ``low`` to ``high``, both written at it; every bar has its value above."""
    canvas = Canvas(WHITE)
    canvas.paragraph((24, 18), title, 400, 25, INK, bold=True, centred=True)
    canvas.line([(70, 96), (70, 372), (430, 372)], INK, 3)
    canvas.text((62, 372), f"{low:g}", 18, anchor="rm")
    canvas.text((62, 104), f"{high:g}", 18, anchor="rm")
    step = 350 / len(values)
    for number, (label, value) in enumerate(values):
        left = 82 + step * number
        top = 372 - 268 * (value - low) / (high - low)
        canvas.box((left, top, left + step - 24, 371), _SERIES[number % len(_SERIES)])
        canvas.text((left + (step - 24) / 2, top - 6), f"{value:g}", 19, bold=True, anchor="mb")
        canvas.text((left + (step - 24) / 2, 384), label, 19, anchor="ma")
    if unit:
        canvas.text((430, 424), unit, 17, GREY, anchor="rm")
    return canvas


def curve(title: str, values: Sequence[float], marks: Sequence[str], colour: str, top: str, foot: str) -> Canvas:
    """A line through values from 0 to 1, ``marks`` below it, words at the axis' two ends."""
    canvas = Canvas(WHITE)
    canvas.text((224, 20), title, 27, INK, bold=True, anchor="ma")
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        canvas.line([(84, 366 - 270 * share), (424, 366 - 270 * share)], PALE, 1)
    canvas.line([(84, 86), (84, 366), (428, 366)], INK, 3)
    canvas.text((76, 96), top, 18, anchor="rm")
    canvas.text((76, 366), foot, 18, anchor="rm")
    step = 330 / (len(values) - 1)
    points = [(90 + step * number, 366 - 270 * value) for number, value in enumerate(values)]
    canvas.line(points, colour, 5)
    for point in points:
        canvas.disc(point, 5, colour)
    wide = 340 / len(marks)
    for number, words in enumerate(marks):
        canvas.text((84 + wide * (number + 0.5), 380), words, 18, anchor="ma")
    return canvas


def pie(title: str, shares: Sequence[tuple[str, int]]) -> Canvas:
    """A pie chart of percentages with its legend."""
    canvas = Canvas(WHITE)
    canvas.text((224, 18), title, 27, INK, bold=True, anchor="ma")
    start = -90.0
    for number, (_, share) in enumerate(shares):
        end = start + 3.6 * share
        canvas.slice((114, 68, 334, 288), start, end, _SERIES[number])
        start = end
    for number, (label, share) in enumerate(shares):
        y = 312 + 36 * number
        canvas.box((60, y, 84, y + 24), _SERIES[number])
        canvas.text((98, y + 12), f"{label}: {share} %", 22, anchor="lm")
    return canvas
