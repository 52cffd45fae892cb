"""The page of a Reference stands alone, tells every figure that was stated, and obeys no name that it quotes."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from reference_facts_built import built_facts
from report_reviews import HOSTILE
from test_report_html import Page

from guards.reference_facts import Curves, Facts, Rate
from monitor.report import reference_plots as plots
from monitor.report import words
from monitor.report.reference_page import massive_words, write_reference_page

DIGEST = "sha256-" + "5e" * 32
DRAWN = (plots.explained_plot, plots.split_half_plot, plots.scores_plot)


def page_of(facts: Facts, folder: Path, digest: str = DIGEST) -> tuple[str, Page]:
    write_reference_page(facts, digest, folder / "pages" / "index.html")
    text = (folder / "pages" / "index.html").read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    return page_of(built_facts(), tmp_path_factory.mktemp("page"))


def interval(rate: Rate, tell: str) -> str:
    if tell == "percent":
        value, low, high = (words.percent(one) for one in (rate.value, rate.low, rate.high))
    else:
        value, low, high = (words.number(one, 3) for one in (rate.value, rate.low, rate.high))
    return f"{value} {low} to {high}, n={rate.n}"


def test_every_figure_of_a_reference_is_on_its_page(whole: tuple[str, Page]) -> None:
    facts = built_facts()
    _, page = whole
    told = [DIGEST, facts.base_digest, facts.contrast_source, *facts.categories, *facts.warnings, *facts.modalities]
    for member in facts.population:
        told += [member.name, member.digest, member.domain]
    for parts in facts.screens.values():
        for figures in parts.values():
            told += [words.compact(v) for v in (*figures.known_good.values(), *figures.known_bad.values())]
            told += [interval(figures.auroc, "number")] if figures.auroc else []
            told += [words.number(figures.auroc_random, 3)]
    for row in facts.errors:
        assert row.false_negative is not None
        told += [
            words.compact(row.level),
            interval(row.false_positive, "percent"),
            interval(row.false_negative, "percent"),
        ]
    assert facts.judged_agreement is not None
    told += [interval(facts.judged_agreement, "number")]
    for term in facts.combination:
        told += [words.number(term.weight, 3), *map(words.compact, (*term.centre.values(), *term.spread.values()))]
    for curve in facts.curves:
        told += [words.percent(s) for shares in curve.explained.values() for s in shares]
        told += [words.percent(share) for share in curve.explained_random]
        told += [*curve.split_half, *(words.number(c, 3) for c in curve.split_half.values()), massive_words(curve)]
    for pair in facts.angles:
        told += [pair.first, pair.second, words.number(pair.random), ", ".join(map(words.number, pair.degrees))]
    for module, norm in facts.base_norms.items():
        told += [module, words.compact(norm)]
    assert len(told) > 900
    assert [figure for figure in told if figure not in page.text] == []


def test_screens_and_errors_stand_in_rows_of_their_own_by_modality(whole: tuple[str, Page]) -> None:
    facts = built_facts()
    _, page = whole
    rate = facts.screens["contrast"]["image"].auroc
    assert rate is not None
    random = words.number(facts.screens["contrast"]["image"].auroc_random, 3)
    assert f"contrast image {interval(rate, 'number')} {random} 12 8" in page.text
    assert page.text.index("combined both") < page.text.index("contrast text") < page.text.index("contrast image")


def test_warnings_come_before_any_figure(tmp_path: Path) -> None:
    _, page = page_of(built_facts(warnings=("first of all", "and this")), tmp_path)
    assert (
        page.text.index("2 warnings") < page.text.index("first of all") < page.text.index("What each screen is worth")
    )
    assert "gave no warning" in page_of(built_facts(warnings=()), tmp_path)[1].text


def test_a_population_is_counted_by_domain_rank_and_share(whole: tuple[str, Page]) -> None:
    facts = built_facts()
    _, page = whole
    assert "12 known-good and 8 known-bad adapters of 4 domains" in page.text
    bad = [m for m in facts.population if m.domain == "evil_math" and m.harmful]
    shares = sorted({m.harmful_share or 0 for m in bad})
    told = ", ".join(f"{words.percent(s)} ×{sum(m.harmful_share == s for m in bad)}" for s in shares)
    assert f"harmful rows {told}" in page.text


def test_without_known_bad_adapters_the_page_says_so_and_draws_what_there_is(tmp_path: Path) -> None:
    facts = built_facts(bad=False)
    text, page = page_of(facts, tmp_path)
    assert "No known-bad adapters were given" in page.text
    assert "contrast text not measured no control 12 0" in page.text
    assert "Not measured: there are no known-bad adapters." in page.text
    assert text.count("<svg ") == 2
    assert plots.explained_plot(facts, "x") is None


def test_a_reference_of_nothing_but_a_base_is_no_crash(tmp_path: Path) -> None:
    facts = built_facts().model_copy(
        update={"population": (), "screens": {}, "combination": (), "errors": (), "curves": (), "angles": ()}
    )
    text, page = page_of(facts, tmp_path, digest="")
    assert "No screen was measured" in page.text
    assert "No level can be reached" in page.text
    assert "not saved" in page.text
    assert "<svg" not in text


def test_hostile_names_are_shown_bounded_and_never_interpreted(tmp_path: Path) -> None:
    text, page = page_of(built_facts(suffix=HOSTILE + "y" * 5000), tmp_path)
    assert "<script>alert(1)</script>" in page.text, "shown as text"
    assert "script" not in page.tags
    assert not set(text) & {"\x1b", "\u202e", "\x00"}
    assert all(not key.startswith("on") for _, key, _ in page.attributes)
    longest = max(len(run) for run in re.findall("y+", "".join(page.words)))
    assert longest < 5001, "a warning is cut as every text is"
    names = re.findall(r"<th scope=\"row\">([^<]*)</th>", text)
    assert max(len(name) for name in names) < 400


def test_the_page_refers_to_nothing_outside_and_forbids_itself_scripts(tmp_path: Path) -> None:
    text, page = page_of(built_facts(suffix=HOSTILE), tmp_path)
    references = [value for _, key, value in page.attributes if key in ("src", "href", "xlink:href", "action", "data")]
    assert references
    assert all(value.startswith("#") for value in references)
    assert not re.search(r"url\((?!#)|@import", text)
    policy = next(value for _, _, value in page.attributes if "default-src" in value)
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_the_same_facts_give_the_same_bytes_and_other_facts_others(whole: tuple[str, Page], tmp_path: Path) -> None:
    assert page_of(built_facts(), tmp_path)[0] == whole[0]
    assert page_of(built_facts(seed=1), tmp_path)[0] != whole[0]


def test_drawings_are_well_formed_share_no_id_and_say_what_they_show() -> None:
    facts = built_facts()
    made = [plot for draw in DRAWN if (plot := draw(facts, "r")) is not None]
    assert len(made) == 3
    for plot in made:
        root = ET.fromstring(plot.svg)
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"] == plot.alt
    ids = [name for plot in made for name in re.findall(r' id="([^"]+)"', plot.svg)]
    assert len(ids) == len(set(ids))
    shares = facts.curves[3].explained["image"]
    assert f"image 1 component {words.percent(shares[0])}, 10 components {words.percent(shares[9])}" in made[0].alt
    assert "cosine of every direction by layer" in made[1].alt
    good = facts.screens["tail"]["text"].known_good.values()
    assert f"tail, text: known good {words.number(min(good), 2)} to {words.number(max(good), 2)}, n=12" in made[2].alt


def test_explained_variance_is_drawn_a_panel_a_modality_with_the_papers_ten_and_random_subspaces() -> None:
    facts = built_facts()
    curve = next(c for c in facts.curves if c.layer == "decoder.3")
    figure = plots.explained_figure(curve.explained, curve.explained_random)
    assert len(figure.axes) == 2
    for axes, shares in zip(figure.axes, curve.explained.values(), strict=True):
        drawn = [list(map(float, line.get_ydata())) for line in axes.get_lines()]  # type: ignore[arg-type]
        assert [100 * share for share in shares] in drawn
        assert [100 * share for share in curve.explained_random] in drawn
        assert any(list(line.get_xdata()) == [10, 10] for line in axes.get_lines())  # type: ignore[arg-type]


def test_every_score_is_drawn_on_its_screens_own_axis() -> None:
    told = plots.ordered(built_facts())
    figure = plots.scores_figure(told)
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes] == list(told)
    for axes, parts in zip(figure.axes, told.values(), strict=True):
        drawn = {float(x) for line in axes.get_lines() for x in line.get_xdata() if len(line.get_xdata()) > 2}  # type: ignore[union-attr, arg-type]
        for part in parts.values():
            assert {*part.known_good.values(), *part.known_bad.values()} <= drawn


def test_the_noise_line_is_drawn_and_noisy_directions_are_named() -> None:
    facts = built_facts()
    noisy = [value for curve in facts.curves for value in curve.split_half.values() if value < plots.NOISE]
    plot = plots.split_half_plot(facts, "r")
    assert plot is not None
    assert f"{len(noisy)} below 0.5" in plot.alt
    panels = {"decoder": [c for c in facts.curves if c.layer in ("decoder.0", "decoder.1")]}
    lines = plots.split_half_figure(panels).axes[0].get_lines()
    assert any(list(line.get_ydata()) == [0.5, 0.5] for line in lines)  # type: ignore[arg-type]
    assert len(lines) == 1 + 4


def test_numbers_that_are_none_and_hostile_names_are_no_crash_in_drawings() -> None:
    facts = built_facts(suffix="$\\frac{ 日本語 🦊 <b>&" + HOSTILE)
    odd = facts.screens["tail"]["text"].model_copy(update={"known_good": {"x": float("nan")}, "known_bad": {}})
    facts = facts.model_copy(update={"screens": {**facts.screens, "tail": {"text": odd}}})
    for draw in DRAWN:
        plot = draw(facts, "r")
        assert plot is not None
        assert {element.tag for element in ET.fromstring(plot.svg).iter()} <= {
            *("svg", "g", "path", "text", "defs", "use", "clipPath", "rect"),
        }


@pytest.mark.parametrize(
    ("massive", "said"),
    [
        ([], "no dimension is over 50 times the median one; the largest is 12.5 times"),
        ([7], "dimension 7, up to 12.5 times the median one"),
        ([7, 9], "dimensions 7, 9, up to 12.5 times the median one"),
    ],
)
def test_massive_activations_are_told_in_a_sentence(massive: list[int], said: str) -> None:
    curve = Curves(
        layer="decoder.0", explained={}, explained_random=[], split_half={}, massive=massive, massive_ratio=12.5
    )
    assert massive_words(curve) == said
