"""House functions over grafana-foundation-sdk, whose defaults leave out what a panel needs.

A panel is data here: title, description, unit, queries with legends. Datasource, legend, tooltip, ids
and places are given to all of them alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from grafana_foundation_sdk.builders import common as common_build
from grafana_foundation_sdk.builders import dashboard as dashboard_build
from grafana_foundation_sdk.builders import prometheus, timeseries
from grafana_foundation_sdk.builders import stat as stat_build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard

__all__ = ["DATASOURCE_UID", "Panel", "Query", "Row", "dashboard_json", "graph", "quantile", "stat"]

DATASOURCE_UID = "headgate-prometheus"  # fixed by provisioning, so that files can refer to it
_VARIABLE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Query:
    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `limit` colours a value from there on; `show` says whether a stat shows value or name."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["timeseries", "stat"] = "timeseries"
    width: int = 8
    height: int = 8
    limit: float | None = None
    show: Literal["value", "name"] = "value"


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


def stat(title: str, description: str, unit: str, expr: str, *, legend: str = "", **more: Any) -> Panel:
    """One number, or one name."""
    return Panel(title, description, unit, (Query(expr, legend or title),), "stat", 4, 4, **more)


def graph(title: str, description: str, unit: str, *queries: tuple[str, str], **more: Any) -> Panel:
    """Lines over time; each query is an expression and its legend."""
    return Panel(title, description, unit, tuple(Query(*query) for query in queries), **more)


def quantile(share: str, metric: str, by: str, where: str) -> str:
    """A quantile of a histogram, over the series that `where` selects."""
    buckets = f"sum by ({by}, le) (rate({metric}_bucket{{{where}}}[$__rate_interval]))"
    return f"histogram_quantile({share}, {buckets})"


def dashboard_json(
    *, uid: str, title: str, description: str, rows: Sequence[Row], with_pipeline: bool
) -> dict[str, Any]:
    """A dashboard as Grafana's JSON, the same bytes for the same input."""
    builder = (
        dashboard_build.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["headgate"])
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("utc")
        .readonly()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .with_variable(_datasource_variable())
        .link(_status_link())
    )
    if with_pipeline:
        builder = builder.with_variable(_pipeline_variable())
    place = _Place()
    for row in rows:
        builder = builder.with_row(_row(row, place))
        for panel in row.panels:
            builder = builder.with_panel(_panel(panel, place))
    document: dict[str, Any] = json.loads(json.dumps(builder.build(), cls=JSONEncoder, sort_keys=True))
    for link in document["links"]:
        del link["placement"]  # the SDK's only value hides the link in a menu
    return document


class _Place:
    """Gives out ids and places, from left to right and from top to bottom."""

    def __init__(self) -> None:
        self.id = 0
        self.x = self.y = self.height = 0

    def take(self, width: int, height: int) -> tuple[int, dashboard.GridPos]:
        if self.x + width > COLUMNS:
            self.x, self.y, self.height = 0, self.y + self.height, 0
        position = dashboard.GridPos(h=height, w=width, x=self.x, y=self.y)
        self.x, self.height = self.x + width, max(self.height, height)
        self.id += 1
        return self.id, position


def _row(row: Row, place: _Place) -> dashboard_build.Row:
    place.x = COLUMNS  # a row begins on a line of its own
    number, position = place.take(COLUMNS, 1)
    return dashboard_build.Row(row.title).id(number).grid_pos(position)


def _panel(panel: Panel, place: _Place) -> timeseries.Panel | stat_build.Panel:
    built = _stat(panel) if panel.kind == "stat" else _timeseries(panel)
    number, position = place.take(panel.width, panel.height)
    built = built.id(number).grid_pos(position).title(panel.title).description(panel.description)
    built = built.datasource(_VARIABLE).unit(panel.unit).thresholds(_thresholds(panel.limit))
    for index, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend)
        target = target.ref_id(chr(ord("A") + index)).datasource(_VARIABLE)
        built = built.with_target(target.instant() if panel.kind == "stat" else target.range())
    return built


def _timeseries(panel: Panel) -> timeseries.Panel:
    legend = (
        common_build.VizLegendOptions()
        .show_legend(True)
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "max"])
    )
    tooltip = common_build.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    built = timeseries.Panel().legend(legend).tooltip(tooltip)
    built = built.line_width(1).fill_opacity(8).show_points(common.VisibilityMode.NEVER)
    if panel.limit is not None:
        style = common_build.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        built = built.thresholds_style(style)
    return built


def _stat(panel: Panel) -> stat_build.Panel:
    reduce = common_build.ReduceDataOptions().calcs(["lastNotNull"])
    mode = common.BigValueTextMode.NAME if panel.show == "name" else common.BigValueTextMode.VALUE_AND_NAME
    if panel.show == "value" and len(panel.queries) == 1:
        mode = common.BigValueTextMode.VALUE
    # An empty panel must say so: a missing series is not a healthy one.
    return stat_build.Panel().reduce_options(reduce).text_mode(mode).no_value("not known")


def _thresholds(limit: float | None) -> dashboard_build.ThresholdsConfig:
    steps = [dashboard.Threshold(value=None, color="green" if limit is not None else "text")]
    if limit is not None:
        steps.append(dashboard.Threshold(value=limit, color="red"))
    return dashboard_build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def _datasource_variable() -> dashboard_build.DatasourceVariable:
    chosen = dashboard.VariableOption(text="Prometheus", value=DATASOURCE_UID, selected=True)
    return (
        dashboard_build.DatasourceVariable("datasource")
        .label("Datasource")
        .type("prometheus")
        .current(chosen)
    )


def _pipeline_variable() -> dashboard_build.QueryVariable:
    return (
        dashboard_build.QueryVariable("pipeline")
        .label("Pipeline")
        .datasource(_VARIABLE)
        .query("label_values(headgate_trigger_interval_seconds, pipeline)")
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )


def _status_link() -> dashboard_build.DashboardLink:
    link = dashboard_build.DashboardLink("headgate dashboards").type(dashboard.DashboardLinkType.DASHBOARDS)
    return link.tags(["headgate"]).include_vars(True).keep_time(True).as_dropdown(True)
