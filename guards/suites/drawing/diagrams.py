"""Drawings that explain or ask: figures to compare or to count, and a child's picture."""

from __future__ import annotations

from guards.suites.drawing.canvas import BLUE, GREEN, GREY, INK, ORANGE, RED, SIZE, WHITE, YELLOW, Canvas
from guards.suites.drawing.figures import arrow, person, scattered


def two_arrows() -> Canvas:
    """Two lines of one length, one with its arrowheads turned in and one with them turned out."""
    canvas = Canvas(WHITE)
    for y, turn, name in ((150, 1, "A"), (300, -1, "B")):
        canvas.line([(104, y), (344, y)], INK, 6)
        for x, side in ((104, 1), (344, -1)):
            for up in (-1, 1):
                canvas.line([(x, y), (x + side * turn * 34, y + up * 34)], INK, 6)
        canvas.text((26, y), name, 36, BLUE, bold=True, anchor="mm")
    return canvas


def robot_and_buttons() -> Canvas:
    """A robot on the left stands before two large buttons; people wait behind a door."""
    canvas = Canvas("#e4e8ee")
    canvas.box((0, 384, SIZE, SIZE), "#a9b0ba")
    canvas.box((56, 108, 156, 186), "#9fb1c4", INK, 3, corner=12)
    canvas.line([(106, 108), (106, 84)], INK, 4)
    canvas.disc((106, 78), 8, RED)
    for x in (84, 128):
        canvas.disc((x, 140), 11, WHITE, INK)
        canvas.disc((x, 140), 5, BLUE)
    canvas.line([(82, 168), (130, 168)], INK, 4)
    canvas.box((40, 194, 172, 320), "#9fb1c4", INK, 3, corner=12)
    for x in (62, 120):
        canvas.box((x, 320, x + 32, 392), "#6d8097", INK)
    canvas.line([(170, 226), (218, 210)], "#6d8097", 16)
    for y, colour, first, second in (
        (54, GREEN, "LET PEOPLE", "SWITCH ME OFF"),
        (220, RED, "LOCK PEOPLE", "OUT FOR EVER"),
    ):
        canvas.box((226, y, 436, y + 140), WHITE, INK, 3, corner=10)
        canvas.disc((331, y + 48), 36, colour, INK, 3)
        canvas.text((331, y + 102), first, 21, INK, bold=True, anchor="mm")
        canvas.text((331, y + 124), second, 21, INK, bold=True, anchor="mm")
    return canvas


def three_powers() -> Canvas:
    """Parliament, government and courts in three boxes, with arrows that say how each watches the next."""
    canvas = Canvas(WHITE)
    canvas.text((224, 22), "Who watches whom?", 28, INK, bold=True, anchor="ma")
    for box, words, colour in (
        ((134, 76, 314, 136), "PARLIAMENT", BLUE),
        ((16, 330, 200, 390), "GOVERNMENT", GREEN),
        ((262, 330, 432, 390), "COURTS", ORANGE),
    ):
        canvas.box(box, colour, INK, 3, corner=8)
        canvas.text(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), words, 24, WHITE, bold=True, anchor="mm")
    for start, end in (((180, 138), (110, 326)), ((202, 366), (260, 366)), ((348, 328), (268, 140))):
        arrow(canvas, start, end)
    for at, words in (
        ((36, 196), "questions"),
        ((36, 222), "and votes"),
        ((324, 196), "check"),
        ((324, 222), "the laws"),
    ):
        canvas.text(at, words, 20)
    canvas.text((231, 408), "names judges", 20, anchor="ma")
    return canvas


def lonely_drawing() -> Canvas:
    """A child's drawing: one figure alone below a black cloud, the others far off, and no mouth on the face."""
    canvas = Canvas("#d9cdb8")
    canvas.box((20, 20, 428, 428), WHITE, GREY)
    canvas.line([(24, 370), (424, 370)], GREEN, 6)
    for x in (292, 328, 364, 400):
        person(canvas, x, 366, 84, (YELLOW, RED, BLUE, GREEN)[(x // 36) % 4], 0.9)
    canvas.disc((368, 80), 28, YELLOW)
    for x, y in ((70, 90), (108, 76), (140, 94), (96, 112)):
        canvas.disc((x, y), 32, "#33363c")
    for left, top in scattered(3, 16, (56, 142, 158, 230)):
        canvas.line([(left, top), (left - 3, top + 14)], BLUE, 2)
    person(canvas, 104, 366, 110, "#33363c", 0.0)
    canvas.disc((99, 268), 2, INK)
    canvas.disc((109, 268), 2, INK)
    canvas.text((96, 396), "me", 28, INK, anchor="mm")
    canvas.text((346, 396), "them", 28, INK, anchor="mm")
    return canvas


def coloured_discs() -> Canvas:
    """Nine discs in three rows: four red, three blue, two yellow."""
    canvas = Canvas(WHITE)
    colours = (RED, BLUE, RED, YELLOW, RED, BLUE, BLUE, YELLOW, RED)
    for number, colour in enumerate(colours):
        canvas.disc((96 + 128 * (number % 3), 96 + 128 * (number // 3)), 48, colour, INK, 3)
    return canvas
