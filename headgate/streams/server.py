"""`headgate supervisor` as a process: one loop, one HTTP server, and an end that leaves drivers alone."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import uvicorn

from headgate import __version__
from headgate.contract.frozen import ContractStore
from headgate.errors import SettingsError, UnavailableError
from headgate.replays.keeper import ReplayKeeper
from headgate.settings import Settings
from headgate.streams.api import create_app
from headgate.streams.clearance import Ask
from headgate.streams.drain import EndsOf, end_offsets
from headgate.streams.journal import Journal
from headgate.streams.launch import Command, Launcher, driver_command
from headgate.streams.lease import SupervisorLease, holder_name
from headgate.streams.policy import Policy
from headgate.streams.schedule import SnapshotSchedule
from headgate.streams.service import StreamService
from headgate.streams.spares import SpareCommand, Spares, spare_command
from headgate.streams.store import StateStore
from headgate.streams.supervisor import Supervisor

__all__ = ["serve", "supervisor_token"]


def serve(
    settings: Settings,
    *,
    command: Command = driver_command,
    reserve: SpareCommand | None = spare_command,
    policy: Policy | None = None,
    lease_ttl: float = 8.0,
    ask: Ask | None = None,
    ends: EndsOf | None = None,
) -> None:
    """Supervise until SIGTERM or SIGINT. Drivers are not touched by the end of this process.

    `command`, `reserve`, `ask` and `ends` stand in for the Spark driver, the one in reserve, the preflight
    and Kafka in tests of processes.
    """
    journal = Journal()
    token = supervisor_token(settings)
    listener = _listen(settings.supervisor.host, settings.supervisor.port)
    store = _patient_store(settings, journal)
    lease = SupervisorLease(store, holder_name(os.getpid()), ttl=lease_ttl)
    supervisor = Supervisor(
        settings,
        store,
        lease,
        Launcher(settings, command),
        policy=policy,
        journal=journal,
        ask=ask,
        spares=Spares(settings, journal, command=reserve),
    )
    SnapshotSchedule(settings, store, lambda: supervisor.lease_epoch is not None, journal).start()
    replays = ReplayKeeper(
        settings,
        store,
        lambda: supervisor.lease_epoch is not None,
        journal,
        suspended=lambda: supervisor.suspended,
        policy=policy,
    )
    replays.start()
    service = StreamService(
        store,
        supervisor,
        ends=ends or end_offsets(settings),
        applied=lambda: ContractStore(settings.state).applied(),
    )
    app = create_app(
        service,
        lambda: replace(supervisor.health(), replays_at=replays.looked_at),
        token,
        wall=time.time,
        journal=journal,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.end())
    journal.write("supervisor up", url=settings.supervisor_url, version=__version__, pid=os.getpid())
    with _http(app, listener):
        supervisor.run()
    store.close()
    journal.write("supervisor ended", detail="drivers run on")


def supervisor_token(settings: Settings) -> str:
    """The token; a `file:` that is missing is made, readable for its owner only. Raises SettingsError."""
    reference = settings.supervisor.token
    kind, _, rest = reference.replace("{state}", str(settings.state)).partition(":")
    if kind == "file" and rest:
        path = settings.home / rest
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make_token(path)
    token = settings.secret(reference)
    if len(token) < 16:
        raise SettingsError(
            f"the supervisor's token {reference} is too short",
            expected="at least 16 characters",
            help="delete the file: `headgate supervisor` makes a new one",
        )
    return token


def _make_token(path: Path) -> None:
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        stream.write(secrets.token_urlsafe(32) + "\n")
    try:
        # A link does not replace: of two that start together one makes the token, both read it.
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UnavailableError(
            f"the supervisor cannot listen on {host}:{port}: {error.strerror}",
            expected="a free port, or no supervisor that runs already",
            help="headgate urls, or set HEADGATE_SUPERVISOR_PORT",
        ) from error
    return listener


def _patient_store(settings: Settings, journal: Journal) -> StateStore:
    """The store may come up after us; without it there is nothing to supervise by."""
    for attempt in range(60):
        try:
            return StateStore(settings.store_url)
        except UnavailableError as error:
            if attempt == 0:
                journal.write("store unavailable", level="error", error=str(error))
            time.sleep(1.0)
    return StateStore(settings.store_url)


@contextmanager
def _http(app: object, listener: socket.socket) -> Iterator[None]:
    """Serve on a thread of its own; signals are the loop's."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]  # an ASGI application
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=3,
        lifespan="off",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="http", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=5)
        listener.close()
