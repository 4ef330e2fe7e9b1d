"""Supervisors and stand-in drivers for tests: started on free ports, ended by their own process ids."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

from headgate.streams import proc, processes
from headgate.streams.client import SupervisorClient
from headgate.streams.model import Owner, Phase, StreamStatus

T = TypeVar("T")
HASH = "ab" * 32
ALICE = Owner(kind="cli", user="alice")
FAST = {"backoff_base": 0.2, "healthy_seconds": 2.0, "stop_deadline": 5.0, "remains_grace": 1.0}


def until(what: str, look: Callable[[], T], *, seconds: float = 60.0) -> T:
    """Poll until `look` answers something true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}; last answer {look()!r}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Installation:
    """A state folder with its supervisors and drivers."""

    def __init__(self, home: Path, store_url: str | None = None) -> None:
        self.home = home
        self.state = home / "var"
        self.store_url = store_url
        self.supervisors: list[subprocess.Popen[bytes]] = []
        self.clients: list[SupervisorClient] = []
        self.policy: dict[str, float] = dict(FAST)
        self.environ: dict[str, str] = {}

    def launch(self, port: int) -> subprocess.Popen[bytes]:
        """A supervisor's process, up or not."""
        environment = {
            **os.environ,
            "HEADGATE_HOME": str(self.home),
            "HEADGATE_SUPERVISOR_PORT": str(port),
            "HEADGATE_SUPERVISOR_POLL_SECONDS": "0.1",
            "TEST_POLICY": json.dumps(self.policy),
            **self.environ,
        }
        if self.store_url:
            environment["HEADGATE_STORE_URL"] = self.store_url
        script = Path(__file__).with_name("stand_in_supervisor.py")
        with (self.home / "supervisor.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, str(script)], env=environment, stdout=log, stderr=log)
        self.supervisors.append(process)
        return process

    def supervise(self) -> SupervisorClient:
        """Start a supervisor and answer its client once it is healthy."""
        port = free_port()
        process = self.launch(port)
        token = self.state / "secrets" / "supervisor.token"
        until("the token", lambda: token.exists() or process.poll() is not None)
        client = SupervisorClient(f"http://127.0.0.1:{port}", token.read_text().strip())
        self.clients.append(client)
        until("a healthy supervisor", lambda: self.healthy(client, process))
        return client

    def journal(self) -> str:
        return (self.home / "supervisor.log").read_text()

    def healthy(self, client: SupervisorClient, process: subprocess.Popen[bytes]) -> bool:
        from headgate.errors import SupervisorUnavailable

        assert process.poll() is None, self.journal()
        try:
            return client.health()["rounds"] > 0
        except SupervisorUnavailable:
            return False

    def kill_supervisor(self, number: int = -1, how: int = signal.SIGKILL) -> int:
        process = self.supervisors[number]
        process.send_signal(how)
        return process.wait(120)

    def folder(self, stream: str) -> Path:
        folder = self.state / "streams" / stream
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def behave(self, stream: str, **behaviour: object) -> None:
        draft = self.folder(stream) / ".behaviour"
        draft.write_text(json.dumps(behaviour))
        draft.replace(self.folder(stream) / "behaviour.json")

    def preflight(self, stream: str, **answer: object) -> None:
        """What preflight says of the stream's next start; without an answer it may start."""
        path = self.folder(stream) / "preflight.json"
        if not answer:
            path.unlink()
            return
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(answer))
        draft.replace(path)

    def starts(self, stream: str) -> list[tuple[int, int, int]]:
        """Each start of a driver: epoch, generation, process id."""
        path = self.folder(stream) / "starts"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(a), int(b), int(c)) for a, b, c in (line.split() for line in lines)]

    def commits(self, stream: str) -> list[tuple[int, int]]:
        """Each commit: batch id and epoch."""
        path = self.folder(stream) / "commits"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(a), int(b)) for a, b in (line.split() for line in lines)]

    def members(self, stream: str) -> list[proc.Process]:
        return processes.remains(processes.marks_of(self.folder(stream)))

    def runner(self, stream: str) -> int:
        (pid,) = processes.runners_of(processes.marks_of(self.folder(stream)))
        return pid

    def clear(self) -> None:
        """End all that was started here."""
        for client in self.clients:
            client.close()
        for process in self.supervisors:
            if process.poll() is None:
                process.kill()
            process.wait(120)
        streams = self.state / "streams"
        for folder in streams.iterdir() if streams.exists() else []:
            prefix = processes.marks_of(folder)
            until("all drivers dead", lambda p=prefix: processes.kill_all(p, runners=True) == 0)


def start(
    client: SupervisorClient, stream: str, key: str = "k1", owner: Owner = ALICE, contract: str = HASH
) -> StreamStatus:
    return client.ensure(stream, pipeline=stream, contract_hash=contract, owner=owner, idempotency_key=key)


def in_phase(
    client: SupervisorClient, stream: str, phase: Phase, *, epoch: int | None = None
) -> StreamStatus:
    def look() -> StreamStatus | None:
        status = client.status(stream)
        return status if status.phase is phase and epoch in (None, status.epoch) else None

    return until(f"{stream} {phase}", look)


def ends(pid: int) -> bool:
    """Whether a process is gone, or only waits to be reaped."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
