"""For an Airflow on SQLite: its API server handles one writing request at a time.

Without it the server can wait for itself. A route leaves its transaction open until the event loop gets
to commit it, and the audit log of another request writes from that same loop: it waits for SQLite's
lock, which only the loop could set free. Nothing is answered until SQLite gives up
(`headgate.local.airflow.CONNECT_ARGS`). SQLite writes one transaction at a time anyway, so waiting before
the transaction begins costs nothing.

Airflow loads this file from `plugins_folder`, which `headgate.local.airflow` sets where SQLite is used.
"""

from __future__ import annotations

import asyncio

from airflow.plugins_manager import AirflowPlugin
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["OneWriter", "OneWriterPlugin"]

READING = frozenset({"GET", "HEAD", "OPTIONS"})


class OneWriter:
    """ASGI middleware: a request that may write begins when the one before it has been answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READING:
            await self._app(scope, receive, send)
            return
        async with self._turn:
            await self._app(scope, receive, send)


class OneWriterPlugin(AirflowPlugin):  # type: ignore[misc]
    name = "headgate_one_writer"
    fastapi_root_middlewares = [{"name": "one writer at a time", "middleware": OneWriter}]  # noqa: RUF012
