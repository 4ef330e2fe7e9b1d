"""The requests that the supervisor's clients send, and how their answers are read. No connection here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from headgate.checkpoints.origin import Origin
from headgate.errors import (
    HeadgateError,
    NotFoundError,
    RefusedError,
    ServiceError,
    SettingsError,
    SupervisorUnavailable,
)
from headgate.streams.model import Owner

__all__ = [
    "Call",
    "drain_call",
    "ensure_call",
    "events_call",
    "headers",
    "platform_call",
    "read",
    "restart_call",
    "retire_call",
    "status_call",
    "stop_call",
    "unavailable",
]


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    path: str
    query: dict[str, int] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    timeout: float | None = None  # where the supervisor itself has to ask somebody


def drain_call(stream: str, *, actor: str, reason: str, deadline_seconds: float, stop_seconds: float) -> Call:
    body = {
        "actor": actor,
        "reason": reason,
        "deadline_seconds": deadline_seconds,
        "stop_seconds": stop_seconds,
    }
    return Call("POST", f"/v1/streams/{quote(stream, safe='')}/drain", body=body, timeout=60.0)


def retire_call(stream: str, *, actor: str, reason: str, deadline_seconds: float) -> Call:
    body = {"actor": actor, "reason": reason, "deadline_seconds": deadline_seconds}
    return Call("POST", f"/v1/streams/{quote(stream, safe='')}/retire", body=body)


def ensure_call(stream: str, pipeline: str, contract_hash: str, owner: Owner, idempotency_key: str) -> Call:
    body = {
        "pipeline": pipeline,
        "contract_hash": contract_hash,
        "owner": asdict(owner),
        "idempotency_key": idempotency_key,
    }
    return Call("POST", f"/v1/streams/{quote(stream, safe='')}/ensure", body=body)


def stop_call(
    stream: str,
    *,
    actor: str,
    reason: str,
    owner: Owner | None,
    generation: int | None,
    mode: str,
    deadline_seconds: float,
) -> Call:
    body: dict[str, Any] = {
        "actor": actor,
        "reason": reason,
        "mode": mode,
        "deadline_seconds": deadline_seconds,
    }
    body["owner"] = asdict(owner) if owner else None
    body["generation"] = generation
    return Call("POST", f"/v1/streams/{quote(stream, safe='')}/stop", body=body)


def restart_call(
    stream: str,
    *,
    actor: str,
    reason: str,
    idempotency_key: str,
    owner: Owner | None,
    contract_hash: str | None,
    origin: Origin | None = None,
) -> Call:
    body = {
        "actor": actor,
        "reason": reason,
        "idempotency_key": idempotency_key,
        "owner": asdict(owner) if owner else None,
        "contract_hash": contract_hash,
    }
    if origin is not None:
        body["origin"] = origin.to_json()
    return Call("POST", f"/v1/streams/{quote(stream, safe='')}/restart", body=body)


def status_call(stream: str) -> Call:
    return Call("GET", f"/v1/streams/{quote(stream, safe='')}")


def events_call(stream: str, after: int, limit: int) -> Call:
    return Call("GET", f"/v1/streams/{quote(stream, safe='')}/events", {"after": after, "limit": limit})


def platform_call(verb: str, actor: str) -> Call:
    return Call("POST", f"/v1/platform/{verb}", body={"actor": actor})


def headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def unavailable(url: str, error: Exception) -> SupervisorUnavailable:
    return SupervisorUnavailable(
        f"the supervisor at {url} does not answer: {str(error) or type(error).__name__}",
        expected="a running supervisor; streams that run go on without it",
        help="headgate up, or headgate supervisor",
    )


def read(answer: httpx.Response, accept: tuple[int, ...], url: str) -> Any:
    try:
        data = answer.json()
    except ValueError as error:
        raise ServiceError(
            f"{url} answered {answer.status_code} and no JSON", expected="a headgate supervisor there"
        ) from error
    if answer.status_code in accept:
        return data
    raise _error(answer.status_code, data)


def _error(status: int, data: Any) -> HeadgateError:
    inner = data.get("error") if isinstance(data, dict) else None
    told = inner if isinstance(inner, dict) else {}
    message, help = str(told.get("message") or f"status {status}"), told.get("help")
    kinds: dict[int, type[HeadgateError]] = {
        401: SettingsError,
        404: NotFoundError,
        409: RefusedError,
        503: SupervisorUnavailable,
    }
    return kinds.get(status, ServiceError)(message, help=help)
