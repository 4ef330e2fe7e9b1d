"""Real services for the end-to-end tests: free ports, private state below var/, ended by pid."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from headgate.local.jars import jar_sets, missing
from headgate.settings import Settings, load_settings
from headgate.torture import services
from headgate.torture.services import BrokerService, RedisService

# Every test starts JVMs for seconds: the second compiler would take a core and be done when they end. Without
# it Java keeps 48 MiB for compiled code, which a driver fills in a minute or two, and then fails at random
# ("Out of space in CodeCache for method handle intrinsic"). With it it would be 240 MiB.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m")

# Files that take minutes, the longest first: what begins last must not be what all wait for in the end.
LONGEST = (
    "test_torture",
    "test_platform",
    "test_airflow_outages",
    "test_fencing",
    "test_airflow",
    "test_arrow_formats",
    "test_driver",
    "test_batch_bytes",
    "test_arrow_windows",
    "test_cluster",
    "test_replay",
    "test_upgrades",
    "test_s3_streams",
    "test_spare",
    "test_origins",
    "test_arrow_driver",
    "test_arrow_lane",
    "test_lifecycle",
    "test_formats",
)

CHECKOUT = Path(__file__).resolve().parents[2]
UP_SECONDS = 1500.0

T = TypeVar("T")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of the files; and kafka-python leaves the sockets of refused connections to the garbage
    collector."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))
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


@pytest.fixture(scope="session")
def private_environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], dict[str, str]]]:
    """`private_environ(name)`: HEADGATE_* of an installation of its own; its state is removed at the end."""
    made: list[Path] = []

    def make(name: str) -> dict[str, str]:
        environ = services.private_environ(CHECKOUT, f"var/test-{name}-{os.getpid()}")
        # Warming one takes a core for half a minute; test_spare has its own.
        environ["HEADGATE_SUPERVISOR_SPARE_DRIVER"] = "false"
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
    service = BrokerService.of(service_settings)
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="session")
def redis_server(service_settings: Settings) -> Iterator[RedisService]:
    """A real Redis server, shared by the session: use an environment or pipeline name of your own."""
    service = RedisService.of(service_settings)
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
