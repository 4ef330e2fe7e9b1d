"""Grafana's provisioning files: datasource, dashboard provider, and the alerts of the same catalogue.

For the official image: mount monitoring/grafana/provisioning on /etc/grafana/provisioning and
monitoring/grafana/dashboards on /var/lib/grafana/dashboards, and set HEADGATE_PROMETHEUS_URL.
"""

from __future__ import annotations

from typing import Any

from monitoring.alerts import ALERTS, Alert, runbook_url
from monitoring.panels import DATASOURCE_UID

__all__ = ["provisioning"]

DASHBOARDS = "/var/lib/grafana/dashboards"


def provisioning(base: str) -> dict[str, Any]:
    """File below the provisioning folder to its document; `base` is the exporter's address."""
    return {
        "datasources/headgate.yml": _datasources(),
        "dashboards/headgate.yml": _provider(),
        "alerting/headgate.yml": _alerting(base),
    }


def _datasources() -> dict[str, Any]:
    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Prometheus",
                "uid": DATASOURCE_UID,
                "type": "prometheus",
                "access": "proxy",
                "url": "${HEADGATE_PROMETHEUS_URL}",
                "isDefault": True,
                "editable": False,
                # $__rate_interval is four of these: the scrape interval of the generated prometheus.yml.
                "jsonData": {"timeInterval": "10s", "httpMethod": "POST"},
            }
        ],
    }


def _provider() -> dict[str, Any]:
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "headgate",
                "type": "file",
                "folder": "headgate",
                "allowUiUpdates": False,
                "disableDeletion": True,
                "updateIntervalSeconds": 30,
                "options": {"path": DASHBOARDS, "foldersFromFilesStructure": False},
            }
        ],
    }


def _alerting(base: str) -> dict[str, Any]:
    group = {
        "orgId": 1,
        "name": "headgate",
        "folder": "headgate",
        "interval": "30s",
        "rules": [_rule(alert, base) for alert in ALERTS],
    }
    return {"apiVersion": 1, "groups": [group]}


def _rule(alert: Alert, base: str) -> dict[str, Any]:
    annotations = {
        # Grafana's $value is a text of all values; that of one query has a name.
        "summary": alert.summary.replace("$value", "$values.A.Value"),
        "description": alert.description.replace("$value", "$values.A.Value"),
        "runbook_url": runbook_url(base, alert.name),
    }
    rule: dict[str, Any] = {
        "uid": f"headgate-{alert.name.lower()}",
        "title": alert.name,
        "condition": "B",
        "data": [_query(alert), _condition()],
        "for": alert.hold,
        "noDataState": alert.no_data,
        "execErrState": "Alerting",
        "labels": {"severity": alert.severity},
        "annotations": annotations,
    }
    if alert.keep_firing_for:
        rule["keep_firing_for"] = alert.keep_firing_for
    return rule


def _query(alert: Alert) -> dict[str, Any]:
    # Prometheus answers nothing when an alert is silent, which Grafana would take for missing data. With a
    # NaN in its place, missing data is left to mean that Prometheus itself has no answer.
    expr = f"(\n{alert.expr.strip()}\n)\nor on () vector(NaN)\n"
    model = {"refId": "A", "expr": expr, "instant": True, "range": False, "intervalMs": 1000}
    return {
        "refId": "A",
        "relativeTimeRange": {"from": 900, "to": 0},
        "datasourceUid": DATASOURCE_UID,
        "model": model,
    }


def _condition() -> dict[str, Any]:
    model = {"refId": "B", "type": "math", "expression": "is_number($A)"}
    return {
        "refId": "B",
        "relativeTimeRange": {"from": 0, "to": 0},
        "datasourceUid": "__expr__",
        "model": model,
    }
