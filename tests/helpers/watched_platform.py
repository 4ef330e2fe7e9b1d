"""A real platform for the tests of monitoring: supervisor, Spark driver, exporter, Prometheus, Alertmanager.

Broker and Redis are those of the session. Everything else is started here and ended by pid.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from kafka import KafkaProducer

from headgate.quality.verdict import ExpectationResult, Verdict
from headgate.settings import Settings, load_settings
from headgate.streams.store import StateStore
from headgate.topics.kafka import client_options
from monitoring.prometheus import write_prometheus_config

T = TypeVar("T")
PIPELINE = "watched"
CONTRACT = """
headgate: 1
pipeline: {pipeline}
version: 1
description: Readings that monitoring is tested with.
owner: tests
sources:
  readings:
    topic: {pipeline}_readings
    partitions: 2
    config: {{retention.ms: 86400000}}
    columns:
      - {{name: timestamp, type: timestamp, zone: UTC, required: true}}
      - {{name: value, type: double, required: true}}
    event_time: {{column: timestamp}}
    rules:
      - {{name: not_negative, expect: "value >= 0"}}
outputs:
  average:
    sql: SELECT timestamp, avg(value) AS average, count(*) AS readings FROM readings GROUP BY timestamp
    mode: update
    key: [timestamp]
    to:
      - {{delta: average}}
      - {{redis: {pipeline}_latest}}
quality:
  every: 5 minutes
  expectations:
    - {{output: average, expect: ExpectColumnValuesToNotBeNull, column: average}}
slo: {{freshness: 60 seconds, quarantined_ratio: 0.5}}
job: {{trigger: 1 second, cores: 1, memory: 700m}}
"""


def until(what: str, look: Callable[[], T], seconds: float = 60.0) -> T:
    """Poll until `look` answers something true; an error counts as "not yet" and is shown at the end."""
    end = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < end:
        try:
            last = found = look()
            if found:
                return found
        except OSError as error:
            last = error
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds:g} s: {what}; last: {last!r}")


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def fetch_text(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


class WatchedPlatform:
    """Use as a context manager. `processes` are running ones by name."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = {**os.environ, **environ}
        self.settings: Settings = load_settings(environ=environ)[0]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.exporter = f"http://127.0.0.1:{self.settings.exporter.port}"
        self.prometheus = f"http://127.0.0.1:{self.settings.local.prometheus_port}"
        self.alertmanager = f"http://127.0.0.1:{self.settings.local.alertmanager_port}"
        self.folder = self.settings.state / "test"
        self.folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> WatchedPlatform:
        return self

    def __exit__(self, *_: object) -> None:
        """The drivers first, by an order, since they outlive their supervisor."""
        if "supervisor" in self.processes:
            self.headgate("stop", PIPELINE, "--kill", check=False)
        for name in reversed(list(self.processes)):
            self.end(name)

    def headgate(
        self, *arguments: str, check: bool = True, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = [str(Path(sys.executable).with_name("headgate")), *arguments]
        run = subprocess.run(
            command,
            env={**self.environ, **environ},
            text=True,
            capture_output=True,
            timeout=240,
            check=False,
        )
        assert not check or run.returncode == 0, f"{arguments}: {run.returncode}\n{run.stdout}\n{run.stderr}"
        return run

    def spawn(self, name: str, *command: str, **environ: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, env={**self.environ, **environ}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def run(self, name: str, *arguments: str, **environ: str) -> None:
        """A `headgate` command in the background."""
        self.spawn(name, str(Path(sys.executable).with_name("headgate")), *arguments, **environ)

    def end(self, name: str, *, kill: bool = False) -> None:
        process = self.processes.pop(name, None)
        if process is None:
            return
        if kill:
            process.kill()
        elif process.poll() is None:
            process.terminate()
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")[-3000:]

    def send(self, *values: bytes) -> None:
        """Records as they are, good or bad."""
        producer = KafkaProducer(**client_options(self.settings))
        try:
            for value in values:
                producer.send(f"{PIPELINE}_readings", value)
            producer.flush(30)
        finally:
            producer.close()

    def judge(self, status: str, severity: str) -> None:
        """A verdict of the quality check, as the check stores it."""
        result = ExpectationResult("ExpectColumnValuesToNotBeNull", "average", "critical", status == "passed")
        store = StateStore(self.settings.store_url)
        try:
            store.record_verdict(
                Verdict(PIPELINE, "average", status, severity, time.time(), (result,), 10, None, "h")  # type: ignore[arg-type]
            )
        finally:
            store.close()

    # Monitoring

    def start_supervisor(self) -> None:
        self.run("supervisor", "supervisor")
        port = self.settings.supervisor.port
        until("the supervisor answers", lambda: fetch(f"http://127.0.0.1:{port}/healthz"))

    def start_exporter(self) -> None:
        self.run("exporter", "exporter")
        until("the exporter answers", lambda: fetch(f"{self.exporter}/healthz"))

    def start_prometheus(self) -> None:
        files = write_prometheus_config(self.settings, self.folder / "prometheus")
        prometheus, alertmanager = shutil.which("prometheus"), shutil.which("prometheus-alertmanager")
        assert prometheus and alertmanager, (
            "install them: apt-get install --no-install-recommends prometheus prometheus-alertmanager"
        )
        self.spawn(
            "alertmanager",
            alertmanager,
            f"--config.file={files.alertmanager}",
            f"--storage.path={self.folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{self.settings.local.alertmanager_port}",
            "--cluster.listen-address=",
        )
        self.spawn(
            "prometheus",
            prometheus,
            f"--config.file={files.prometheus}",
            f"--storage.tsdb.path={self.folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self.settings.local.prometheus_port}",
        )
        until("Prometheus is ready", lambda: fetch(f"{self.prometheus}/api/v1/status/buildinfo"))

    def query(self, expr: str) -> list[dict[str, Any]]:
        url = f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expr})}"
        found: list[dict[str, Any]] = fetch(url)["data"]["result"]
        return found

    def firing(self) -> dict[str, dict[str, Any]]:
        """Firing alerts by name, as Prometheus has them."""
        alerts = fetch(f"{self.prometheus}/api/v1/alerts")["data"]["alerts"]
        return {alert["labels"]["alertname"]: alert for alert in alerts if alert["state"] == "firing"}

    def status(self) -> dict[str, Any]:
        """The watched pipeline, as the exporter tells it."""
        found = fetch(f"{self.exporter}/api/status")["pipelines"]
        return next((item for item in found if item["pipeline"] == PIPELINE), {})
