"""kill -9 of a driver under the real supervisor: until it is seen, and until the next driver has committed a
batch; then kill -9 of the supervisor, until its successor has adopted the driver."""

from __future__ import annotations

import getpass
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench.live import fresh_topic, paced
from bench.place import Place
from bench.rates import spread
from bench.services import process
from bench.stream import apply
from bench.waiting import wait_for
from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.contract.frozen import FrozenContract
from headgate.streams.client import SupervisorClient, client_from
from headgate.streams.model import Event, Owner, Phase
from headgate.streams.server import supervisor_token

__all__ = ["measure"]

RATE = 1_000
_DEADLINE = 300.0
_QUIET_SECONDS = 10.0  # of normal work between two kills


def measure(place: Place, runs: int) -> Iterator[dict[str, Any]]:
    fresh_topic(place)
    frozen = apply(place, "bench-live", {})
    settings = place.settings()
    supervisor_token(settings)
    with client_from(settings) as client, paced(place, RATE, 3600):
        with _supervisor(place) as supervisor:
            client.ensure(
                frozen.pipeline,
                pipeline=frozen.pipeline,
                contract_hash=frozen.hash,
                owner=Owner("cli", user=getpass.getuser()),
                idempotency_key="bench",
            )
            kills: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
            for _ in range(runs):
                # The spare is used up by the first kill, and not there again for the second.
                for spare in (True, False):
                    kills[spare].append(_kill(place, frozen, client, spare=spare))
            supervisor.kill()
        adopted = [_adoption(place, frozen, client) for _ in range(runs)]
        with _supervisor(place):
            client.stop(frozen.pipeline, actor="bench", deadline_seconds=60)
            wait_for(lambda: client.status(frozen.pipeline).phase is Phase.STOPPED, 120, "the stream stops")
    load = f", at {RATE:,} records/s"
    seen = [each for both in kills.values() for each, _ in both]
    yield _result("seen", "kill -9 of the driver until the supervisor has seen it" + load, seen, 2.0)
    title = "kill -9 of the driver to the next committed batch of every query" + load
    recovered = [each for _, each in kills[True]]
    yield _result("kill", f"{title}, a spare driver in reserve", recovered, 12.0)
    recovered = [each for _, each in kills[False]]
    yield _result("kill-without", f"{title}, none in reserve", recovered, None)
    title = "start of a killed supervisor's successor until it has adopted the live driver"
    yield _result("adoption", title, adopted, 5.0)


def _result(job: str, title: str, seconds: list[float], target: float | None) -> dict[str, Any]:
    found = spread(seconds)
    print(f"recovery {job} {found.median:.1f} s ({found.least:.1f}–{found.most:.1f})", flush=True)
    return {"job": job, "title": title, "seconds": found.to_json(), "target": target}


def _supervisor(place: Place) -> AbstractContextManager[subprocess.Popen[bytes]]:
    settings = place.settings()
    command = [str(Path(sys.executable).with_name("headgate")), "supervisor"]
    log = settings.state / "log" / "supervisor.log"
    return process(command, log, settings.supervisor.port, place.environ("run"))


def _adoption(place: Place, frozen: FrozenContract, client: SupervisorClient) -> float:
    """Seconds from the start of the process, with Python's own start in them; ends it with kill -9."""
    begun = time.time()
    with _supervisor(place) as supervisor:
        adopted = _first_event(client, frozen.pipeline, begun, lambda event: event.kind == "adopted")
        supervisor.kill()
    return adopted - begun


def _first_event(
    client: SupervisorClient, stream: str, after: float, wanted: Callable[[Event], bool]
) -> float:
    """The moment of the first such event after a moment, which may not be there yet."""

    def look() -> float:
        found = (event.at for event in client.events(stream) if event.at > after and wanted(event))
        return next(found, 0.0)

    return wait_for(look, _DEADLINE, f"an event of {stream}")


def _kill(
    place: Place, frozen: FrozenContract, client: SupervisorClient, *, spare: bool
) -> tuple[float, float]:
    """Seconds until the death was seen, and until every query had committed again."""
    wait_for(lambda: _last_commit(place, frozen) > 0, _DEADLINE, "a first batch of every query")
    if spare:
        wait_for(lambda: client.health()["spare"] == "ready", _DEADLINE, "a spare driver")
    time.sleep(_QUIET_SECONDS)
    if (client.health()["spare"] == "ready") != spare:
        raise SystemExit(f"error: the spare driver is {client.health()['spare']}")
    before = client.status(frozen.pipeline)
    if before.driver is None:
        raise SystemExit("error: the driver has no status")
    folder = place.settings().state / "streams" / frozen.pipeline
    killed = time.time()
    os.kill(before.driver.pid, signal.SIGKILL)

    def recovered() -> float:
        """The moment by which the *new* driver has committed: the old one's JVM may finish a batch."""
        now = client.status(frozen.pipeline)
        if now.epoch == before.epoch or now.driver is None or now.driver.epoch == before.epoch:
            return 0.0
        noted = folder / f"runner-{now.epoch}.json"  # written once the driver knows whose it is
        return _first_commit_after(place, frozen, noted.stat().st_mtime) if noted.exists() else 0.0

    committed = wait_for(recovered, _DEADLINE, "a committed batch after the kill")
    seen = _first_event(client, frozen.pipeline, killed, lambda event: event.to_phase == Phase.BACKOFF)
    return seen - killed, committed - killed


def _commits(place: Place, frozen: FrozenContract) -> list[list[float]]:
    layout = CheckpointLayout(place.settings().checkpoints, frozen.pipeline)
    lineage = layout.current_lineage()
    if lineage is None:
        return []
    folders = [layout.query(lineage, name) / "commits" for name in (RECORDS, *frozen.stateful_outputs)]
    return [[path.stat().st_mtime for path in folder.glob("[0-9]*")] for folder in folders]


def _last_commit(place: Place, frozen: FrozenContract) -> float:
    """The moment by which every query has committed something; 0 before."""
    times = _commits(place, frozen)
    return min((max(each, default=0.0) for each in times), default=0.0)


def _first_commit_after(place: Place, frozen: FrozenContract, moment: float) -> float:
    firsts = [min((at for at in each if at > moment), default=0.0) for each in _commits(place, frozen)]
    return max(firsts) if firsts and all(firsts) else 0.0
