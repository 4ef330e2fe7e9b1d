"""Where the benchmark lives: services that stay, and one run's state, which is cleared before each run.

var/bench/ports.json     the ports, chosen once: the broker's data remember them
var/bench/services/      broker and Redis; the loaded topics stay between runs
var/bench/run/           one installation of headgate: contracts, checkpoints, tables, status
var/bench/plain/         tables and checkpoints of the hand-written jobs, of Spark or of Flink
var/bench/flink/         PyFlink's environment and jars, see bench/peers/environment.py
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from headgate.local.ports import free_port
from headgate.settings import Settings, load_settings

__all__ = ["CHECKOUT", "Place", "open_place"]

CHECKOUT = Path(__file__).resolve().parents[1]
_ROOT = "var/bench"
_PORTS = (
    "kafka",
    "kafka_controller",
    "redis",
    "supervisor",
    "serving",
    "exporter",
    "airflow",
    "prometheus",
    "alertmanager",
    "airflow_log",
    "airflow_trigger_log",
)
# What a new run keeps: Spark's answers about contracts, and the class-data archive.
_KEPT = {"cache", "spark"}


@dataclass(frozen=True, slots=True)
class Place:
    """Folders, and the HEADGATE_* variables of the two installations."""

    root: Path
    ports: dict[str, int]

    @property
    def plain(self) -> Path:
        return self.root / "plain"

    @property
    def pipelines(self) -> Path:
        return self.root / "run" / "pipelines"

    @property
    def brokers(self) -> str:
        return f"127.0.0.1:{self.ports['kafka']}"

    def environ(self, state: str, **more: str) -> dict[str, str]:
        """The process environment with our HEADGATE_* instead of the caller's."""
        values = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
        local = (
            "kafka_controller",
            "redis",
            "prometheus",
            "alertmanager",
            "airflow_log",
            "airflow_trigger_log",
        )
        values |= {f"HEADGATE_LOCAL_{name.upper()}_PORT": str(self.ports[name]) for name in local}
        own = ("supervisor", "serving", "exporter", "airflow")
        values |= {f"HEADGATE_{name.upper()}_PORT": str(self.ports[name]) for name in own}
        return {
            **values,
            "HEADGATE_HOME": str(CHECKOUT),
            "HEADGATE_ROOTS_STATE": f"{_ROOT}/{state}",
            "HEADGATE_PIPELINES": f"{_ROOT}/run/pipelines",
            "HEADGATE_KAFKA_BROKERS": self.brokers,
            "HEADGATE_REDIS_URL": f"redis://127.0.0.1:{self.ports['redis']}/0",
            **more,
        }

    def settings(self, state: str = "run") -> Settings:
        return load_settings(environ=self.environ(state))[0]

    def clear_run(self) -> None:
        """An installation without history, and no tables of hand-written jobs."""
        for folder, kept in ((self.root / "run", _KEPT), (self.plain, set[str]())):
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.iterdir():
                if path.name in kept:
                    continue
                _remove(path)
        self.pipelines.mkdir(parents=True)


def _remove(path: Path) -> None:
    """A JVM removes its own scratch files for a moment after its Python process has ended."""
    if not path.is_dir():
        path.unlink()
        return
    end = time.monotonic() + 20
    while True:
        try:
            shutil.rmtree(path)
            return
        except OSError:
            if not path.exists():
                return
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def open_place() -> Place:
    root = CHECKOUT / _ROOT
    root.mkdir(parents=True, exist_ok=True)
    file = root / "ports.json"
    if not file.is_file():
        ports: dict[str, int] = {}
        for name in _PORTS:
            port = free_port()
            while port in ports.values():
                port = free_port()
            ports[name] = port
        file.write_text(json.dumps(ports, indent=1), encoding="utf-8")
    return Place(root, json.loads(file.read_text(encoding="utf-8")))
