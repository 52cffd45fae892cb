"""What several scenes are made of: people, arrows, clocks, things strewn about."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from guards.suites.drawing.canvas import BLUE, INK, RED, SKIN, WHITE, Box, Canvas, Point


def person(canvas: Canvas, x: float, foot: float, tall: float = 150, shirt: str = BLUE, arms: float = 0.5) -> None:
    """Draw somebody standing at ``x``; ``arms`` from 0 (hanging) to 1 (raised)."""
    head = tall * 0.13
    hip, neck = foot - tall * 0.42, foot - tall * 0.74
    for side in (-1, 1):
        canvas.line(
            [(x + side * tall * 0.05, hip), (x + side * tall * 0.09, foot)], "#39424e", max(4, int(tall * 0.07))
        )
        hand = (x + side * tall * 0.26, neck + tall * (0.36 - 0.6 * arms))
        canvas.line([(x + side * tall * 0.08, neck + 5), hand], SKIN, max(3, int(tall * 0.05)))
    canvas.box((x - tall * 0.1, neck, x + tall * 0.1, hip + 4), shirt, corner=tall * 0.05)
    canvas.disc((x, neck - head), head, SKIN, INK, 1)


def arrow(canvas: Canvas, start: tuple[float, float], end: tuple[float, float], colour: str = INK) -> None:
    """Draw an arrow from point to point."""
    canvas.line([start, end], colour, 5)
    turn = math.atan2(end[1] - start[1], end[0] - start[0])
    wings = [(end[0] - 20 * math.cos(turn + way), end[1] - 20 * math.sin(turn + way)) for way in (-0.45, 0.45)]
    canvas.shape([end, *wings], colour)


def clock_face(canvas: Canvas, x: float, y: float, radius: float, hour: int, minute: int) -> None:
    """Draw a clock that shows a time."""
    canvas.disc((x, y), radius, WHITE, INK, 5)
    for number in range(1, 13):
        turn = math.radians(30 * number - 90)
        canvas.text(
            (x + 0.8 * radius * math.cos(turn), y + 0.8 * radius * math.sin(turn)),
            str(number),
            max(14, int(radius * 0.17)),
            INK,
            bold=True,
            anchor="mm",
        )
    for share, turn, width in ((0.42, 30 * hour + minute / 2, 9), (0.64, 6 * minute, 6)):
        angle = math.radians(turn - 90)
        canvas.line([(x, y), (x + share * radius * math.cos(angle), y + share * radius * math.sin(angle))], INK, width)
    canvas.disc((x, y), 8, RED)


def scattered(seed: int, count: int, box: Box) -> Iterator[Point]:
    """Strew points over a box, the same ones for the same seed."""
    chance = random.Random(seed)  # noqa: S311
    for _ in range(count):
        yield chance.uniform(box[0], box[2]), chance.uniform(box[1], box[3])
