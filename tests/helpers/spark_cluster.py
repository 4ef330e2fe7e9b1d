"""A real standalone cluster from the pyspark wheel: a master and workers, ended by their process ids."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pyspark

from headgate.local.ports import accepts, free_port

__all__ = ["Cluster", "Worker"]

HOME = Path(pyspark.__file__).parent
START_SECONDS = 120.0


class Worker:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def executors(self) -> list[psutil.Process]:
        """The executors that this worker has started."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [each for each in children if "CoarseGrainedExecutorBackend" in " ".join(_command(each))]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Cluster:
    """One core and a gigabyte for each worker, all on the loopback address."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self.folder = folder
        self.port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._seen: list[psutil.Process] = []
        names = ["--host", "127.0.0.1", "--port", str(self.port), "--webui-port", str(free_port())]
        self._launch("master", "org.apache.spark.deploy.master.Master", *names)
        self._until_up()
        self.workers = [self._worker(number) for number in range(workers)]

    @property
    def url(self) -> str:
        return f"spark://127.0.0.1:{self.port}"

    def _worker(self, number: int) -> Worker:
        work = self.folder / f"work-{number}"
        options = ["--host", "127.0.0.1", "--webui-port", str(free_port()), "--cores", "1", "--memory", "1g"]
        name = "org.apache.spark.deploy.worker.Worker"
        return Worker(self._launch(f"worker-{number}", name, *options, "--work-dir", str(work), self.url))

    def _launch(self, log: str, *command: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "SPARK_HOME": str(HOME),
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_LOCAL_IP": "127.0.0.1",
            # It would take the same port on every machine, and nothing here submits by it.
            "SPARK_MASTER_OPTS": "-Dspark.master.rest.enabled=false",
        }
        with (self.folder / f"{log}.log").open("wb") as stream:
            process = subprocess.Popen(
                [str(HOME / "bin" / "spark-class"), *command],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        self._processes.append(process)
        return process

    def _until_up(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not accepts("127.0.0.1", self.port):
            assert self._processes[0].poll() is None, self.tail()
            assert time.monotonic() < deadline, self.tail()
            time.sleep(0.1)

    def executors(self) -> list[psutil.Process]:
        """Of the workers that live; remembered, so that none outlives the cluster."""
        alive = [worker for worker in self.workers if worker.process.poll() is None]
        found = [executor for worker in alive for executor in worker.executors()]
        self._seen += found
        return found

    def end(self) -> None:
        self.executors()
        for process in reversed(self._processes):
            if process.poll() is None:
                process.kill()
            process.wait()
        for executor in self._seen:
            if executor.is_running():
                executor.kill()

    def tail(self, lines: int = 20) -> str:
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(
            f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
            for log in logs
        )


def _command(process: psutil.Process) -> list[str]:
    try:
        found: list[str] = process.cmdline()
    except psutil.NoSuchProcess:
        return []
    return found
