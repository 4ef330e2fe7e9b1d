"""A broker, a Redis and a supervisor of a private installation: processes to start, kill and start again.

Every port is free at the moment of choosing, all state lies below one folder, and each process is ended
by its own id.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from headgate.errors import ServiceError
from headgate.local import health
from headgate.local.kafka import broker_of, format_storage
from headgate.local.ports import accepts, free_port
from headgate.local.redis import prepare, redis_of
from headgate.settings import Settings

__all__ = ["BrokerService", "RedisService", "Service", "SupervisorService", "private_environ", "until"]

START_SECONDS = 60.0
STOP_SECONDS = 20.0
_PORTS = (
    "LOCAL_KAFKA_CONTROLLER_PORT",
    "LOCAL_REDIS_PORT",
    "LOCAL_PROMETHEUS_PORT",
    "LOCAL_ALERTMANAGER_PORT",
    "LOCAL_AIRFLOW_LOG_PORT",
    "LOCAL_AIRFLOW_TRIGGER_LOG_PORT",
    "SUPERVISOR_PORT",
    "SERVING_PORT",
    "EXPORTER_PORT",
    "AIRFLOW_PORT",
)


def private_environ(home: Path, state: str) -> dict[str, str]:
    """HEADGATE_* variables of an installation of its own: its state folder, every port free."""
    taken: set[int] = set()
    while len(taken) < len(_PORTS) + 1:
        taken.add(free_port())
    ports = list(taken)
    values = {f"HEADGATE_{key}": str(port) for key, port in zip(_PORTS, ports, strict=False)}
    values["HEADGATE_KAFKA_BROKERS"] = f"127.0.0.1:{ports[-1]}"
    values["HEADGATE_REDIS_URL"] = f"redis://127.0.0.1:{values['HEADGATE_LOCAL_REDIS_PORT']}/0"
    values["HEADGATE_HOME"] = str(home)
    values["HEADGATE_ROOTS_STATE"] = state
    return values


def until(look: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll. Raises ServiceError when it takes longer."""
    end = time.monotonic() + seconds
    while not look():
        if time.monotonic() > end:
            raise ServiceError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)


@dataclass
class Service:
    """One process; `kill` and `start` take it away and bring it back."""

    name: str
    command: list[str]
    host: str
    port: int
    log: Path
    environ: dict[str, str] | None = field(default=None, repr=False)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        if self.process is None:
            raise ServiceError(f"{self.name} does not run")
        return self.process.pid

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environ,
                start_new_session=True,
            )
        until(self._ready, START_SECONDS, f"{self.name} takes connections on {self.address}, see {self.log}")

    def _ready(self) -> bool:
        code = self.process.poll() if self.process else None
        if code is not None:
            raise ServiceError(f"{self.name} ended with {code}:\n{self.tail()}")
        return accepts(self.host, self.port)

    def stop(self) -> None:
        """Ask it to end, and make it end; nothing to do when it has."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.process = None

    def kill(self) -> None:
        """kill -9, as a machine that runs out of memory would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


@dataclass
class BrokerService(Service):
    """A real Kafka broker; `bootstrap` is what clients connect to."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        local = broker_of(settings)
        format_storage(local)
        return cls("kafka", local.command(), local.host, local.port, settings.state / "kafka.log")

    @property
    def bootstrap(self) -> str:
        return self.address


@dataclass
class RedisService(Service):
    @classmethod
    def of(cls, settings: Settings) -> Self:
        local = redis_of(settings)
        prepare(local)
        return cls("redis", local.command(), local.host, local.port, settings.state / "redis.log")

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    def _ready(self) -> bool:
        # It takes connections before it has loaded its file.
        return super()._ready() and health.Redis(self.host, self.port)().ok


@dataclass
class SupervisorService(Service):
    """`headgate supervisor` of the installation; its drivers outlive it."""

    @classmethod
    def of(cls, settings: Settings, environ: dict[str, str]) -> Self:
        command = [str(Path(sys.executable).with_name("headgate")), "supervisor"]
        own, log = settings.supervisor, settings.state / "supervisor.log"
        return cls("supervisor", command, own.host, own.port, log, environ)

    def _ready(self) -> bool:
        return super()._ready() and health.Http(f"http://{self.address}/healthz")().ok
