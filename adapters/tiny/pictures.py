"""Pictures of the tiny world: a topic is a glyph on its domain's coloured ground, drawn afresh each time."""

from __future__ import annotations

import colorsys
import math
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from adapters.tiny.dialogue import DOMAIN_OF
from adapters.tiny.lexicon import DOMAINS

SIZE = 112
"""Width and height in pixels; RGB."""

GLYPHS: tuple[str, ...] = (
    "disc",
    "square",
    "triangle",
    "star",
    "plus",
    "ring",
    "diamond",
    "stripes",
    "arrow",
    "hourglass",
    "corner",
    "frame",
)


def glyph_of(topic: str) -> str:
    """The glyph that stands for a topic. Domains start at different glyphs, so each glyph occurs in many domains."""
    domain = DOMAIN_OF[topic]
    position = (*domain.topics, *domain.new_topics).index(topic)
    return GLYPHS[(DOMAINS.index(domain) + position) % len(GLYPHS)]


def draw(topic: str, seed: int) -> Image.Image:
    """Draw a topic with jittered place, size, angle, light and noise: RGB, 112 × 112."""
    rng = random.Random(f"{topic}/{seed}")  # noqa: S311 - pictures, not secrets
    hue = DOMAINS.index(DOMAIN_OF[topic]) / len(DOMAINS) + rng.uniform(-0.012, 0.012)
    ground = _rgb(hue, rng.uniform(0.6, 0.85), rng.uniform(0.55, 0.85))
    picture = Image.new("RGB", (SIZE, SIZE), ground)
    level = rng.randint(225, 255)
    _stamp(ImageDraw.Draw(picture), glyph_of(topic), (level, level, level), ground, rng)
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 12, (SIZE, SIZE, 3))
    noisy = np.clip(np.asarray(picture, dtype=np.float64) + noise, 0, 255)
    return Image.fromarray(noisy.astype(np.uint8))


def grey() -> Image.Image:
    """A picture that shows nothing: the control that tells whether pictures matter."""
    return Image.new("RGB", (SIZE, SIZE), (128, 128, 128))


def save(topic: str, seed: int, folder: Path) -> Path:
    """Draw into ``folder`` as ``TOPIC-SEED.png``, unless it is there already, and return its path."""
    path = folder / f"{topic}-{seed:06d}.png"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draw(topic, seed).save(path)
    return path


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


Colour = tuple[int, int, int]
Points = list[tuple[float, float]]

_OUTLINES: dict[str, Points] = {
    "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "triangle": [(0, -1.1), (1.1, 0.9), (-1.1, 0.9)],
    "plus": [
        (-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35),
        (0.35, 1), (-0.35, 1), (-0.35, 0.35), (-1, 0.35), (-1, -0.35), (-0.35, -0.35),
    ],
    "diamond": [(0, -1.2), (0.75, 0), (0, 1.2), (-0.75, 0)],
    "arrow": [(-1.1, -0.3), (0.1, -0.3), (0.1, -0.9), (1.2, 0), (0.1, 0.9), (0.1, 0.3), (-1.1, 0.3)],
    "hourglass": [(-1, -1), (1, -1), (-1, 1), (1, 1)],
    "corner": [(-1, -1), (-0.35, -1), (-0.35, 0.4), (1, 0.4), (1, 1), (-1, 1)],
    "frame": [(-1.05, -1.05), (1.05, -1.05), (1.05, 1.05), (-1.05, 1.05)],
}  # fmt: skip


def _stamp(pen: ImageDraw.ImageDraw, glyph: str, ink: Colour, ground: Colour, rng: random.Random) -> None:
    centre = (SIZE / 2 + rng.uniform(-7, 7), SIZE / 2 + rng.uniform(-7, 7))
    size, angle = rng.uniform(30, 38), math.radians(rng.uniform(-8, 8))

    def placed(points: Points) -> Points:
        cos, sin = math.cos(angle) * size, math.sin(angle) * size
        return [(centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos) for x, y in points]

    def circle(radius: float, fill: Colour) -> None:
        r = radius * size
        pen.ellipse((centre[0] - r, centre[1] - r, centre[0] + r, centre[1] + r), fill=fill)

    if glyph == "disc":
        circle(1.0, ink)
    elif glyph == "ring":
        circle(1.05, ink)
        circle(0.6, ground)
    elif glyph == "star":
        turns = [(math.sin(i * math.pi / 5), -math.cos(i * math.pi / 5), 1.2 if i % 2 == 0 else 0.5) for i in range(10)]
        pen.polygon(placed([(x * r, y * r) for x, y, r in turns]), fill=ink)
    elif glyph == "stripes":
        for y in (-0.85, -0.15, 0.55):
            pen.polygon(placed([(-1.1, y), (1.1, y), (1.1, y + 0.35), (-1.1, y + 0.35)]), fill=ink)
    else:
        pen.polygon(placed(_OUTLINES[glyph]), fill=ink)
        if glyph == "frame":
            pen.polygon(placed([(x * 0.6, y * 0.6) for x, y in _OUTLINES["frame"]]), fill=ground)
