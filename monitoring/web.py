"""The exporter's HTTP side: metrics, discovery, the status page and the runbooks. It only reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Response, jsonify, render_template
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from headgate.settings import Settings
from headgate.streams.model import Phase
from monitoring import wording
from monitoring.exposition import SnapshotCollector
from monitoring.runbooks import runbook_html
from monitoring.snapshot import UNKNOWN, PipelineSnapshot, PlatformSnapshot, moment

__all__ = ["create_app", "targets"]

REFRESH_SECONDS = 3
# Nothing of another origin is loaded or may frame the page; styles and the script are in the page.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def create_app(settings: Settings, snapshot: Callable[[], PlatformSnapshot]) -> Flask:
    """The WSGI application over whatever `snapshot()` returns; each request asks for a new one."""
    app = Flask("monitoring", static_folder=None)
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(snapshot))
    _data_routes(app, snapshot, registry)
    _page_routes(app, settings, snapshot)
    app.after_request(_headers)
    return app


def targets(snapshot: PlatformSnapshot, kind: str) -> list[dict[str, Any]]:
    """Prometheus's http_sd answer: one group per process. `kind` is drivers, producers, or "" for all."""
    groups = []
    if kind in ("", "drivers"):
        # An instance without the port: a restarted driver goes on with its series.
        for item in snapshot.pipelines:
            if item.metrics_port is not None:
                groups.append(_group(item.pipeline, item.metrics_port, "driver", f"driver-{item.pipeline}"))
    if kind in ("", "producers"):
        # With the port: several producers may feed one pipeline.
        for pipeline, port in snapshot.producers:
            groups.append(_group(pipeline, port, "producer", f"producer-{pipeline}-{port}"))
    return groups


def _group(pipeline: str, port: int, process: str, instance: str) -> dict[str, Any]:
    labels = {"pipeline": pipeline, "process": process, "instance": instance}
    return {"targets": [f"127.0.0.1:{port}"], "labels": labels}


def _data_routes(app: Flask, snapshot: Callable[[], PlatformSnapshot], registry: CollectorRegistry) -> None:
    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    @app.get("/sd")
    @app.get("/sd/<any(drivers, producers):kind>")
    def discovery(kind: str = "") -> Response:
        return jsonify(targets(snapshot(), kind))

    @app.get("/healthz")
    def health() -> Response:
        return jsonify({"status": "ok"})

    @app.get("/api/status")
    def status() -> Response:
        return jsonify(snapshot().to_json())


def _page_routes(app: Flask, settings: Settings, snapshot: Callable[[], PlatformSnapshot]) -> None:
    def render(template: str) -> str:
        return render_template(template, **_shown(snapshot(), settings.airflow.url))

    @app.get("/")
    def page() -> str:
        return render("status.html")

    @app.get("/fragment")
    def fragment() -> str:
        return render("fragment.html")

    @app.get("/runbooks/<name>")
    def runbook(name: str) -> str | tuple[str, int]:
        # Runbooks link to each other as files, which is what a reader of the repository needs.
        html = runbook_html(name.removesuffix(".md"))
        if html is None:
            return f"there is no runbook {name!r}; the list is at /runbooks/README\n", 404
        return render_template("runbook.html", name=name, body=html)


def _shown(now: PlatformSnapshot, airflow: str) -> dict[str, Any]:
    """What the templates of the status page use: the snapshot, and how it is put into words and colours."""
    return {
        "snapshot": now,
        # What needs a person comes first.
        "pipelines": sorted(now.pipelines, key=lambda item: _TONES.index(_tone(item))),
        "airflow": airflow,
        "refresh": REFRESH_SECONDS,
        "trouble": bool(now.down()) or any(_tone(item) == "bad" for item in now.pipelines),
        "tone": _tone,
        "mark": _mark,
        "behind": _behind,
        "dirty": _dirty,
        "runbook": _runbook,
        "moment": moment,
        "age": wording.age,
        "happened": wording.happened,
        "because": wording.because,
        "count": wording.count,
        "duration": wording.duration,
        "quarantined": wording.quarantined,
        "rate": wording.rate,
    }


_TONES = ("bad", "wait", "good", "idle")


def _tone(item: PipelineSnapshot) -> str:
    """good, wait, bad or idle: the colour, never the only sign of anything."""
    if item.state in (Phase.PARKED, Phase.BACKOFF) or item.verdict == "failed" or _troubled(item):
        return "bad"
    if item.state in (Phase.STARTING, Phase.STOPPING) or item.conditions or item.verdict == "errored":
        return "wait"
    if item.state == UNKNOWN:
        return "wait"
    return "good" if item.state == Phase.RUNNING else "idle"


def _troubled(item: PipelineSnapshot) -> bool:
    told = any(word in text for text in item.conditions for word in ("stalled", "not running", "gone"))
    return told or bool(item.forgotten)


def _mark(item: PipelineSnapshot) -> str:
    return {"good": "●", "wait": "◐", "bad": "▲", "idle": "○"}[_tone(item)]


def _behind(item: PipelineSnapshot) -> bool:
    return item.lag_seconds is not None and item.freshness is not None and item.lag_seconds > item.freshness


def _dirty(item: PipelineSnapshot) -> bool:
    rows, allowed = item.rows, item.quarantined_ratio
    return bool(rows and rows.read and allowed is not None and rows.quarantined / rows.read > allowed)


def _runbook(item: PipelineSnapshot) -> str:
    """The runbook that fits what is seen."""
    if item.state == Phase.PARKED:
        name = "StreamParked"
    elif item.forgotten:
        name = "StreamForgotten"
    elif any("stalled" in text for text in item.conditions):
        name = "StreamStalled"
    elif item.verdict == "failed":
        name = "QualityFailed"
    elif _behind(item):
        name = "StreamLagGrowing"
    else:
        name = "StreamDown"
    return f"/runbooks/{name}"


def _headers(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    return response
