"""Prometheus's and Alertmanager's configuration for the embedded mode, from the settings.

Drivers and producers come and go, each on a port of its own: Prometheus asks the exporter for them
(`/sd/…`) and keeps the last list when the exporter is down.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headgate.address import authority
from headgate.settings import HttpSettings, Settings
from monitoring.alerts import DRIVER_JOB, EXPORTER_JOB, rules
from monitoring.document import as_yaml, write

__all__ = [
    "PrometheusFiles",
    "alertmanager_config",
    "exporter_url",
    "prometheus_config",
    "write_prometheus_config",
]

# Short enough that a stalled stream shows within two rounds, and a few dozen series cost nothing.
SCRAPE = "10s"
DISCOVERY = "15s"


@dataclass(frozen=True, slots=True)
class PrometheusFiles:
    prometheus: Path
    rules: Path
    alertmanager: Path


def exporter_url(settings: Settings) -> str:
    return f"http://{_address(settings.exporter)}"


def _address(server: HttpSettings) -> str:
    """Where a process of this machine reaches a server: one that listens everywhere is on loopback too."""
    host = "127.0.0.1" if server.host in {"0.0.0.0", "::"} else server.host
    return authority(host, server.port)


def write_prometheus_config(settings: Settings, folder: Path) -> PrometheusFiles:
    """Write prometheus.yml, rules.yml and alertmanager.yml into the folder; running it again is safe."""
    rule_file = write(folder / "rules.yml", as_yaml(rules(exporter_url(settings))))
    return PrometheusFiles(
        prometheus=write(folder / "prometheus.yml", as_yaml(prometheus_config(settings, rule_file))),
        rules=rule_file,
        alertmanager=write(folder / "alertmanager.yml", as_yaml(alertmanager_config())),
    )


def prometheus_config(settings: Settings, rule_file: Path) -> dict[str, Any]:
    loopback = "127.0.0.1"
    return {
        "global": {
            "scrape_interval": SCRAPE,
            "evaluation_interval": SCRAPE,
            "external_labels": {"env": settings.env},
        },
        "rule_files": [str(rule_file.resolve())],
        "alerting": {
            "alertmanagers": [
                {"static_configs": [{"targets": [f"{loopback}:{settings.local.alertmanager_port}"]}]}
            ]
        },
        "scrape_configs": [
            _static(EXPORTER_JOB, _address(settings.exporter)),
            _discovered(DRIVER_JOB, f"{exporter_url(settings)}/sd/drivers"),
            _discovered("headgate-producers", f"{exporter_url(settings)}/sd/producers"),
            _static("headgate-serving", _address(settings.serving)),
            _static("prometheus", f"{loopback}:{settings.local.prometheus_port}"),
        ],
    }


def alertmanager_config() -> dict[str, Any]:
    """One quiet receiver: alerts are seen in Alertmanager and on the status page.

    A real installation adds its own receivers, and one outside this machine for the Watchdog.
    """
    return {
        "route": {
            "receiver": "status-page",
            "group_by": ["alertname", "pipeline"],
            "group_wait": "10s",
            "group_interval": "1m",
            "repeat_interval": "4h",
        },
        "receivers": [{"name": "status-page"}],
        # A parked stream is down, stalls and lags: one page says it, with the reason.
        "inhibit_rules": [
            _inhibit("StreamParked", "StreamDown|StreamStalled|StreamLagGrowing|StreamRestartLoop"),
            _inhibit("StreamDown", "StreamStalled|StreamLagGrowing"),
        ],
    }


def _static(job: str, target: str) -> dict[str, Any]:
    # The labels that a process gives its series are the truth about them, not the target's.
    return {"job_name": job, "honor_labels": True, "static_configs": [{"targets": [target]}]}


def _discovered(job: str, url: str) -> dict[str, Any]:
    found = {"url": url, "refresh_interval": DISCOVERY}
    return {"job_name": job, "honor_labels": True, "http_sd_configs": [found]}


def _inhibit(source: str, targets: str) -> dict[str, Any]:
    return {
        "source_matchers": [f'alertname = "{source}"'],
        "target_matchers": [f'alertname =~ "{targets}"'],
        "equal": ["pipeline"],
    }
