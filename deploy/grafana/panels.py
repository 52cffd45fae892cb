"""The parts that every dashboard of Alignwatch is made of: variables, links, and panels that are never without unit
and description."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, TypeVar

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models

SOURCE = models.DataSourceRef(type_val="prometheus", uid="$datasource")
AT = 'job=~"$job",instance=~"$instance"'
"""Selects what the dashboard's variables say; stands in every query."""

OF_ADAPTER = f'{AT},adapter=~"$adapter",modality=~"$modality"'
"""The same for series of one adapter and modality."""

Query: TypeAlias = tuple[str, str]
"""An expression and its legend."""

_Panel = TypeVar("_Panel", timeseries.Panel, stat.Panel, table.Panel)

_TAG = "alignwatch"


def new_dashboard(uid: str, title: str, description: str) -> dashboard.Dashboard:
    """Begin a dashboard with the variables and links that all have."""
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([_TAG])
        .timezone("browser")
        .refresh("30s")
        .time("now-24h", "now")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(
            dashboard.DashboardLink("Alignwatch")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([_TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(
            dashboard.DatasourceVariable("datasource")
            .label("Data source")
            .description("The Prometheus that scrapes Alignwatch")
            .type("prometheus")
        )
        .with_variable(choice("job", "Job", "The scrape job", "alignwatch_build_info"))
        .with_variable(choice("instance", "Monitor", "Which Alignwatch", 'alignwatch_build_info{job=~"$job"}'))
    )


def choice(name: str, label: str, description: str, series: str) -> dashboard.QueryVariable:
    """Let people choose among the values that a label has in some series; all are chosen at first."""
    every = models.VariableOption(selected=True, text="All", value="$__all")
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(SOURCE)
        .query(f"label_values({series}, {name})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(every)
    )


def graph(title: str, description: str, unit: str, *queries: Query, width: int = 12) -> timeseries.Panel:
    """Draw queries over time."""
    legend = (
        common.VizLegendOptions()
        .display_mode(common_models.LegendDisplayMode.TABLE)
        .placement(common_models.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull"])
        .show_legend(True)
    )
    panel = timeseries.Panel().fill_opacity(5).legend(legend)
    return _filled(panel, title, description, unit, queries, width, 9)


def number(
    title: str, description: str, unit: str, query: str, *, legend: str = "", red_from: float | None = None
) -> stat.Panel:
    """Show the last value large, in red from a limit on."""
    steps = [models.Threshold(color="green", value=None)]
    if red_from is not None:
        steps.append(models.Threshold(color="red", value=red_from))
    limits = dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    panel = stat.Panel().thresholds(limits).reduce_options(last).graph_mode(common_models.BigValueGraphMode.NONE)
    return _filled(panel, title, description, unit, [(query, legend)], 4, 4)


def listing(title: str, description: str, query: str, hidden: Sequence[str]) -> table.Panel:
    """List the labels of series, without some of them."""
    organise = models.DataTransformerConfig(
        id_val="organize", options={"excludeByName": dict.fromkeys(("Time", "Value", "__name__", *hidden), True)}
    )
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit("string")
        .span(24)
        .height(9)
        .with_transformation(organise)
    )
    asked = prometheus.Dataquery().expr(query).instant().format(prometheus_models.PromQueryFormat.TABLE).ref_id("A")
    return panel.with_target(asked)


def _filled(
    panel: _Panel, title: str, description: str, unit: str, queries: Sequence[Query], width: int, height: int
) -> _Panel:
    panel.title(title).description(description).datasource(SOURCE).unit(unit).span(width).height(height)
    for letter, (expression, legend) in zip("ABCDEFGH", queries, strict=False):
        panel.with_target(prometheus.Dataquery().expr(expression).legend_format(legend).range().ref_id(letter))
    return panel
