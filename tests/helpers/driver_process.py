"""Real drivers, one at a time: `python -m spark` in a session of its own, ended by its process group."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
from deltalake import DeltaTable
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from headgate.checkpoints.books import Page, last_page
from headgate.checkpoints.layout import RECORDS, CheckpointLayout, quarantine_table, table_path
from headgate.checkpoints.logs import committed_offsets, newest
from headgate.checkpoints.origin import Origin, write_origin
from headgate.contract.frozen import FrozenContract
from headgate.settings import Settings, load_settings
from headgate.topics.kafka import client_options

__all__ = ["Driver", "Stream", "send"]

T = TypeVar("T")
# Long, because machines that run tests may be busy; nothing waits longer than it has to.
DEADLINE = 900.0
PACKAGE = Path(__file__).resolve().parents[2]


@dataclass
class Driver:
    """One incarnation."""

    epoch: int
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def exit_code(self, deadline: float = DEADLINE) -> int:
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the driver did not end:\n{self.tail()}") from None

    def stop(self) -> int:
        """SIGTERM to the Python process alone, as the supervisor does."""
        self.process.send_signal(signal.SIGTERM)
        return self.exit_code()

    def kill(self) -> None:
        """kill -9 of the driver and its JVM."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def pause(self) -> None:
        for process in self._all():
            with contextlib.suppress(psutil.NoSuchProcess):  # Hadoop's short-lived helpers come and go
                process.suspend()

    def resume(self) -> None:
        for process in self._all():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def _all(self) -> list[psutil.Process]:
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


@dataclass
class Stream:
    """One applied contract with its folders, and the drivers that were started for it."""

    environ: dict[str, str]
    frozen: FrozenContract
    epoch: int = 0
    drivers: list[Driver] = field(default_factory=list)
    started_at: float = 0.0

    @property
    def settings(self) -> Settings:
        return load_settings(environ=self.environ)[0]

    @property
    def pipeline(self) -> str:
        return self.frozen.pipeline

    @property
    def layout(self) -> CheckpointLayout:
        return CheckpointLayout(self.settings.checkpoints, self.pipeline)

    @property
    def lineage(self) -> str:
        lineage = self.layout.current_lineage()
        assert lineage is not None, "no lineage has begun"
        return lineage

    def query(self, name: str) -> Path:
        return self.layout.query(self.lineage, name)

    def start(
        self,
        epoch: int | None = None,
        contract_hash: str | None = None,
        generation: int = 1,
        origin: Origin | None = None,
        *,
        beside: bool = False,
    ) -> Driver:
        """`beside` an older one that runs or is frozen: what a supervisor never does."""
        assert beside or not any(driver.running for driver in self.drivers), "one driver at a time"
        if epoch is None:
            self.epoch += 1
        number = self.epoch if epoch is None else epoch
        log = self.settings.state / f"{self.pipeline}-{len(self.drivers)}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        order = {
            "--pipeline": self.pipeline,
            "--contract": contract_hash or self.frozen.hash,
            "--generation": str(generation),
            "--epoch": str(number),
        }
        if origin is not None:
            note = log.with_suffix(".origin.json")
            write_origin(note, origin)
            order["--origin"] = str(note)
        command = [sys.executable, "-m", "spark", *(word for pair in order.items() for word in pair)]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
        self.started_at = time.time()
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                env={**inherited, **self.environ},
                cwd=PACKAGE,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        driver = Driver(number, log, process)
        self.drivers.append(driver)
        return driver

    def end(self) -> None:
        for driver in self.drivers:
            driver.kill()

    def status(self) -> dict[str, Any]:
        path = self.settings.state / "streams" / self.pipeline / "status.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def until(self, predicate: Callable[[], T], describe: str, deadline: float = DEADLINE) -> T:
        """Poll while the driver runs; its log is the message when it ends or time runs out."""
        driver = self.drivers[-1]
        end = time.monotonic() + deadline
        while True:
            alive = driver.running
            with contextlib.suppress(FileNotFoundError, LookupError, AssertionError):
                value = predicate()
                if value:
                    return value
            assert alive, (
                f"the driver ended with {driver.process.returncode} before: {describe}\n{driver.tail()}"
            )
            assert time.monotonic() < end, f"not within {deadline:.0f} s: {describe}\n{driver.tail()}"
            time.sleep(0.1)

    def until_running(self) -> dict[str, Any]:
        def running() -> dict[str, Any] | None:
            status = self.status()
            ours = status["epoch"] == self.drivers[-1].epoch and status["written_at"] >= self.started_at
            return status if ours and status["phase"] == "running" else None

        return self.until(running, "the driver says that it runs")  # type: ignore[return-value]

    def drained(self) -> bool:
        """Whether every query has committed everything that its topics hold."""
        wanted = end_offsets(self.settings, list(self.frozen.topics.values()))
        return all(self._has_read(query, wanted) for query in (RECORDS, *self.frozen.stateful_outputs))

    def _has_read(self, query: str, wanted: dict[str, dict[int, int]]) -> bool:
        committed = committed_offsets(self.query(query))
        if committed is None:
            return False
        read = committed.offsets
        return all(
            read.get(topic, {}).get(partition, 0) >= offset
            for topic, partitions in wanted.items()
            for partition, offset in partitions.items()
            if query == RECORDS or topic in read
        )

    def until_drained(self) -> None:
        self.until(self.drained, "every query has read its topics to their ends")

    def torn(self) -> bool:
        """Whether a batch of the record query is in a table and not committed by Spark."""
        folder = self.query(RECORDS)
        committed = newest(folder / "commits")
        done = [self.version(name) for name in self.frozen.record_outputs if self.table_of(name)]
        return any(
            version is not None and version > (-1 if committed is None else committed) for version in done
        )

    def table_of(self, output: str) -> str | None:
        return next((t.delta for t in self.frozen.contract.outputs[output].to if t.delta), None)

    def version(self, output: str) -> int | None:
        """The last batch of an output that its table has, by the record query's transaction."""
        table = DeltaTable(str(table_path(self.settings.tables, self.pipeline, str(self.table_of(output)))))
        return table.transaction_version(f"headgate/{self.pipeline}/{RECORDS}/{output}/{self.lineage}")

    def rows(self, table: str) -> list[dict[str, Any]]:
        path = table_path(self.settings.tables, self.pipeline, table)
        found: list[dict[str, Any]] = DeltaTable(str(path)).to_pyarrow_table().to_pylist()
        return found

    def quarantined(self) -> list[dict[str, Any]]:
        path = quarantine_table(self.settings.tables, self.pipeline)
        found: list[dict[str, Any]] = DeltaTable(str(path)).to_pyarrow_table().to_pylist()
        return found

    def books(self) -> Page:
        committed = committed_offsets(self.query(RECORDS))
        assert committed is not None
        page = last_page(self.layout.books(self.lineage), committed.batch_id)
        assert page is not None
        return page

    def versions(self) -> dict[str, int]:
        """Every table's version: what has not been written to keeps its own."""
        root = self.settings.tables / self.pipeline
        return {path.name: DeltaTable(str(path)).version() for path in sorted(root.iterdir())}


def send(settings: Settings, topic: str, values: Sequence[bytes], partitions: int = 1) -> None:
    """Records in turn over the partitions, acknowledged before this returns."""
    producer = KafkaProducer(**client_options(settings), acks="all", linger_ms=5)
    try:
        pending = [producer.send(topic, value, partition=n % partitions) for n, value in enumerate(values)]
        for one in pending:
            one.get(timeout=DEADLINE)
    finally:
        producer.close()


def end_offsets(settings: Settings, topics: Sequence[str]) -> dict[str, dict[int, int]]:
    with _consumer(settings) as consumer:
        found: dict[str, dict[int, int]] = {}
        for topic in topics:
            partitions = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic)]
            if not partitions:
                raise LookupError(f"the broker does not tell of the topic {topic}")
            ends = consumer.end_offsets(partitions)
            found[topic] = {one.partition: offset for one, offset in ends.items()}
        return found


@contextlib.contextmanager
def _consumer(settings: Settings) -> Iterator[KafkaConsumer]:
    consumer = KafkaConsumer(**client_options(settings))
    try:
        yield consumer
    finally:
        consumer.close()
