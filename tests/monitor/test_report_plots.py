"""The drawings show the intervals, are the same every time, and take any label."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from matplotlib.lines import Line2D
from report_reviews import HOSTILE, found, harmful, measured

from monitor.report import plots
from policies.rules import RiseRule


def spans(lines: list[Line2D]) -> set[tuple[float, float]]:
    return {tuple(round(float(x), 6) for x in line.get_xdata()) for line in lines if len(line.get_xdata()) == 2}  # type: ignore[arg-type, misc]


def test_every_interval_is_drawn_in_its_modalitys_panel() -> None:
    examination = harmful()
    figure = plots.rise_figure(plots.forest_rows(examination), ["text", "image"], RiseRule())
    for axes, name in zip(figure.axes, ("text", "image"), strict=True):
        assert axes.get_title(loc="left") in (name, "") or axes.get_title() == name
        rises = [
            result
            for result in examination.results
            if result.kind == "finding"
            and result.measure.startswith("misalignment_rise")
            and result.labels["modality"] == name
        ]
        assert len(rises) == 14
        drawn = spans(axes.get_lines())
        assert {(round(100 * f.low, 6), round(100 * f.high, 6)) for f in rises} <= drawn


def test_the_policys_lines_are_drawn_where_it_is_known() -> None:
    rows = plots.forest_rows(harmful())
    with_rule = spans(plots.rise_figure(rows, ["text"], RiseRule(tolerate=0.03, clear_below=0.2)).axes[0].get_lines())
    without = spans(plots.rise_figure(rows, ["text"], None).axes[0].get_lines())
    assert with_rule - without == {(3.0, 3.0), (20.0, 20.0)}


def test_the_same_examination_gives_the_same_bytes() -> None:
    for draw in (plots.rise_plot, plots.shift_plot, plots.score_plot):
        assert draw(harmful()) == draw(harmful())


@pytest.mark.parametrize("draw", [plots.rise_plot, plots.shift_plot, plots.score_plot])
def test_nothing_measured_draws_nothing(draw: object) -> None:
    assert draw(harmful([])) is None  # type: ignore[operator]


def test_a_drawing_is_one_well_formed_element_that_says_what_it_shows() -> None:
    plot = plots.rise_plot(harmful())
    assert plot is not None
    root = ET.fromstring(plot.svg)
    assert root.tag == "svg"
    assert root.attrib["role"] == "img"
    assert "text +41.0 points, 95 % interval +33.0 to +48.0, n=120" in root.attrib["aria-label"]
    assert "http" not in plot.svg
    assert "<style" not in plot.svg


def test_two_drawings_in_one_page_share_no_id() -> None:
    drawn = [plot.svg for draw in (plots.rise_plot, plots.shift_plot, plots.score_plot) if (plot := draw(harmful()))]
    ids = [name for svg in drawn for name in re.findall(r' id="([^"]+)"', svg)]
    assert len(drawn) == 3
    assert len(ids) == len(set(ids))
    for svg in drawn:
        wanted = re.findall(r'(?:url\(#|href="#)([^")]+)', svg)
        assert set(wanted) <= set(re.findall(r' id="([^"]+)"', svg))


def test_colours_follow_the_pages_theme() -> None:
    plot = plots.rise_plot(harmful(), RiseRule())
    assert plot is not None
    assert {"ink", "quiet", "adapter", "good", "bad"} <= set(re.findall(r"var\(--(\w+)", plot.svg))


def test_hostile_labels_are_drawn_as_text() -> None:
    odd = [
        found("misalignment_rise", 0.1, 0.0, 0.2, modality=HOSTILE),
        found("misalignment_rise_by_category", 0.1, 0.0, 0.2, modality=HOSTILE, category="$\\frac{ 日本語 🦊 <b>&"),
        found("subspace_projection", 0.1, modality=HOSTILE),
        found("alignment_score", 50, modality=HOSTILE, model=HOSTILE),
    ]
    for draw in (plots.rise_plot, plots.shift_plot, plots.score_plot):
        plot = draw(harmful(odd))
        assert plot is not None
        assert {element.tag for element in ET.fromstring(plot.svg).iter()} <= {
            "svg",
            "g",
            "path",
            "text",
            "defs",
            "use",
            "clipPath",
            "rect",
        }


def test_missing_intervals_and_numbers_that_are_none_are_no_crash() -> None:
    odd = [
        found("misalignment_rise", float("nan"), modality="text"),
        found("misalignment_rise", 0.2, modality="image"),
        found("misalignment_rise_by_category", 0.2, float("-inf"), float("inf"), modality="image", category="a"),
        found("subspace_projection", float("inf"), modality="text"),
        found("subspace_null", float("nan"), modality="text", adapter="x"),
        found("alignment_score", float("nan"), modality="text", model="base"),
    ]
    for draw in (plots.rise_plot, plots.shift_plot, plots.score_plot):
        assert draw(harmful(odd)) is not None


def test_many_categories_keep_the_worst_in_the_drawing() -> None:
    names = tuple(f"domain {place:03}" for place in range(100))
    rows = plots.forest_rows(harmful(measured(0.4, 0.5, categories=names)))
    figure = plots.rise_figure(rows, ["text"], None)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(rows) == 103
    assert labels[0] == "all prompts"
    assert labels[3] == "domain 099"
    assert len(labels) == plots.MOST_ROWS
