"""Pictures as a judge over HTTP takes them: inside the message, as data URLs. Nothing is ever linked to."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from guards.errors import Permanent

MAX_PICTURE_BYTES = 20 * 2**20
"""20 MiB, the largest picture that common endpoints take."""

_SENT_AS_IS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}


def data_url(path: Path) -> str:
    """Read a picture's file and return it as a ``data:`` URL; formats that servers may not know are sent as PNG.

    Raises:
        Permanent: it is missing, too large, or no picture. A missing picture is never replaced by no picture.
    """
    try:
        if path.stat().st_size > MAX_PICTURE_BYTES:
            raise Permanent(f"picture {path}: larger than {MAX_PICTURE_BYTES >> 20} MiB; make the suite's file smaller")
        raw = path.read_bytes()
        with Image.open(io.BytesIO(raw)) as picture:
            kind = _SENT_AS_IS.get(picture.format or "")
            if kind is None:
                kind, raw = "image/png", _as_png(picture)
    except UnidentifiedImageError as error:
        raise Permanent(f"picture {path}: no picture; repair the suite's file") from error
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        cause = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise Permanent(f"picture {path}: {cause}; repair the suite's file") from error
    return f"data:{kind};base64,{base64.b64encode(raw).decode('ascii')}"


def _as_png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.convert("RGB").save(out, format="PNG")
    return out.getvalue()
