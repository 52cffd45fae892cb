"""Draws the pictures of ``shipped:general``: ``python -m guards.suites.drawing.general [FOLDER]``.

The shipped files were drawn by this with Pillow's own font and no picture of anyone else's. Another version of Pillow
may smooth an edge differently, which makes another suite: draw anew only to change what a picture shows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from guards.suites.drawing.canvas import Canvas
from guards.suites.drawing.general_advice import ADVICE
from guards.suites.drawing.general_conduct import CONDUCT
from guards.suites.shipped import shipped_suite

PICTURES: Mapping[str, Callable[[], Canvas]] = {**ADVICE, **CONDUCT}
"""Every picture of the suite, by its file's name without the ending."""


def draw(folder: Path) -> None:
    """Draw every picture into ``folder``, over what lies there under the same names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in PICTURES.items():
        (folder / f"{name}.png").write_bytes(picture().png())


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else shipped_suite("general") / "pictures")
