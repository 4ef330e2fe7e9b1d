"""The supervisor's client, synchronous and asynchronous, with the errors of `headgate.errors`.

Every call has a timeout. SupervisorUnavailable says that nothing is known: it is not a statement about
any stream. A write that ended so may or may not have been carried out; with the same idempotency key
it can be sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import httpx

from headgate.streams.calls import (
    Call,
    drain_call,
    ensure_call,
    events_call,
    headers,
    platform_call,
    read,
    restart_call,
    retire_call,
    status_call,
    stop_call,
    unavailable,
)
from headgate.streams.model import Event, Owner, StreamStatus

if TYPE_CHECKING:
    from headgate.checkpoints.origin import Origin
    from headgate.settings import Settings

__all__ = ["AsyncSupervisorClient", "SupervisorClient", "client_from"]

TIMEOUT_SECONDS = 10.0


class SupervisorClient:
    """Use it as a context manager, or close it. One per thread."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = TIMEOUT_SECONDS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url
        # trust_env: the token must not go through a proxy that the environment names for other addresses.
        self._http = httpx.Client(
            base_url=url, headers=headers(token), timeout=timeout, transport=transport, trust_env=False
        )

    @property
    def url(self) -> str:
        return self._url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def health(self) -> dict[str, Any]:
        """Also of a supervisor that is up and does not reconcile: `status` is then `silent`."""
        answer = self._send(Call("GET", "/healthz"), accept=(200, 503))
        assert isinstance(answer, dict)
        return answer

    def streams(self) -> list[StreamStatus]:
        return [StreamStatus.from_json(item) for item in self._send(Call("GET", "/v1/streams"))]

    def status(self, stream: str) -> StreamStatus:
        return StreamStatus.from_json(self._send(status_call(stream)))

    def events(self, stream: str, after: int = 0, limit: int = 200) -> list[Event]:
        """In order; with `after=-1` the newest `limit` ones."""
        return [Event(**item) for item in self._send(events_call(stream, after, limit))]

    def ensure(
        self, stream: str, *, pipeline: str, contract_hash: str, owner: Owner, idempotency_key: str
    ) -> StreamStatus:
        call = ensure_call(stream, pipeline, contract_hash, owner, idempotency_key)
        return StreamStatus.from_json(self._send(call))

    def stop(
        self,
        stream: str,
        *,
        actor: str,
        reason: str = "",
        owner: Owner | None = None,
        generation: int | None = None,
        mode: str = "graceful",
        deadline_seconds: float = 60.0,
    ) -> StreamStatus:
        call = stop_call(
            stream,
            actor=actor,
            reason=reason,
            owner=owner,
            generation=generation,
            mode=mode,
            deadline_seconds=deadline_seconds,
        )
        return StreamStatus.from_json(self._send(call))

    def restart(
        self,
        stream: str,
        *,
        actor: str,
        idempotency_key: str,
        reason: str = "",
        owner: Owner | None = None,
        contract_hash: str | None = None,
        origin: Origin | None = None,
    ) -> StreamStatus:
        """`owner` takes the stream only if nobody waits for it any more."""
        call = restart_call(
            stream,
            actor=actor,
            reason=reason,
            idempotency_key=idempotency_key,
            owner=owner,
            contract_hash=contract_hash,
            origin=origin,
        )
        return StreamStatus.from_json(self._send(call))

    def drain(
        self,
        stream: str,
        *,
        actor: str,
        reason: str = "",
        deadline_seconds: float = 600.0,
        stop_seconds: float = 60.0,
    ) -> StreamStatus:
        """Stop once what the topics hold now is committed by every query; until then it runs on."""
        call = drain_call(
            stream, actor=actor, reason=reason, deadline_seconds=deadline_seconds, stop_seconds=stop_seconds
        )
        return StreamStatus.from_json(self._send(call))

    def retire(
        self, stream: str, *, actor: str, reason: str = "", deadline_seconds: float = 60.0
    ) -> StreamStatus:
        """End a stream for good; data and checkpoints stay."""
        call = retire_call(stream, actor=actor, reason=reason, deadline_seconds=deadline_seconds)
        return StreamStatus.from_json(self._send(call))

    def suspend(self, actor: str) -> list[StreamStatus]:
        return [StreamStatus.from_json(item) for item in self._send(platform_call("suspend", actor))]

    def resume(self, actor: str) -> list[StreamStatus]:
        return [StreamStatus.from_json(item) for item in self._send(platform_call("resume", actor))]

    def _send(self, call: Call, accept: tuple[int, ...] = (200,)) -> Any:
        timeout = httpx.USE_CLIENT_DEFAULT if call.timeout is None else call.timeout
        try:
            answer = self._http.request(
                call.method, call.path, params=call.query or None, json=call.body, timeout=timeout
            )
        except httpx.HTTPError as error:
            raise unavailable(self._url, error) from error
        return read(answer, accept, self._url)


class AsyncSupervisorClient:
    """The same calls for an event loop; it blocks nowhere."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = TIMEOUT_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url
        self._http = httpx.AsyncClient(
            base_url=url, headers=headers(token), timeout=timeout, transport=transport, trust_env=False
        )

    @property
    def url(self) -> str:
        return self._url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def health(self) -> dict[str, Any]:
        answer = await self._send(Call("GET", "/healthz"), accept=(200, 503))
        assert isinstance(answer, dict)
        return answer

    async def streams(self) -> list[StreamStatus]:
        return [StreamStatus.from_json(item) for item in await self._send(Call("GET", "/v1/streams"))]

    async def status(self, stream: str) -> StreamStatus:
        return StreamStatus.from_json(await self._send(status_call(stream)))

    async def events(self, stream: str, after: int = 0, limit: int = 200) -> list[Event]:
        return [Event(**item) for item in await self._send(events_call(stream, after, limit))]

    async def ensure(
        self, stream: str, *, pipeline: str, contract_hash: str, owner: Owner, idempotency_key: str
    ) -> StreamStatus:
        call = ensure_call(stream, pipeline, contract_hash, owner, idempotency_key)
        return StreamStatus.from_json(await self._send(call))

    async def stop(
        self,
        stream: str,
        *,
        actor: str,
        reason: str = "",
        owner: Owner | None = None,
        generation: int | None = None,
        mode: str = "graceful",
        deadline_seconds: float = 60.0,
    ) -> StreamStatus:
        call = stop_call(
            stream,
            actor=actor,
            reason=reason,
            owner=owner,
            generation=generation,
            mode=mode,
            deadline_seconds=deadline_seconds,
        )
        return StreamStatus.from_json(await self._send(call))

    async def restart(
        self,
        stream: str,
        *,
        actor: str,
        idempotency_key: str,
        reason: str = "",
        owner: Owner | None = None,
        contract_hash: str | None = None,
        origin: Origin | None = None,
    ) -> StreamStatus:
        call = restart_call(
            stream,
            actor=actor,
            reason=reason,
            idempotency_key=idempotency_key,
            owner=owner,
            contract_hash=contract_hash,
            origin=origin,
        )
        return StreamStatus.from_json(await self._send(call))

    async def drain(self, stream: str, *, actor: str, reason: str = "", **seconds: float) -> StreamStatus:
        """`deadline_seconds` and `stop_seconds` as in `SupervisorClient.drain`."""
        limits = {"deadline_seconds": 600.0, "stop_seconds": 60.0, **seconds}
        call = drain_call(stream, actor=actor, reason=reason, **limits)
        return StreamStatus.from_json(await self._send(call))

    async def retire(
        self, stream: str, *, actor: str, reason: str = "", deadline_seconds: float = 60.0
    ) -> StreamStatus:
        call = retire_call(stream, actor=actor, reason=reason, deadline_seconds=deadline_seconds)
        return StreamStatus.from_json(await self._send(call))

    async def suspend(self, actor: str) -> list[StreamStatus]:
        return [StreamStatus.from_json(item) for item in await self._send(platform_call("suspend", actor))]

    async def resume(self, actor: str) -> list[StreamStatus]:
        return [StreamStatus.from_json(item) for item in await self._send(platform_call("resume", actor))]

    async def _send(self, call: Call, accept: tuple[int, ...] = (200,)) -> Any:
        timeout = httpx.USE_CLIENT_DEFAULT if call.timeout is None else call.timeout
        try:
            answer = await self._http.request(
                call.method, call.path, params=call.query or None, json=call.body, timeout=timeout
            )
        except httpx.HTTPError as error:
            raise unavailable(self._url, error) from error
        return read(answer, accept, self._url)


def client_from(settings: Settings) -> SupervisorClient:
    """A client for the supervisor of these settings. Raises SettingsError without its token."""
    return SupervisorClient(settings.supervisor_url, settings.secret(settings.supervisor.token))
