from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from headgate.airflow.plugins.one_writer import OneWriter, OneWriterPlugin


class Server:
    """The application behind the middleware: each request waits until it is let go."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope.get("path", scope["type"])
        self.inside.append(name)
        await self.gates.setdefault(name, asyncio.Event()).wait()
        if name == "breaks":
            raise ValueError(name)


async def _receive() -> Message:
    return {"type": "http.request"}


async def _send(message: Message) -> None:
    raise AssertionError(message)


def _request(app: OneWriter, method: str, path: str) -> asyncio.Task[None]:
    scope = {"type": "http", "method": method, "path": path}
    return asyncio.create_task(app(scope, _receive, _send))  # type: ignore[arg-type]


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE"])
def test_a_write_begins_when_the_one_before_it_was_answered_and_reads_do_not_wait(method: str) -> None:
    async def play() -> None:
        server = Server()
        app = OneWriter(server)
        first, second = _request(app, "POST", "first"), _request(app, method, "second")
        read = _request(app, "GET", "read")
        await _settle()
        assert server.inside == ["first", "read"]
        server.gates["first"].set()
        await _settle()
        assert server.inside == ["first", "read", "second"]
        for gate in server.gates.values():
            gate.set()
        await asyncio.gather(first, second, read)

    asyncio.run(play())


def test_a_write_that_breaks_or_is_given_up_lets_the_next_one_in() -> None:
    async def play() -> None:
        server = Server()
        app = OneWriter(server)
        broken, given_up, last = (_request(app, "POST", name) for name in ("breaks", "given up", "last"))
        await _settle()
        server.gates["breaks"].set()
        await _settle()
        given_up.cancel()
        await _settle()
        assert server.inside == ["breaks", "given up", "last"]
        server.gates["last"].set()
        results: list[Any] = await asyncio.gather(broken, given_up, last, return_exceptions=True)
        assert [type(each) for each in results] == [ValueError, asyncio.CancelledError, type(None)]

    asyncio.run(play())


def test_what_is_no_request_passes_by() -> None:
    async def play() -> None:
        server = Server()
        app = OneWriter(server)
        write = _request(app, "POST", "write")
        lifespan = asyncio.create_task(app({"type": "lifespan"}, _receive, _send))
        await _settle()
        assert server.inside == ["write", "lifespan"]
        for gate in server.gates.values():
            gate.set()
        await asyncio.gather(write, lifespan)

    asyncio.run(play())


def test_airflow_is_given_the_middleware_as_its_plugin() -> None:
    [found] = OneWriterPlugin.fastapi_root_middlewares
    assert found["middleware"] is OneWriter
