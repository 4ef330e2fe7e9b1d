"""The supervisor over HTTP: JSON in and out, a bearer token on every write, one shape for all errors.

{"error": {"code": "not_found", "message": "…", "help": "…"}}
"""

from __future__ import annotations

import hmac
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from headgate import __version__
from headgate.checkpoints.origin import Origin
from headgate.errors import HeadgateError, NotFoundError, RefusedError, UnavailableError, UsageError
from headgate.streams.journal import Journal
from headgate.streams.model import Owner, StreamStatus
from headgate.streams.service import DrainRequest, StopRequest, StreamService
from headgate.streams.statements import StaleRecord
from headgate.streams.store import LeaseLost
from headgate.streams.supervisor import Health

__all__ = ["MAX_BODY", "create_app"]

MAX_BODY = 65_536
# A round takes milliseconds and comes at least every few seconds; without one for so long, nobody
# supervises, whatever the socket says.
_SILENT_SECONDS = 30.0
_STATUS: tuple[tuple[type[HeadgateError], int, str], ...] = (
    (NotFoundError, 404, "not_found"),
    (RefusedError, 409, "refused"),
    (StaleRecord, 409, "changed_meanwhile"),
    (UsageError, 400, "bad_request"),
    (LeaseLost, 503, "standby"),
    (UnavailableError, 503, "unavailable"),
)
_Text = Annotated[str, Field(min_length=1, max_length=500)]
# What the store's columns hold: a larger number is a bad request, not a failure of the database.
_Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OwnerBody(_Body):
    kind: Annotated[str, Field(pattern=r"^(airflow|cli)$")]
    user: Annotated[str, Field(max_length=250)] = ""
    dag_id: Annotated[str, Field(max_length=250)] = ""
    run_id: Annotated[str, Field(max_length=250)] = ""
    task_id: Annotated[str, Field(max_length=250)] = ""
    try_number: _Int64 = 0
    clear_number: _Int64 = 0

    def owner(self) -> Owner:
        return Owner(**self.model_dump())


class EnsureBody(_Body):
    pipeline: _Text
    contract_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
    owner: OwnerBody
    idempotency_key: Annotated[str, Field(min_length=1, max_length=250)]


class OriginBody(_Body):
    """Offsets are those that were looked up for the order: nothing is looked up again later."""

    kind: Literal["checkpoint", "snapshot", "earliest", "latest", "timestamp", "offsets"]
    offsets: dict[str, dict[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]] = {}
    snapshot: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,80}$")] = ""
    way: Literal["", "same batches", "new lineage"] = ""
    note: Annotated[str, Field(max_length=200)] = ""
    keep: Literal[""] = ""  # the supervisor's own
    contract: Literal[""] = ""
    replay: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,80}$")] = ""
    tables: Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=1000)] = []

    def origin(self) -> Origin:
        return Origin.from_json(self.model_dump())


class RestartBody(_Body):
    actor: _Text
    reason: Annotated[str, Field(max_length=2000)] = ""
    idempotency_key: Annotated[str, Field(min_length=1, max_length=250)]
    owner: OwnerBody | None = None
    contract_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")] | None = None
    origin: OriginBody | None = None


class StopBody(_Body):
    actor: _Text
    reason: Annotated[str, Field(max_length=2000)] = ""
    owner: OwnerBody | None = None
    generation: _Int64 | None = None
    mode: Literal["graceful", "kill"] = "graceful"
    deadline_seconds: Annotated[float, Field(ge=0, le=86_400)] = 60.0


class DrainBody(_Body):
    actor: _Text
    reason: Annotated[str, Field(max_length=2000)] = ""
    deadline_seconds: Annotated[float, Field(ge=0, le=604_800)] = 600.0
    stop_seconds: Annotated[float, Field(ge=0, le=86_400)] = 60.0


class RetireBody(_Body):
    actor: _Text
    reason: Annotated[str, Field(max_length=2000)] = ""
    deadline_seconds: Annotated[float, Field(ge=0, le=86_400)] = 60.0


class ActorBody(_Body):
    actor: _Text


def create_app(
    service: StreamService,
    health: Callable[[], Health],
    token: str,
    *,
    wall: Callable[[], float],
    journal: Journal,
) -> FastAPI:
    """The application; `token` guards every write, and what breaks unforeseen is told to the journal."""
    app = FastAPI(title="headgate supervisor", version=__version__, docs_url=None, redoc_url=None)
    app.middleware("http")(_limit_body)
    app.add_exception_handler(HeadgateError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_surprise(journal))
    _add_reads(app, service, health, wall)
    guarded = [Depends(_guard(token))]
    _add_starts(app, service, guarded)
    _add_stops(app, service, guarded)
    return app


def _add_reads(
    app: FastAPI, service: StreamService, health: Callable[[], Health], wall: Callable[[], float]
) -> None:
    @app.get("/healthz")
    def healthz() -> JSONResponse:
        now = health()
        silent = wall() - now.last_round_at > _SILENT_SECONDS
        age = None if now.replays_at is None else max(wall() - now.replays_at, 0.0)
        told = "silent" if silent else "ok"
        body = {"status": told, "version": __version__, **asdict(now), "replays_age": age}
        return JSONResponse(body, status_code=503 if silent else 200)

    @app.get("/v1/streams")
    def streams() -> list[dict[str, Any]]:
        return [status.to_json() for status in service.statuses()]

    @app.get("/v1/streams/{stream}")
    def status(stream: str) -> dict[str, Any]:
        return service.status(stream).to_json()

    @app.get("/v1/streams/{stream}/events")
    def events(
        stream: str, after: _Int64 = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 200
    ) -> list[dict[str, Any]]:
        return [asdict(event) for event in service.events(stream, after, limit)]


def _add_starts(app: FastAPI, service: StreamService, guarded: list[Any]) -> None:
    @app.post("/v1/streams/{stream}/ensure", dependencies=guarded)
    def ensure(stream: str, body: EnsureBody) -> dict[str, Any]:
        answer = service.ensure(
            stream,
            pipeline=body.pipeline,
            contract_hash=body.contract_hash,
            owner=body.owner.owner(),
            key=body.idempotency_key,
        )
        return answer.to_json()

    @app.post("/v1/streams/{stream}/restart", dependencies=guarded)
    def restart(stream: str, body: RestartBody) -> dict[str, Any]:
        owner = body.owner.owner() if body.owner else Owner("cli", body.actor.partition(":")[2] or body.actor)
        answer = service.restart(
            stream,
            actor=body.actor,
            reason=body.reason,
            owner=owner,
            contract_hash=body.contract_hash,
            key=body.idempotency_key,
            origin=body.origin.origin() if body.origin else None,
        )
        return answer.to_json()


def _add_stops(app: FastAPI, service: StreamService, guarded: list[Any]) -> None:
    @app.post("/v1/streams/{stream}/stop", dependencies=guarded)
    def stop(stream: str, body: StopBody) -> dict[str, Any]:
        request = StopRequest(
            actor=body.actor,
            reason=body.reason,
            deadline_seconds=body.deadline_seconds,
            kill=body.mode == "kill",
            owner=body.owner.owner() if body.owner else None,
            generation=body.generation,
        )
        return service.stop(stream, request).to_json()

    @app.post("/v1/streams/{stream}/drain", dependencies=guarded)
    def drain(stream: str, body: DrainBody) -> dict[str, Any]:
        return service.drain(stream, DrainRequest(**body.model_dump())).to_json()

    @app.post("/v1/streams/{stream}/retire", dependencies=guarded)
    def retire(stream: str, body: RetireBody) -> dict[str, Any]:
        return service.retire(stream, **body.model_dump()).to_json()

    @app.post("/v1/platform/suspend", dependencies=guarded)
    def suspend(body: ActorBody) -> list[dict[str, Any]]:
        return _all(service.suspend(body.actor))

    @app.post("/v1/platform/resume", dependencies=guarded)
    def resume(body: ActorBody) -> list[dict[str, Any]]:
        return _all(service.resume(body.actor))


def _all(statuses: list[StreamStatus]) -> list[dict[str, Any]]:
    return [status.to_json() for status in statuses]


def _guard(token: str) -> Callable[[Request], None]:
    expected = token.encode()

    def check(request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), expected):
            raise HTTPException(401, "a write needs the supervisor's token")

    return check


async def _limit_body(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
    """Bodies here are small; the length is checked before anything is read, chunked ones are refused."""
    if request.method in ("POST", "PUT", "PATCH"):
        length = request.headers.get("content-length", "")
        if not length.isdigit():
            return _answer(411, "length_required", "a request needs its length")
        if int(length) > MAX_BODY:
            return _answer(413, "too_large", f"a request may have {MAX_BODY} bytes, this one has {length}")
    return await call(request)


def _on_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HeadgateError)
    for kind, status, code in _STATUS:
        if isinstance(error, kind):
            return _answer(status, code, error.message, error.help or error.expected)
    return _answer(500, "internal", error.message, error.help)


def _on_invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()]
    return _answer(400, "bad_request", "; ".join(problems))


def _on_http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    codes = {401: "unauthorized", 404: "not_found", 405: "method_not_allowed"}
    help = "supervisor.token in the settings names it" if error.status_code == 401 else None
    return _answer(error.status_code, codes.get(error.status_code, "error"), str(error.detail), help)


def _on_surprise(journal: Journal) -> Callable[[Request, Exception], JSONResponse]:
    def answer(request: Request, error: Exception) -> JSONResponse:
        journal.write(
            "request failed",
            level="error",
            method=request.method,
            path=request.url.path,
            error=f"{type(error).__name__}: {error}",
            traceback="".join(traceback.format_exception(error)),
        )
        help = "the supervisor's log has the traceback: headgate logs supervisor"
        return _answer(
            500, "internal", f"the supervisor failed at this request: {type(error).__name__}", help
        )

    return answer


def _answer(status: int, code: str, message: str, help: str | None = None) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message, "help": help}}, status_code=status)
