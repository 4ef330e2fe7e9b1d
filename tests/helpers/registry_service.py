"""A real schema registry (Apicurio, which speaks Confluent's REST API), from its archive on Maven Central."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.local.java import find_java
from headgate.local.ports import free_port
from headgate.settings import Settings
from headgate.torture.services import Service

__all__ = ["RegistryService"]

CHECKOUT = Path(__file__).resolve().parents[2]
PATH = "/apis/ccompat/v7"
# A commit is in the file when it is answered, and nothing is moved in it while the process ends: a registry
# that ran for a minute and was asked to end has come back without its newest schemas.
_DURABLE = "WRITE_DELAY=0;MAX_COMPACT_TIME=0;DB_CLOSE_ON_EXIT=FALSE"


def _registry_folder() -> Path:
    """Where `tools/setup.sh --tests` unpacks it; a test without it fails, for it has shown nothing."""
    folder = CHECKOUT / "jars" / "registry" / "app"
    if not folder.is_dir():
        pytest.fail(f"no schema registry in {folder}\n  run: tools/setup.sh --tests", pytrace=False)
    return folder


class RegistryService:
    """Its schemas are in a file: it comes back with them after a kill."""

    def __init__(self, settings: Settings, until: Callable[..., object]) -> None:
        state = settings.state / "registry"
        self._until = until
        port, management = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}{PATH}"
        options = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": str(port),
            "quarkus.management.host": "127.0.0.1",
            "quarkus.management.port": str(management),
            "apicurio.storage.kind": "sql",
            "apicurio.storage.sql.kind": "h2",
            "apicurio.datasource.url": f"jdbc:h2:file:{state / 'schemas'};{_DURABLE}",
        }
        folder = _registry_folder()
        jar = next(iter(sorted(folder.rglob("quarkus-run.jar"))), None)
        jar = jar or next(iter(sorted(folder.glob("*-runner.jar"))))
        command = [str(find_java().path), "-Xmx512m", "-XX:TieredStopAtLevel=1"]
        command += [f"-D{key}={value}" for key, value in options.items()]
        self._service = Service(
            "the schema registry", [*command, "-jar", str(jar)], "127.0.0.1", port, state / "registry.log"
        )

    def start(self) -> None:
        self._service.start()
        self._until(self._answers, 300, f"the schema registry answers, see {self._service.log}")

    def stop(self) -> None:
        self._service.stop()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:  # it takes connections before it answers
            return False
