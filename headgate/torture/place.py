"""The private copy: its own broker, Redis, supervisor, topics, checkpoints and tables, below one folder."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.logs import newest
from headgate.contract.frozen import FrozenContract
from headgate.contract.loader import LoadedContract
from headgate.errors import HeadgateError, RefusedError
from headgate.failpoints import TORTURE
from headgate.settings import Settings, load_settings
from headgate.streams import proc, processes
from headgate.streams.client import SupervisorClient, client_from
from headgate.streams.model import Owner, StreamStatus
from headgate.topics.apply import apply_plan
from headgate.topics.kafka import admin_client
from headgate.topics.pipelines import plan_pipelines
from headgate.torture.services import BrokerService, RedisService, SupervisorService, private_environ

__all__ = ["OWNER", "Place", "open_place", "refuse_foreign_broker"]

OWNER = Owner(kind="cli", user="torture")
_SECTIONS = {
    "HEADGATE_ENV": TORTURE,
    "HEADGATE_PREFIX": "",
    "HEADGATE_KAFKA_REPLICATION": "1",
    "HEADGATE_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
    "HEADGATE_SPARK_MASTER": "local",
    "HEADGATE_SPARK_UI": "false",
    "HEADGATE_SUPERVISOR_SPARE_AFTER_SECONDS": "0",  # kills come faster than streams grow old
    "HEADGATE_STORE_URL": "sqlite:///{state}/headgate.db",
    "HEADGATE_ROOTS_CHECKPOINTS": "{state}/checkpoints",
    "HEADGATE_ROOTS_TABLES": "{state}/tables",
    "HEADGATE_SUPERVISOR_HOST": "127.0.0.1",
    "HEADGATE_SUPERVISOR_TOKEN": "file:{state}/secrets/supervisor.token",
}


@dataclass
class Place:
    """Everything of one private copy while it is up."""

    settings: Settings
    environ: dict[str, str]
    frozen: FrozenContract
    broker: BrokerService
    redis: RedisService
    supervisor: SupervisorService
    reserve: bool = False  # whether the supervisor keeps a driver in reserve

    @property
    def stream(self) -> str:
        return self.frozen.pipeline

    @property
    def folder(self) -> Path:
        return self.settings.state / "streams" / self.stream

    @property
    def log(self) -> Path:
        return self.settings.state / "log" / "streams" / f"{self.stream}.log"

    def client(self) -> SupervisorClient:
        return client_from(self.settings)

    def status(self) -> StreamStatus:
        with self.client() as client:
            return client.status(self.stream)

    def query(self, name: str = RECORDS) -> Path | None:
        """The checkpoint of a query, None before the first start."""
        layout = CheckpointLayout(self.settings.checkpoints, self.stream)
        lineage = layout.current_lineage()
        return layout.query(lineage, name) if lineage is not None else None

    def committed(self) -> int:
        """The newest committed batch of the record query, -1 before the first."""
        folder = self.query()
        found = newest(folder / "commits") if folder is not None else None
        return -1 if found is None else found

    def driver(self) -> list[int]:
        """Pids of the driver and of all that it started, the driver itself first."""
        status = self.status().driver
        members = self.driver_left()
        first = [status.pid] if status is not None and status.pid in members else []
        return [*first, *(pid for pid in members if pid not in first)]

    def driver_left(self) -> list[int]:
        """The same, in no order, and without asking the supervisor."""
        return [one.pid for one in processes.remains(processes.marks_of(self.folder))]

    def drives_a_reserve(self, status: StreamStatus) -> bool:
        """Whether the driver that reports is one that had waited in reserve."""
        taken = processes.marks_of(self.folder)[1:]
        return status.driver is not None and proc.nonce_of(status.driver.pid) in taken

    def reserve_state(self) -> str:
        """What the supervisor says of the driver in reserve."""
        with self.client() as client:
            return str(client.health()["spare"])

    def wipe_drivers(self) -> None:
        prefix = processes.marks_of(self.folder)
        end = time.monotonic() + 20
        while processes.kill_all(prefix, runners=True) and time.monotonic() < end:
            time.sleep(0.05)


@contextmanager
def open_place(
    settings: Settings, loaded: LoadedContract, name: str, *, reserve: bool = False
) -> Iterator[Place]:
    """Start the private copy of a pipeline, its contract applied; on the way out every process has ended.

    The folder stays, for whoever asked for it to remove.
    """
    environ = _environ(settings, loaded, name)
    environ["HEADGATE_SUPERVISOR_SPARE_DRIVER"] = str(reserve).lower()
    own, _ = load_settings(environ=environ)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HEADGATE_")}
    full = {**inherited, **environ}
    broker, redis = BrokerService.of(own), RedisService.of(own)
    supervisor = SupervisorService.of(own, full)
    place: Place | None = None
    try:
        broker.start()
        refuse_foreign_broker(own)
        redis.start()
        with _as_environment(environ):
            plan = plan_pipelines(own, [loaded.contract.pipeline])
            if plan.refusals:
                raise RefusedError(f"the contract cannot be applied: {plan.refusals[0].message}")
            apply_plan(own, plan, by="torture")
        frozen = _applied(own, loaded.contract.pipeline)
        supervisor.start()
        place = Place(own, environ, frozen, broker, redis, supervisor, reserve)
        yield place
    finally:
        supervisor.stop()
        if place is not None:
            place.wipe_drivers()
        redis.stop()
        broker.stop()


def refuse_foreign_broker(settings: Settings) -> None:
    """Raises RefusedError unless the broker that answers is the one whose storage lies in this copy."""
    own = settings.state / "kafka" / "cluster.id"
    expected = own.read_text(encoding="utf-8").strip() if own.is_file() else None
    with admin_client(settings) as admin:
        found = admin.describe_cluster()["cluster_id"]
    if settings.env != TORTURE or found != expected:
        raise RefusedError(
            f"the broker at {settings.kafka.brokers} (cluster {found}) is not the torture kit's own",
            expected=f"cluster {expected}, whose storage is below {settings.state}",
            help="headgate torture starts its own broker; there is no option for another one",
        )


def _environ(settings: Settings, loaded: LoadedContract, name: str) -> dict[str, str]:
    state = settings.state / name
    (state / "pipelines").mkdir(parents=True)
    shutil.copy(loaded.path, state / "pipelines" / loaded.path.name)
    environ = {**private_environ(settings.home, str(state)), **_SECTIONS}
    environ["HEADGATE_PIPELINES"] = str(state / "pipelines")
    environ["HEADGATE_SPARK_JARS"] = str(settings.jars_dir)
    return environ


@contextmanager
def _as_environment(environ: dict[str, str]) -> Iterator[None]:
    """Analysis runs in a child that reads its settings from the environment."""
    before = {key: value for key, value in os.environ.items() if key.startswith("HEADGATE_")}
    try:
        _replace_environment(environ)
        yield
    finally:
        _replace_environment(before)


def _replace_environment(environ: dict[str, str]) -> None:
    for key in [key for key in os.environ if key.startswith("HEADGATE_")]:
        del os.environ[key]
    os.environ.update(environ)


def _applied(settings: Settings, pipeline: str) -> FrozenContract:
    from headgate.contract.frozen import ContractStore

    try:
        return ContractStore(settings.state).current(pipeline)
    except HeadgateError as error:
        raise RefusedError(f"the contract of {pipeline} was not applied: {error.message}") from error
