"""supervisord as the process manager: its start, its end, and its XML-RPC interface.

Programs never start by themselves: `headgate up` starts each when what it needs is healthy, and
supervisord restarts those that die afterwards.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from headgate.errors import ServiceError, UnavailableError
from headgate.local.execute import run_within
from headgate.local.manager_config import Endpoint, Layout, configuration, specification
from headgate.local.ports import free_port
from headgate.local.records import is_alive, read_record, record_of_pid, write_record
from headgate.local.secrets import write_private
from headgate.local.services import Service

__all__ = ["Manager", "ProgramState"]

# sockaddr_un holds 108 bytes with the closing zero; supervisord appends ".<pid>" while it binds.
SOCKET_LIMIT = 107 - len(".4194304")
START_SECONDS = 20.0
STOP_SECONDS = 30.0
MANAGER = "supervisord"


@dataclass(frozen=True, slots=True)
class ProgramState:
    name: str
    state: str
    pid: int
    detail: str

    @property
    def running(self) -> bool:
        return self.state in {"RUNNING", "STARTING"}


class Manager:
    """One installation's supervisord. Calls raise UnavailableError when it does not run."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    @property
    def running(self) -> bool:
        try:
            with self._rpc() as rpc:
                return bool(rpc.getState())
        except UnavailableError:
            return False

    def ensure(self, services: Sequence[Service], environ: Mapping[str, str]) -> bool:
        """Make supervisord run with exactly this configuration; True when it had to be started."""
        for folder in (self.layout.run, self.layout.log, self.layout.config.parent):
            folder.mkdir(parents=True, exist_ok=True)
        running = self.running
        endpoint = self._read_endpoint() if running else None
        endpoint = endpoint or self._new_endpoint()
        specifications = {service.name: specification(service, environ) for service in services}
        for name, text in specifications.items():
            write_private(self.layout.specification(name), text)
        write_private(self.layout.config, configuration(self.layout, endpoint, specifications))
        if running:
            self._update()
            return False
        self._start(endpoint)
        return True

    def states(self) -> dict[str, ProgramState]:
        with self._rpc() as rpc:
            return {
                item["name"]: ProgramState(item["name"], item["statename"], item["pid"], item["spawnerr"])
                for item in rpc.getAllProcessInfo()
            }

    def start(self, name: str) -> bool:
        """Start the program without waiting for it; False when it already runs."""
        with self._rpc() as rpc:
            try:
                rpc.startProcess(name, False)
            except xmlrpc.client.Fault as fault:
                if "ALREADY_STARTED" in fault.faultString:
                    return False
                raise ServiceError(f"supervisord cannot start {name}: {fault.faultString}") from fault
        return True

    def stop(self, name: str) -> None:
        """Stop the program and wait until it is gone."""
        with self._rpc() as rpc:
            try:
                rpc.stopProcess(name, True)
            except xmlrpc.client.Fault as fault:
                if "NOT_RUNNING" not in fault.faultString and "BAD_NAME" not in fault.faultString:
                    raise ServiceError(f"supervisord cannot stop {name}: {fault.faultString}") from fault

    def shutdown(self) -> None:
        """End supervisord itself, with whatever still runs under it."""
        record = read_record(self.layout.run, MANAGER)
        try:
            with self._rpc() as rpc:
                rpc.shutdown()
        except UnavailableError:
            return
        deadline = time.monotonic() + STOP_SECONDS
        while record is not None and is_alive(record) and time.monotonic() < deadline:
            time.sleep(0.05)

    def _start(self, endpoint: Endpoint) -> None:
        write_private(self.layout.endpoint, json.dumps({"url": endpoint.url} | _login(endpoint)))
        self.layout.socket.unlink(missing_ok=True)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.layout.config)]
        environ = {key: value for key, value in os.environ.items() if key != "HEADGATE_DEBUG"}
        done = run_within(START_SECONDS, "the start of supervisord", command, environ)
        deadline = time.monotonic() + START_SECONDS
        while done.returncode == 0 and time.monotonic() < deadline:
            if self.running:
                self._remember()
                return
            time.sleep(0.05)
        raise ServiceError(
            f"the process manager did not start: {(done.stderr + done.stdout).strip()}",
            help=f"see {self.layout.log / 'supervisord.log'}",
        )

    def _remember(self) -> None:
        with self._rpc() as rpc:
            record = record_of_pid(MANAGER, rpc.getPID())
        if record is not None:
            write_record(self.layout.run, record)

    def _update(self) -> None:
        """Take a changed configuration over: programs whose lines did not change are left alone."""
        with self._rpc() as rpc:
            [[added, changed, removed]] = rpc.reloadConfig()
            for name in [*changed, *removed]:
                rpc.stopProcessGroup(name, True)
                rpc.removeProcessGroup(name)
            for name in [*added, *changed]:
                rpc.addProcessGroup(name)

    def _new_endpoint(self) -> Endpoint:
        if len(os.fsencode(self.layout.socket)) <= SOCKET_LIMIT:
            return Endpoint(f"unix://{self.layout.socket}")
        return Endpoint(f"http://127.0.0.1:{free_port()}", "headgate", secrets.token_urlsafe(18))

    def _read_endpoint(self) -> Endpoint | None:
        try:
            return Endpoint(**json.loads(self.layout.endpoint.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    @contextmanager
    def _rpc(self) -> Iterator[Any]:
        from supervisor.xmlrpc import SupervisorTransport

        endpoint = self._read_endpoint()
        if endpoint is None:
            raise UnavailableError("the process manager does not run", help="headgate up")
        transport = SupervisorTransport(
            endpoint.username or None, endpoint.password or None, serverurl=endpoint.url
        )
        proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        try:
            yield proxy.supervisor
        except xmlrpc.client.Fault as fault:
            raise ServiceError(
                f"the process manager answered with an error: {fault.faultString}",
                help=f"see {self.layout.log / 'supervisord.log'}",
            ) from fault
        except (OSError, HTTPException, xmlrpc.client.ProtocolError) as error:
            raise UnavailableError(
                f"the process manager does not answer: {error}", help="headgate up"
            ) from error
        finally:
            transport.close()


def _login(endpoint: Endpoint) -> dict[str, str]:
    return {"username": endpoint.username, "password": endpoint.password} if endpoint.username else {}
