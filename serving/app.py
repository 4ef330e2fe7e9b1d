"""The REST API over the results in Redis. Every answer is JSON, errors too; `/metrics` is Prometheus's.

GET /api                                 the pipelines and the addresses of their outputs
GET /api/<pipeline>                      the newest result of its first output in Redis
GET /api/<pipeline>/<output>             the newest result of an output
GET /api/<pipeline>/<output>/history     the last event times, newest first; ?limit=N
GET /health                              200 while Redis answers, 503 otherwise
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from flask import Flask, Response, g, jsonify, request
from flask.json.provider import DefaultJSONProvider
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from werkzeug.exceptions import HTTPException, NotFound

from headgate.errors import HeadgateError, NotFoundError, UnavailableError, UsageError
from monitoring.catalogue import build
from serving.answers import answer, no_data
from serving.contracts import AppliedOutputs, ServedPipeline
from serving.results import ResultStore

__all__ = ["create_app"]

RETRY_AFTER_SECONDS = 5
DEFAULT_LIMIT = 10
MAX_LIMIT = 1_000
_STATUS_OF = ((NotFoundError, 404), (UsageError, 400), (UnavailableError, 503))


def create_app(
    store: ResultStore, contracts: AppliedOutputs, *, clock: Callable[[], float] = time.time
) -> Flask:
    app = Flask("serving", static_folder=None)
    app.url_map.strict_slashes = False
    cast(DefaultJSONProvider, app.json).sort_keys = False
    _add_results(app, store, contracts, clock)
    _add_operations(app, store, contracts)
    _add_errors(app)
    _add_metrics(app)
    return app


def _add_results(
    app: Flask, store: ResultStore, contracts: AppliedOutputs, clock: Callable[[], float]
) -> None:
    @app.get("/api")
    def index() -> Any:
        return {
            "pipelines": {
                name: [f"/api/{name}/{output}" for output in served.served]
                for name, served in contracts.all().items()
            }
        }

    @app.get("/api/<pipeline>", defaults={"output": None})
    @app.get("/api/<pipeline>/<output>")
    def latest(pipeline: str, output: str | None) -> Any:
        name = _output(_pipeline(contracts, pipeline), output)
        published = store.latest(pipeline, name)
        body = answer(published, clock())
        return (no_data(published, pipeline), 404) if body is None else body

    @app.get("/api/<pipeline>/<output>/history")
    def history(pipeline: str, output: str) -> Any:
        name = _output(_pipeline(contracts, pipeline), output)
        items = store.history(pipeline, name, _limit())
        return {"pipeline": pipeline, "output": name, "history": items}


def _pipeline(contracts: AppliedOutputs, name: str) -> ServedPipeline:
    found = contracts.all()
    if name not in found:
        raise NotFoundError(
            f"Unknown pipeline {name!r}",
            help=f"one of: {', '.join(found)}" if found else "none is applied: headgate apply",
        )
    return found[name]


def _output(served: ServedPipeline, output: str | None) -> str:
    """The output's name. Raises NotFoundError for one that is not served."""
    if output is None and served.served:
        return served.served[0]
    if output in served.served:
        return output
    known = f"one of: {', '.join(served.served)}" if served.served else "a `redis` target in its contract"
    if output is None or output in served.others:
        what = f"The output {output!r}" if output else "No output"
        raise NotFoundError(f"{what} of pipeline {served.pipeline!r} goes to Redis", help=known)
    raise NotFoundError(f"Unknown output {output!r} of pipeline {served.pipeline!r}", help=known)


def _limit() -> int:
    text = request.args.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_LIMIT):
        raise UsageError(f"limit={text}", help=f"limit is a whole number from 1 to {MAX_LIMIT}")
    return int(text)


def _add_operations(app: Flask, store: ResultStore, contracts: AppliedOutputs) -> None:
    @app.get("/health")
    def health() -> Any:
        store.ping()
        return {
            "status": "degraded" if contracts.problems else "ok",
            "redis": "ok",
            "pipelines": list(contracts.all()),
            "problems": dict(contracts.problems),
        }


def _add_errors(app: Flask) -> None:
    @app.errorhandler(HeadgateError)
    def ours(error: HeadgateError) -> Response:
        status = next((code for kind, code in _STATUS_OF if isinstance(error, kind)), 500)
        body = {"error": error.message} | ({"help": error.help} if error.help else {})
        response = jsonify(body)
        response.status_code = status
        if status == 503:
            response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        response = jsonify({"error": error.name, "help": _help(error)})
        response.status_code = error.code or 500
        for name, value in error.get_headers():
            if name.lower() in {"allow", "location"}:
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> tuple[Response, int]:
        app.logger.error("while answering %s", request.path, exc_info=error)
        return jsonify({"error": "Internal error", "help": "the log of serving has the cause"}), 500


def _help(error: HTTPException) -> str:
    if isinstance(error, NotFound):
        return "GET /api lists what there is"
    return error.description or error.name


def _add_metrics(app: Flask) -> None:
    registry = CollectorRegistry()
    collectors = build(registry, "serving")
    requests = cast(Counter, collectors["headgate_serving_requests_total"])
    duration = cast(Histogram, collectors["headgate_serving_request_duration_seconds"])

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    # Only routes become label values, so that a scanner's paths do not become series.
    for rule in app.url_map.iter_rules():
        duration.labels(rule.endpoint)
        for status in ("200", "404", "500", "503"):
            requests.labels(rule.endpoint, status)
    duration.labels("none")

    @app.before_request
    def begin() -> None:
        g.begun = time.perf_counter()

    @app.after_request
    def end(response: Response) -> Response:
        endpoint = request.endpoint or "none"
        requests.labels(endpoint, str(response.status_code)).inc()
        duration.labels(endpoint).observe(time.perf_counter() - g.begun)
        response.headers["Cache-Control"] = "no-store"
        return response
