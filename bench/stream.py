"""A pipeline of the benchmark, run by the real driver on a fresh installation.

Contracts go through `headgate apply`, and the driver is started as the supervisor's runner starts it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bench.place import CHECKOUT, Place
from bench.waiting import wait_for
from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.logs import committed_offsets
from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.streams import orders, processes
from headgate.streams.journal import Journal
from headgate.streams.launch import Launcher
from headgate.streams.model import Owner
from headgate.streams.record import StreamRecord
from headgate.streams.spares import Spares
from headgate.tables.place import on_disk

__all__ = ["Driver", "apply", "driver", "spare_driver"]

_PIPELINES = Path(__file__).parent / "pipelines"
_STOP_SECONDS = 120.0
_SPARE_REST = 2.0  # until what warmed it has settled


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver that runs, and where its work shows."""

    place: Place
    frozen: FrozenContract
    process: subprocess.Popen[bytes]
    started: float
    nonce: str
    log: Path

    def queries(self) -> list[Path]:
        """The checkpoints of all its queries; empty before it has a lineage."""
        layout = CheckpointLayout(self.place.settings().checkpoints, self.frozen.pipeline)
        lineage = layout.current_lineage()
        if lineage is None:
            return []
        names = [RECORDS, *self.frozen.stateful_outputs]
        return [layout.query(lineage, name) for name in names]

    def table(self, name: str) -> Path:
        return on_disk(self.place.settings().tables, "the benchmark") / self.frozen.pipeline / name

    def status(self) -> dict[str, Any]:
        file = self.place.settings().state / "streams" / self.frozen.pipeline / "status.json"
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found

    def wait_running(self) -> None:
        wait_for(
            lambda: bool(self.queries()) and self.status()["phase"] == "running",
            300,
            f"{self.frozen.pipeline} runs, see {self.log}",
        )

    def refuse_ended(self) -> None:
        """End the benchmark where the driver has ended."""
        if self.process.poll() is not None:
            raise SystemExit(f"error: the driver ended with {self.process.returncode}, see {self.log}")

    def committed(self, total: int) -> bool:
        """Whether every query has committed so many records."""
        self.refuse_ended()
        found = [committed_offsets(query) for query in self.queries()]
        return bool(found) and all(
            each is not None and sum(sum(p.values()) for p in each.offsets.values()) >= total
            for each in found
        )

    def wait_committed(self, total: int, seconds: float) -> None:
        wait_for(
            lambda: self.committed(total), seconds, f"{self.frozen.pipeline} commits, see {self.log}", 0.2
        )

    def wait_settled(self, seconds: float = 60.0) -> None:
        """Until every query waits for data: what a watermark still closes is written then."""
        idle_since = time.time()
        wait_for(
            lambda: all((q["last_idle_at"] or 0) > idle_since for q in self.status()["queries"].values()),
            seconds,
            f"{self.frozen.pipeline} has nothing left to do, see {self.log}",
        )


def apply(place: Place, pipeline: str, changes: Mapping[str, Any]) -> FrozenContract:
    """Put one contract into the cleared installation and apply it. `changes` are dotted keys."""
    yaml = YAML(typ="safe")
    document = yaml.load((_PIPELINES / f"{pipeline}.yaml").read_text(encoding="utf-8"))
    for dotted, value in changes.items():
        *path, last = dotted.split(".")
        inner = document
        for part in path:
            inner = inner[part]
        inner[last] = value
    for schema in _PIPELINES.glob("reading.*"):
        shutil.copy(schema, place.pipelines)
    with (place.pipelines / f"{pipeline}.yaml").open("w", encoding="utf-8") as stream:
        yaml.dump(document, stream)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("headgate")), "apply"],
        cwd=CHECKOUT,
        env=place.environ("run"),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"error: headgate apply exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return ContractStore(place.settings().state).current(pipeline)


@contextmanager
def driver(
    place: Place,
    frozen: FrozenContract,
    *,
    epoch: int = 1,
    module: str = "spark",
    extra: Mapping[str, str] | None = None,
) -> Iterator[Driver]:
    """Run the driver; at the end it is asked to stop, and must do so in order."""
    state = place.settings().state
    folder = state / "streams" / frozen.pipeline
    nonce = processes.new_nonce(folder, epoch)
    log = state / "log" / "streams" / f"{frozen.pipeline}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", module, "--pipeline", frozen.pipeline, "--contract", frozen.hash]
    command += ["--generation", "1", "--epoch", str(epoch)]
    with log.open("ab") as stream:
        started = time.time()
        running = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=CHECKOUT,
            env={**place.environ("run"), "HEADGATE_NONCE": nonce, **(extra or {})},
            start_new_session=True,
        )
    try:
        yield Driver(place, frozen, running, started, nonce, log)
        code = _stop(running)
        if code != 0:
            raise SystemExit(f"error: the driver was asked to stop and ended with {code}, see {log}")
    finally:
        if running.poll() is None:
            running.kill()
            running.wait()
        while processes.kill_all(nonce):
            time.sleep(0.05)


@contextmanager
def spare_driver(place: Place, frozen: FrozenContract) -> Iterator[Driver]:
    """Run the driver of a spare that is warm; `started` is the moment at which it is told whose it is."""
    settings = place.settings()
    with _environment(place.environ("run")), Path(os.devnull).open("w", encoding="ascii") as nowhere:
        spares = Spares(settings, Journal(nowhere))
        launcher = Launcher(settings)
        memory = frozen.contract.job.memory

        def warm() -> str | None:
            spares.tend(memory)
            return spares.offer(memory) if spares.state == "ready" else None

        record = _record(frozen)
        intent = launcher.plan(record, time.time(), wait_for(warm, 300, "a spare driver"))
        time.sleep(_SPARE_REST)
        started = time.time()
        runner = launcher.launch(record, intent, spares.hand_over)
    log = launcher.log(frozen.pipeline)
    running = Driver(place, frozen, runner, started, intent.nonce, log)
    try:
        yield running
        os.kill(running.status()["pid"], signal.SIGTERM)
        runner.wait(_STOP_SECONDS)
    finally:
        while processes.kill_all(intent.nonce, runners=True):
            time.sleep(0.05)
        runner.wait(_STOP_SECONDS)


def _record(frozen: FrozenContract) -> StreamRecord:
    """As the supervisor would have it at its first start."""
    name, owner = frozen.pipeline, Owner("cli", user="bench")
    ordered, _ = orders.ensure(
        None, stream=name, pipeline=name, contract_hash=frozen.hash, owner=owner, now=time.time()
    )
    return replace(ordered, epoch=1, attempted=1)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _stop(running: subprocess.Popen[bytes]) -> int:
    os.kill(running.pid, signal.SIGTERM)
    return running.wait(_STOP_SECONDS)
