"""Real services for the end-to-end tests: free ports, private state below var/, ended by pid."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from headgate.local import health
from headgate.local.jars import jar_sets, missing
from headgate.local.kafka import Broker, broker_of, format_storage
from headgate.local.ports import accepts, free_port
from headgate.local.redis import RedisServer, prepare, redis_of
from headgate.settings import Settings, load_settings

CHECKOUT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 20.0
UP_SECONDS = 1500.0

T = TypeVar("T")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """kafka-python leaves the sockets of refused connections to the garbage collector."""
    here = str(Path(__file__).parent)
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"))
            item.add_marker(
                pytest.mark.filterwarnings(
                    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
                )
            )


def _poll_until(predicate: Callable[[], T], deadline: float, describe: str) -> T:
    """Call `predicate` until it returns something true; fail with `describe` after `deadline` seconds.

    An error that the predicate raises counts as "not yet" and is shown if time runs out.
    """
    end = time.monotonic() + deadline
    last: Exception | None = None
    while True:
        try:
            value = predicate()
            last = None
            if value:
                return value
        except AssertionError:
            raise
        except Exception as error:  # noqa: BLE001 - shown below when the deadline passes
            last = error
        if time.monotonic() > end:
            because = f"; the last error: {type(last).__name__}: {last}" if last else ""
            pytest.fail(f"not within {deadline:.0f} s: {describe}{because}")
        time.sleep(0.1)


@pytest.fixture(scope="session")
def poll_until() -> Callable[[Callable[[], T], float, str], T]:
    """`poll_until(predicate, deadline, describe)`: the predicate's first true value, or a failed test."""
    return _poll_until


@dataclass
class Service:
    """One process under test; `kill` and `start` let a test take it away and bring it back."""

    name: str
    command: list[str]
    host: str
    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} does not run"
        return self.process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        _poll_until(self._ready, START_SECONDS, f"{self.name} takes connections on {self.address}")

    def _ready(self) -> bool:
        code = self.process.poll() if self.process else None
        assert code is None, f"{self.name} ended with {code}:\n{self.tail()}"
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
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


@dataclass
class BrokerService(Service):
    """A real Kafka broker; `bootstrap` is what clients connect to."""

    @property
    def bootstrap(self) -> str:
        return self.address


@dataclass
class RedisService(Service):
    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    def _ready(self) -> bool:
        # It takes connections before it has loaded its file.
        return super()._ready() and health.Redis(self.host, self.port)().ok


def _private_environ(name: str) -> dict[str, str]:
    """HEADGATE_* variables of an installation of its own: state below var/, every port free."""
    ports = {
        "KAFKA_BROKERS": None,
        "LOCAL_KAFKA_CONTROLLER_PORT": None,
        "LOCAL_REDIS_PORT": None,
        "LOCAL_PROMETHEUS_PORT": None,
        "LOCAL_ALERTMANAGER_PORT": None,
        "LOCAL_AIRFLOW_LOG_PORT": None,
        "LOCAL_AIRFLOW_TRIGGER_LOG_PORT": None,
        "SUPERVISOR_PORT": None,
        "SERVING_PORT": None,
        "EXPORTER_PORT": None,
        "AIRFLOW_PORT": None,
    }
    taken: set[int] = set()
    values = {}
    for key in ports:
        port = free_port()
        while port in taken:
            port = free_port()
        taken.add(port)
        values[f"HEADGATE_{key}"] = str(port)
    values["HEADGATE_KAFKA_BROKERS"] = f"127.0.0.1:{values['HEADGATE_KAFKA_BROKERS']}"
    values["HEADGATE_REDIS_URL"] = f"redis://127.0.0.1:{values['HEADGATE_LOCAL_REDIS_PORT']}/0"
    values["HEADGATE_HOME"] = str(CHECKOUT)
    values["HEADGATE_ROOTS_STATE"] = f"var/test-{name}"
    return values


@pytest.fixture(scope="session")
def private_environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], dict[str, str]]]:
    """`private_environ(name)`: HEADGATE_* of an installation of its own; its state is removed at the end."""
    made: list[Path] = []

    def make(name: str) -> dict[str, str]:
        environ = _private_environ(f"{name}-{os.getpid()}")
        made.append(CHECKOUT / environ["HEADGATE_ROOTS_STATE"])
        made[-1].mkdir(parents=True)
        return environ

    yield make
    if os.environ.get("KEEP_TEST_STATE"):
        sys.stderr.write(f"kept: {', '.join(map(str, made))}\n")
        return
    for path in made:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def service_environ(private_environ: Callable[[str], dict[str, str]]) -> dict[str, str]:
    """The environment that `broker`, `redis_server` and `service_settings` share."""
    return private_environ("services")


@pytest.fixture(scope="session")
def service_settings(service_environ: dict[str, str]) -> Settings:
    """Settings that point at `broker` and `redis_server`, with a private state root."""
    settings, _ = load_settings(environ=service_environ)
    return settings


@pytest.fixture(scope="session")
def broker(service_settings: Settings) -> Iterator[BrokerService]:
    """A real Kafka broker, shared by the session: give topics names of your own."""
    lacking = [jar.coordinates for jar_set in jar_sets(service_settings) for jar in missing(jar_set)]
    assert not lacking, f"jars are missing, run `make jars`: {lacking[:3]}"
    local: Broker = broker_of(service_settings)
    format_storage(local)
    log = service_settings.state / "kafka.log"
    service = BrokerService("kafka", local.command(), local.host, local.port, log)
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="session")
def redis_server(service_settings: Settings) -> Iterator[RedisService]:
    """A real Redis server, shared by the session: use an environment or pipeline name of your own."""
    local: RedisServer = redis_of(service_settings)
    prepare(local)
    log = service_settings.state / "redis.log"
    service = RedisService("redis", local.command(), local.host, local.port, log)
    try:
        service.start()
        yield service
    finally:
        service.stop()


@dataclass(frozen=True)
class PlatformUnderTest:
    """A whole platform with state and ports of its own; `headgate` runs the command against it."""

    environ: dict[str, str]

    @property
    def state(self) -> Path:
        return CHECKOUT / self.environ["HEADGATE_ROOTS_STATE"]

    def headgate(self, *arguments: str, seconds: float = UP_SECONDS) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("headgate")), *arguments]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("HEADGATE_")}
        return subprocess.run(
            command,
            cwd=CHECKOUT,
            env={**clean, **self.environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        done = self.headgate(*arguments)
        assert done.stdout, f"headgate {' '.join(arguments)} printed nothing:\n{done.stderr}"
        return json.loads(done.stdout)


@pytest.fixture(scope="session")
def platform(private_environ: Callable[[str], dict[str, str]]) -> Iterator[PlatformUnderTest]:
    """`headgate up` with both pipelines, once for the session; ended by `headgate down`."""
    under_test = PlatformUnderTest(private_environ("platform"))
    try:
        started = under_test.headgate("up")
        assert started.returncode == 0, started.stdout + started.stderr
        yield under_test
    finally:
        stopped = under_test.headgate("down")
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr
