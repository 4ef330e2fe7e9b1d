"""A driver without Spark, for tests of processes: it reports, commits batches, and can be told to misbehave.

What it shall do is in `behaviour.json` in the stream's folder, read at each beat:
{"mode": "run" | "crash" | "deaf" | "stall" | "exit0", "child": true, "failure_class": …, "batch": seconds}
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from headgate import __version__
from headgate.streams.model import DriverStatus, QueryProgress

CHILD = "import os, time; os.setsid(); time.sleep(600)"


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("--stream", "--dir", "--contract"):
        parser.add_argument(name, required=True)
    parser.add_argument("--epoch", type=int, required=True)
    parser.add_argument("--generation", type=int, required=True)
    parser.add_argument("--origin")
    options = parser.parse_args()
    return Driver(options).run()


class Driver:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder = Path(options.dir)
        self.stopping = False
        self.batch = self.last_batch()
        self.batches = 0
        self.committed_at: float | None = None

    def run(self) -> int:
        behaviour = self.behaviour()
        signal.signal(signal.SIGTERM, self.on_term)
        if behaviour.get("child"):
            subprocess.Popen([sys.executable, "-c", CHILD])
        with (self.folder / "starts").open("a") as starts:
            starts.write(f"{self.options.epoch} {self.options.generation} {os.getpid()}\n")
        self.report("starting")
        while True:
            behaviour = self.behaviour()
            mode = behaviour.get("mode", "run")
            if mode == "crash":
                return self.crash(behaviour)
            if mode == "exit0":
                return 0
            if self.stopping and mode != "deaf":
                self.commit(behaviour)
                self.report("stopped")
                return 0
            if mode != "stall":
                self.commit(behaviour)
            self.report("running")
            time.sleep(0.1)

    def on_term(self, _number: int, _frame: object) -> None:
        self.stopping = True

    def crash(self, behaviour: dict[str, str]) -> int:
        if "failure_class" in behaviour:
            self.report("failed", behaviour["failure_class"])
            return 10
        raise RuntimeError("told to crash")

    def commit(self, behaviour: dict[str, object]) -> None:
        time.sleep(float(str(behaviour.get("batch", 0))))
        self.batch += 1
        self.batches += 1
        self.committed_at = time.time()
        with (self.folder / "commits").open("a") as commits:
            commits.write(f"{self.batch} {self.options.epoch}\n")

    def last_batch(self) -> int:
        commits = self.folder / "commits"
        return int(commits.read_text().split("\n")[-2].split()[0]) if commits.exists() else -1

    def behaviour(self) -> dict[str, str]:
        path = self.folder / "behaviour.json"
        loaded: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        return loaded

    def report(self, phase: str, failure_class: str | None = None) -> None:
        query = QueryProgress(self.batch, self.committed_at, self.committed_at, batches=self.batches)
        status = DriverStatus(
            stream=self.options.stream,
            pipeline=self.options.stream,
            epoch=self.options.epoch,
            generation=self.options.generation,
            contract_hash=self.options.contract,
            lineage="l1",
            headgate_version=__version__,
            pid=os.getpid(),
            phase=phase,
            written_at=time.time(),
            queries={"records": query},
            failure_class=failure_class,
            failure_condition="TOLD" if failure_class else None,
            failure_message="told to fail" if failure_class else None,
        )
        draft = self.folder / f".status.{os.getpid()}"
        draft.write_text(json.dumps(status.to_json()))
        draft.replace(self.folder / "status.json")


if __name__ == "__main__":
    sys.exit(main())
