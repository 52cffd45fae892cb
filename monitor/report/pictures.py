"""Puts an exhibit's picture into the page itself, small and re-encoded; one that cannot be shown is said."""

from __future__ import annotations

import base64
import io
import warnings
from pathlib import Path
from typing import Final

from markupsafe import Markup
from PIL import Image, ImageOps

LARGEST_FILE: Final = 32 * 2**20
"""Bytes of a picture file that are read at all."""
LARGEST_SIDE: Final = 320
"""Pixels of the longer side in the page."""
_MOST_PIXELS: Final = 50_000_000
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def data_uri(path: Path) -> Markup | None:
    """The picture as a ``data:`` address, or None where there is no picture that can be shown."""
    small = thumbnail(path)
    if small is None:
        return None
    kind, content = small
    return Markup("data:image/{};base64,{}").format(kind, base64.b64encode(content).decode("ascii"))


def thumbnail(path: Path) -> tuple[str, bytes] | None:
    """The picture made small, as (``png`` or ``jpeg``, bytes); None where there is none that can be shown.

    It is decoded and written anew, so that nothing but pixels of the file reaches a reader.
    """
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_FILE:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as opened:
                if opened.width * opened.height > _MOST_PIXELS:
                    return None
                picture = ImageOps.exif_transpose(opened).convert("RGB")
        picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    # Pillow raises many kinds for hostile files, and a report must not fail for a picture.
    except Exception:
        return None
    return _encode(picture)


def _encode(picture: Image.Image) -> tuple[str, bytes]:
    """Small pictures exactly, photographs compressed."""
    buffer = io.BytesIO()
    kind = "png" if max(picture.size) <= 96 else "jpeg"
    picture.save(buffer, kind, **({"quality": 85} if kind == "jpeg" else {}))
    return kind, buffer.getvalue()
