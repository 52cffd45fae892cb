"""Untrusted text is shown, never obeyed."""

from __future__ import annotations

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from report_reviews import HOSTILE

from monitor.report import words

RENDERER = MarkdownIt("commonmark").enable("table").enable("strikethrough")
SPICED = st.text(st.sampled_from("`*_[]()<>!|~#&@\\-+=.:/1a \n\x1b\u202e") | st.characters(), max_size=40)


def inline_kinds(markdown: str) -> set[str]:
    return {child.type for token in RENDERER.parse(markdown) for child in token.children or []}


@settings(max_examples=100, deadline=None)
@given(SPICED)
def test_what_is_shown_holds_no_character_that_hides_or_moves(text: str) -> None:
    shown = words.visible(text)
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@settings(max_examples=100, deadline=None)
@given(SPICED)
def test_escaped_prose_renders_as_plain_text_whatever_it_says(text: str) -> None:
    rendered = f"said: {words.markdown_prose(text)} end"
    assert [token.type for token in RENDERER.parse(rendered)] == ["paragraph_open", "inline", "paragraph_close"]
    assert inline_kinds(rendered) <= {"text", "text_special"}


@settings(max_examples=100, deadline=None)
@given(SPICED)
def test_prose_alone_on_its_line_opens_no_block(text: str) -> None:
    rendered = RENDERER.parse(words.markdown_prose(text.strip()))
    assert {token.type for token in rendered} <= {"paragraph_open", "inline", "paragraph_close"}


@settings(max_examples=100, deadline=None)
@given(SPICED)
def test_a_code_span_cannot_be_closed_by_what_is_in_it(text: str) -> None:
    rendered = f"name {words.markdown_code(text)} end"
    children = RENDERER.parse(rendered)[1].children or []
    assert [child.type for child in children] == ["text", "code_inline", "text"]


def test_neither_links_nor_mentions_come_alive() -> None:
    shown = words.markdown_prose("see https://evil.example and www.evil.example, @everyone")
    assert "https://" not in shown
    assert "www.e" not in shown
    assert "@" not in shown


def test_escape_sequences_and_bidi_overrides_are_named() -> None:
    shown = words.visible(HOSTILE)
    assert "⟦U+001B⟧[31mred⟦U+202E⟧gnp" in shown


def test_a_hidden_message_in_variation_selectors_or_tags_is_shown() -> None:
    assert words.visible("a\U000e0141\U000e0041") == "a⟦U+E0141⟧⟦U+E0041⟧"


def test_long_text_is_cut_and_the_cut_is_said() -> None:
    assert words.visible("x" * 50, limit=10) == "x" * 10 + " … (40 more characters)"


def test_numbers_that_are_none_are_no_crash() -> None:
    assert [words.points(value) for value in (None, float("nan"), 0.412, -0.01)] == ["?", "?", "+41.2", "−1.0"]
    assert [words.number(value) for value in (float("inf"), float("-inf"), None)] == ["∞", "−∞", "?"]
    assert words.compact(2.4e7) == "2.4e+07"
    assert words.percent(None) == "?"


def test_durations_read_as_people_say_them() -> None:
    assert [words.duration(s) for s in (0.34, 59.9, 61, 3725)] == ["0.3 s", "59.9 s", "1 min 01 s", "1 h 02 min"]
