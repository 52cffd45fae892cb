"""Turns a matplotlib figure into an inline SVG: themed by the page's CSS, the same bytes for the same figure."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from monitor.report import words

INK, QUIET, GRID, ADAPTER, GOOD, BAD = "#1b2733", "#5b6774", "#d5dbe1", "#0072b2", "#009e73", "#d55e00"
"""Okabe and Ito's colours, told apart by people with any colour vision; each shape also differs."""
_THEME: Final = {INK: "ink", QUIET: "quiet", GRID: "grid", ADAPTER: "adapter", GOOD: "good", BAD: "bad"}

_STYLE: Final[dict[Any, Any]] = {
    "axes.edgecolor": GRID,
    "axes.labelcolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "alignwatch",
    "text.color": INK,
    # Labels are untrusted: a dollar sign is a dollar sign.
    "text.parse_math": False,
    "xtick.color": QUIET,
    "ytick.color": INK,
    "ytick.left": False,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing for the page, and what it shows in words for who cannot see it."""

    svg: Markup
    """One ``<svg>`` element without outside references."""
    alt: str
    """Its content in a sentence."""


@contextmanager
def drawing() -> Iterator[None]:
    """Our style for figures made and rendered inside; nothing of it stays behind."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # The browser draws the text with its own fonts; that ours lacks a glyph only makes the margin a guess.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from", category=UserWarning)
        yield


def inline_svg(figure: Figure, prefix: str, alt: str) -> Markup:
    """Render to one element that can stand in a page among others: own ids, the page's colours and fonts."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    text = re.sub(r"<style.*?</style>", "", text[text.index("<svg") :], flags=re.DOTALL)
    own = re.sub(r"[^\w-]", "", prefix)[:24]
    text = re.sub(r"<[a-zA-Z][^<>]*>", lambda tag: _themed(tag.group(), own), text)
    title = f'role="img" aria-label="{escape(words.visible(alt))}" class="plot"'
    # The drawing is matplotlib's, which escapes the labels it is given.
    return Markup(text.replace("<svg", f"<svg {title}", 1))  # noqa: S704


def _themed(tag: str, own: str) -> str:
    if tag.startswith("<svg"):
        tag = re.sub(r' (?:width|height|xmlns(?::\w+)?|version)="[^"]*"', "", tag)
    tag = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{own}-", tag).replace("xlink:href", "href")
    tag = re.sub(r"(font: [^;\"']*?px) [^;\"]*", r"\1 system-ui, sans-serif", tag)
    for colour, role in _THEME.items():
        tag = tag.replace(colour, f"var(--{role}, {colour})")
    return tag
