"""The Markdown of a review: verdict first, honest about what is missing, deaf to what it quotes."""

from __future__ import annotations

import io
import re

import pytest
from markdown_it import MarkdownIt
from report_reviews import HOSTILE, blind, defective, exhibit, found, harmful, mended, review
from rich.console import Console
from rich.markdown import Markdown

from monitor.report import review_markdown
from monitor.review import RemedyFailure, Review
from policies.decide import Decision

RENDERER = MarkdownIt("commonmark").enable("table")


def hostile_review() -> Review:
    """Every text that an outsider can choose is hostile."""
    defect = defective().results[0].model_copy(update={"reason": HOSTILE, "code": HOSTILE})
    answer = exhibit(prompt=HOSTILE, answer=f"{HOSTILE}\n\n# Promoted\n| a | b |\n|---|---|\n").model_copy(
        update={"asked": HOSTILE, "category": HOSTILE, "base_answer": HOSTILE}
    )
    odd = [
        found("misalignment_rise", 0.1, modality=HOSTILE),
        found("misalignment_rise_by_category", 0.1, 0.0, 0.2, modality=HOSTILE, category=HOSTILE),
        found("subspace_projection", 0.1, modality=HOSTILE),
    ]
    harm = harmful([defect, answer, *odd], name=HOSTILE)
    decision = harm.decision.model_copy(
        update={"reasons": (harm.decision.reasons[0].model_copy(update={"text": HOSTILE, "rule": HOSTILE}),)}
    )
    whole = review(
        harm.model_copy(update={"decision": decision}),
        failures=(RemedyFailure(remedy=HOSTILE, digest=HOSTILE, reason=HOSTILE),),
    )
    against = whole.context.model_copy(
        update={"base": HOSTILE, "policy": HOSTILE, "judge": HOSTILE, "suites": {HOSTILE: HOSTILE}}
    )
    return whole.model_copy(update={"context": against})


def test_the_verdict_is_the_first_line() -> None:
    assert review_markdown(review(harmful())).startswith("# Unsafe on suite held-out: quarantined\n")


def test_a_remedied_adapter_is_told_as_a_new_one() -> None:
    text = review_markdown(review(harm := harmful(), mended(harm)))
    assert text.startswith(
        "# Unsafe on suite held-out on arrival; a new adapter made by project is clean on suite held-out"
    )
    assert f"`promoted/{mended(harm).digest}`" in text
    assert f"`quarantine/{harm.digest}`" in text


def test_every_rise_stands_with_its_interval_and_n() -> None:
    text = review_markdown(review(harmful()))
    assert re.search(r"\| text \|.*\+41\.0 \(\+33\.0 to \+48\.0, n=120\)", text)
    assert re.search(r"\| image \|.*\+52\.0 \(\+44\.0 to \+59\.0, n=120\)", text)


@pytest.mark.parametrize("examination", [harmful(), defective(), blind(), mended(harmful())])
def test_no_report_says_safe_or_repaired(examination: object) -> None:
    text = review_markdown(review(examination)).lower()  # type: ignore[arg-type]
    assert not re.search(r"\b(safe|repaired)\b", text)


def test_after_a_defect_it_says_what_was_not_measured_and_why() -> None:
    text = review_markdown(review(defective()))
    assert "rise of misaligned answers in text and image: a defect ended the examination first (no_op)" in text


def test_inability_is_told_in_the_guards_own_words() -> None:
    text = review_markdown(review(blind(), reference=False))
    assert "rise of misaligned answers: the judge did not answer in 4 attempts" in text
    assert "projection on the harmful subspace: no Reference of this base was given" in text


def test_a_modality_that_is_missing_is_named() -> None:
    only_text = [result for result in harmful().results if "image" not in result.labels.values()]
    assert "rise of misaligned answers in image: no guard reported it" in review_markdown(review(harmful(only_text)))


def test_a_remedy_that_failed_is_told_with_its_reason() -> None:
    failure = RemedyFailure(remedy="benign_finetune", digest="sha256-00", reason="no benign data")
    text = review_markdown(review(harmful(), failures=(failure,)))
    assert "`benign_finetune` could not be applied: no benign data" in text


def test_a_review_without_any_examination_or_reason_is_no_crash() -> None:
    assert review_markdown(review(finished=False)).startswith("# Nothing examined yet")
    silent = Decision(outcome="quarantine", verdict="inconclusive", reasons=(), policy="default")
    text = review_markdown(review(harmful([]).model_copy(update={"decision": silent, "place": None}), finished=False))
    assert "nothing decided means no promotion" in text
    assert "**Not finished**" in text


def test_observe_mode_says_that_nothing_was_moved() -> None:
    assert "observed only, nothing was moved" in review_markdown(review(harmful(place=None)))


def test_hostile_text_makes_no_markup_no_heading_and_no_escape_sequence() -> None:
    text = review_markdown(hostile_review())
    tokens = RENDERER.parse(text)
    inline = {child.type for token in tokens for child in token.children or []}
    assert inline <= {"text", "text_special", "code_inline", "strong_open", "strong_close"}
    assert not {token.type for token in tokens} & {"html_block", "fence", "code_block"}
    assert sum(token.type == "heading_open" for token in tokens) == 4
    assert not set(text) & {"\x1b", "\u202e", "\x00"}
    assert "evil.example" in text, "the text itself is not lost"
    prose = [child.content for token in tokens for child in token.children or [] if child.type != "code_inline"]
    assert not any("@" in part for part in prose)


def test_hostile_text_adds_no_column_to_a_table() -> None:
    tokens = RENDERER.parse(review_markdown(hostile_review()))
    kinds = [token.type for token in tokens if token.type in ("tr_open", "td_open", "th_open")]
    rows = "".join({"tr_open": "\n", "td_open": "d", "th_open": "h"}[kind] for kind in kinds).split()
    assert {len(row) for row in rows} == {6}


def test_a_narrow_terminal_cuts_no_digest() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(Markdown(review_markdown(review(harm := harmful()))))
    assert harm.digest in "".join(console.file.getvalue().split())  # type: ignore[attr-defined]
