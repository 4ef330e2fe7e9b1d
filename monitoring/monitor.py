"""Everything that is looked at, and the snapshot of it: in the background for the exporter, once for the CLI.

| source      | from                                   | every | gives up after |
|-------------|----------------------------------------|-------|----------------|
| contracts   | the applied contracts' files           | 5 s   | 15 s           |
| supervisor  | its HTTP API                           | 2 s   | 12 s           |
| drivers     | their status files and their processes | 5 s   | 15 s           |
| checkpoints | Spark's logs, the books                | 5 s   | 15 s           |
| kafka       | end offsets against checkpoints        | 10 s  | 30 s           |
| store       | verdicts, what is wanted               | 10 s  | 15 s           |
| topics      | a plan of what is applied              | 120 s | 60 s           |
| producers   | the files of running producers         | 10 s  | 15 s           |
| reconcile   | the file that Airflow's sweep leaves   | 10 s  | 15 s           |

Each takes milliseconds on a quiet machine. The limits leave room for one that is starting a JVM for
every core: a stream must not look dead because its observer was kept waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from headgate.errors import UnavailableError
from headgate.settings import Settings
from headgate.streams.client import SupervisorClient
from monitoring.compose import compose
from monitoring.readings import AppliedContract, Readings
from monitoring.snapshot import PlatformSnapshot
from monitoring.sources.checkpoints import read_checkpoints
from monitoring.sources.contracts import ContractsReader
from monitoring.sources.drivers import read_drivers
from monitoring.sources.kafka import read_lags
from monitoring.sources.producers import read_producers
from monitoring.sources.reconcile import read_sweep
from monitoring.sources.store import StoreReader
from monitoring.sources.supervisor import SupervisorReader
from monitoring.sources.topics import read_topics
from monitoring.watch import Source, Watcher

__all__ = ["Monitor"]


class Monitor:
    """Watches all sources of one installation. Thread-safe; `snapshot` never waits for a service."""

    def __init__(self, settings: Settings, *, background: bool = True) -> None:
        """`background=False` leaves out what a person at the command line does not wait for."""
        self._settings = settings
        self._watchers: dict[str, Watcher[Any]] = {
            source.name: Watcher(source) for source in _sources(settings, self._applied, events=background)
        }
        if not background:
            del self._watchers["topics"]
            del self._watchers["producers"]

    def start(self) -> None:
        self._watchers["contracts"].read_once()  # the others read what is applied
        for watcher in self._watchers.values():
            watcher.start()

    def stop(self) -> None:
        for watcher in self._watchers.values():
            watcher.stop()

    def read_once(self, deadline_seconds: float) -> PlatformSnapshot:
        """Ask every source one time, together, and take what has come by the deadline."""
        self.start()
        self.stop()
        ends = time.monotonic() + deadline_seconds
        for watcher in self._watchers.values():
            watcher.join(ends - time.monotonic())
        return self.snapshot()

    def snapshot(self) -> PlatformSnapshot:
        values = {name: watcher.value() for name, watcher in self._watchers.items()}
        rounds = [at for watcher in self._watchers.values() if (at := watcher.finished_at()) is not None]
        readings = Readings(
            contracts=values["contracts"],
            supervised=values["supervisor"],
            drivers=values["drivers"],
            checkpoints=values["checkpoints"],
            lags=values["kafka"],
            stored=values["store"],
            topics=values.get("topics"),
            producers=values.get("producers"),
            sweep=values["reconcile"],
        )
        return compose(
            readings,
            at=time.time(),
            env=self._settings.env,
            sources=[watcher.health() for watcher in self._watchers.values()],
            round_at=max(rounds, default=None),
        )

    def _applied(self) -> Mapping[str, AppliedContract]:
        applied = self._watchers["contracts"].value()
        if applied is None:
            raise UnavailableError("the applied contracts cannot be read", help="headgate doctor")
        return applied  # type: ignore[no-any-return]


def _sources(
    settings: Settings, applied: Callable[[], Mapping[str, AppliedContract]], *, events: bool
) -> list[Source[Any]]:
    contracts = ContractsReader(settings.state)
    store = StoreReader(settings.store_url, applied)
    checkpoints = partial(
        read_checkpoints,
        settings.checkpoints,
        applied,
        settings.snapshots_root,
        settings.snapshots.every,
    )
    # Reading needs no token, so the exporter holds none and cannot give orders.
    client = SupervisorClient(settings.supervisor_url, "", timeout=10)
    return [
        Source("contracts", contracts.read, 5, 15),
        Source("supervisor", SupervisorReader(client, events=events).read, 2, 12, client.close),
        Source("drivers", lambda: read_drivers(settings.state), 5, 15),
        Source("checkpoints", checkpoints, 5, 15),
        Source("kafka", lambda: read_lags(settings, applied), 10, 30),
        Source("store", store.read, 10, 15),
        Source("topics", lambda: read_topics(settings, applied), 120, 60),
        Source("producers", lambda: read_producers(settings.state), 10, 15),
        Source("reconcile", lambda: read_sweep(settings.state), 10, 15),
    ]
