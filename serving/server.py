"""Runs the API behind waitress until it is asked to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

from headgate.errors import HeadgateError
from headgate.settings import Settings
from serving.app import create_app
from serving.contracts import AppliedOutputs
from serving.results import ResultStore

__all__ = ["serve"]

THREADS = 8
REDIS_SECONDS = 3.0  # a request does not wait longer for Redis


def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve on the configured address. SIGTERM and Ctrl-C end it after the running requests."""
    from waitress import create_server

    store = ResultStore.from_settings(settings, timeout_seconds=REDIS_SECONDS)
    app = create_app(store, AppliedOutputs(settings.state))
    host, port = settings.serving.host, settings.serving.port
    try:
        server = create_server(app, host=host, port=port, threads=THREADS, ident="headgate")
    except (OSError, ValueError, OverflowError) as error:  # ValueError: no such host
        raise HeadgateError(
            f"serving cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}",
            help="stop what uses the port, or set HEADGATE_SERVING_PORT",
        ) from error
    before = signal.signal(signal.SIGTERM, _end)
    say(f"serving on {settings.serving.url}/api")
    try:
        server.run()
    finally:
        signal.signal(signal.SIGTERM, before)
        server.close()
        store.close()


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)  # waitress ends its threads on it
