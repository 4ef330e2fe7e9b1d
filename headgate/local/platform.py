"""One installation's embedded platform: its files, its services and how each comes up and goes down."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from headgate.contract.frozen import ContractStore
from headgate.errors import RefusedError, ServiceError
from headgate.local import airflow, kafka, redis, secrets
from headgate.local.manager import Manager
from headgate.local.manager_config import Layout
from headgate.local.ports import holder_of, is_free
from headgate.local.records import Record, all_records, is_alive, read_record
from headgate.local.services import Service, java_home, services_of
from headgate.local.steps import Done
from headgate.settings import Settings

__all__ = ["Platform"]

POLL = 0.25
TAIL = 25
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# A service that dies at its start is tried again by the manager; after so many it will not get better.
MAX_STARTS = 4


class Platform:
    """The services of one set of settings under one process manager."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.layout = Layout(settings.state, settings.home)
        self.manager = Manager(self.layout)

    def prepare(self) -> list[Service]:
        """Write every configuration file and secret, and return the services. Starts nothing."""
        from monitoring.prometheus import write_prometheus_config

        for folder in (self.layout.run, self.layout.log):
            folder.mkdir(parents=True, exist_ok=True)
        secrets.ensure(self.settings, self.settings.supervisor.token, secrets.password)
        redis.prepare(redis.redis_of(self.settings))
        kafka.write_configuration(kafka.broker_of(self.settings))
        airflow.prepare(self.settings)
        write_prometheus_config(self.settings, self.settings.state / "monitoring")
        return services_of(self.settings)

    def environ(self) -> dict[str, str]:
        """What every service gets: this installation's settings, the Java that was checked, our Python.

        Nothing here depends on the caller's shell, or an `up` from another shell would restart everything.
        """
        chosen = {key: value for key, value in os.environ.items() if key.startswith("HEADGATE_")}
        chosen.pop("HEADGATE_DEBUG", None)
        local = "127.0.0.1,localhost"
        bins = [str(Path(sys.executable).parent), str(Path(java_home()) / "bin")]
        return {
            **chosen,
            "HEADGATE_HOME": str(self.settings.home),
            "JAVA_HOME": java_home(),
            "PATH": os.pathsep.join([*bins, SYSTEM_PATH]),
            "PYTHONUNBUFFERED": "1",
            # A proxy that the environment names has no business between loopback addresses.
            "NO_PROXY": local,
            "no_proxy": local,
        }

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One `up` or `down` at a time. Raises RefusedError while another one works."""
        path = self.layout.run / "up.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise RefusedError(
                    f"another `headgate up` or `down` is at work: pid {file.read().strip() or 'unknown'}",
                    help="wait for it, or end it, and run the command again",
                ) from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def alive(self, service: Service) -> bool:
        """Whether the process of the last start lives, with or without the process manager."""
        record = read_record(self.layout.records, service.name)
        return record is not None and is_alive(record)

    def live_records(self) -> list[Record]:
        """What runs of this installation, with or without the process manager."""
        return [record for record in all_records(self.layout.records) if is_alive(record)]

    def applied(self) -> set[str]:
        return set(ContractStore(self.settings.state).applied())

    def refuse_taken_ports(self, services: Sequence[Service]) -> None:
        """Name every port that a stranger holds. Raises RefusedError."""
        taken = []
        for service in services:
            if self.alive(service):
                continue
            for port in service.ports:
                if not is_free(service.host, port):
                    taken.append(f"{service.name}: {holder_of(port) or f'port {port} is taken'}")
        if taken:
            raise RefusedError(
                "ports that the platform needs are taken:\n  " + "\n  ".join(taken),
                help="end those processes, or choose other ports in headgate.toml (keys: headgate doctor)",
            )

    def start(self, service: Service) -> Done:
        """Start the service when it does not run, and wait until it is healthy. Raises ServiceError."""
        before = read_record(self.layout.records, service.name)
        lived = before is not None and is_alive(before)
        started = self.manager.start(service.name)
        self.wait_healthy(service)
        if not started:
            return Done(False)
        if not lived:
            return Done(True)
        kept = before == read_record(self.layout.records, service.name)
        return Done(
            True, "taken over, it ran without its manager" if kept else "replaced, its settings changed"
        )

    def wait_healthy(self, service: Service) -> None:
        deadline = time.monotonic() + service.start_seconds
        incarnations: set[int] = set()
        detail = "its process does not stay up"
        while time.monotonic() < deadline:
            state = self.manager.states().get(service.name)
            if state is None or state.state in {"FATAL", "STOPPED"}:
                raise self.failure(service, "ended while it started")
            if state.pid:
                incarnations.add(state.pid)
            if len(incarnations) > MAX_STARTS:
                raise self.failure(service, f"ended {MAX_STARTS} times while it started")
            if state.state == "RUNNING":
                health = service.check()
                if health.ok:
                    return
                detail = health.detail
            time.sleep(POLL)
        raise self.failure(service, f"is not healthy after {service.start_seconds} s ({detail})")

    def failure(self, service: Service, what: str) -> ServiceError:
        lines = self.tail(service)
        shown = "\n    ".join(lines) or "(its log is empty)"
        return ServiceError(
            f"{service.name} {what}. The end of its log:\n    {shown}",
            help=f"headgate doctor; the whole log is {self.layout.log / (service.name + '.log')}",
        )

    def tail(self, service: Service) -> list[str]:
        path = self.layout.log / f"{service.name}.log"
        if not path.is_file():
            return []
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16_384))
            return file.read().decode("utf-8", errors="replace").splitlines()[-TAIL:]
