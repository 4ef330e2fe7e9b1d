"""Brings pipelines up: orders their streams through Airflow and waits until each one gives results.

What a person stopped, and what the supervisor parked, is left alone and reported with the next
command. What runs already is not ordered again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx

from headgate.contract.frozen import Applied, ContractStore, FrozenContract
from headgate.errors import HeadgateError, NotFoundError, ServiceError, UnavailableError
from headgate.local.airflow_api import AirflowApi
from headgate.local.steps import Done, Step
from headgate.settings import Settings
from headgate.streams.model import Desired, Phase, StreamStatus

__all__ = ["Bringer", "Held", "held_back", "served_outputs"]

# Generous: what fails says so at once, and these only bound a machine that is busy with other things.
POLL = 0.5
# Each of its answers costs Airflow some 50 ms of a core, while everything else is starting.
AIRFLOW_SECONDS = 5.0
DAG_SECONDS = 120.0
RUNNING_SECONDS = 300.0
RESULT_SECONDS = 240.0
VERDICT_SECONDS = 300.0
SCRAPE_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Held:
    """A stream that `up` leaves alone: why, and what to run instead."""

    pipeline: str
    reason: str
    help: str


def held_back(status: StreamStatus | None, pipeline: str) -> Held | None:
    """Whether somebody or something stopped this stream on purpose."""
    if status is None or status.generation == 0:
        return None
    if status.phase is Phase.PARKED:
        reason = f"parked: {status.reason or 'the supervisor gave up'}"
        return Held(pipeline, reason, f"headgate events {pipeline}, then headgate restart {pipeline}")
    if status.phase is Phase.RETIRED:
        return Held(pipeline, "retired", f"headgate apply {pipeline}")
    if status.desired is Desired.STOPPED:
        by = f" by {status.stopped_by}" if status.stopped_by else ""
        return Held(pipeline, f"stopped{by}", f"headgate start {pipeline}")
    return None


class Bringer:
    """The steps of every pipeline, on top of services that are up. Close it when they are done."""

    def __init__(self, settings: Settings, *, metrics: bool) -> None:
        from headgate.streams.client import client_from

        self.settings = settings
        self._metrics = metrics
        self._airflow = AirflowApi(settings)
        self._supervisor = client_from(settings)
        self._http = httpx.Client(timeout=10, trust_env=False)
        self._store = ContractStore(settings.state)
        self.held: dict[str, Held] = {}

    def close(self) -> None:
        self._airflow.close()
        self._http.close()

    def resume(self) -> None:
        """End what `headgate down` began and did not finish; without effect on a platform that runs."""
        self._supervisor.resume("headgate up")

    def steps(self, applied: Applied, *, results: bool = True) -> list[Step]:
        """Order, run and, with `results`, first result, first verdict and metrics, each once it can be."""
        name = applied.pipeline
        steps = [
            Step(f"{name}: ordered", lambda: self._order(applied)),
            Step(f"{name}: running", lambda: self._running(name), (f"{name}: ordered",)),
        ]
        return [*steps, *self._results(applied)] if results else steps

    def _results(self, applied: Applied) -> Iterator[Step]:
        name = applied.pipeline
        after = last = (f"{name}: running",)
        # Without a producer of ours nobody knows when there will be something to serve or check.
        fed = name in self.settings.local.producers
        if fed and served_outputs(self._store.get(applied.hash)):
            last = (f"{name}: first result",)
            yield Step(last[0], lambda: self._result(name), after)
        if applied.quality_every is not None:
            # Unpaused, it checks at once: before there is a result that would be work for nothing.
            yield Step(f"{name}: quality", lambda: self._unpause_quality(name), last)
            if fed:
                yield Step(f"{name}: first verdict", lambda: self._verdict(name), (f"{name}: quality",))
        if self._metrics:
            yield Step(f"{name}: metrics", lambda: self._scraped(name), after)

    def status(self, pipeline: str) -> StreamStatus | None:
        try:
            return self._supervisor.status(pipeline)
        except NotFoundError:
            return None

    def served(self, pipeline: str) -> Any:
        """The published document, None before there is one."""
        url = f"{self.settings.serving.url}/api/{quote(pipeline)}"
        return self._get(url)

    def snapshots(self) -> dict[str, Any]:
        """Every pipeline as the exporter sees it: state, rows, lag, verdict."""
        exporter = self.settings.exporter
        found = self._get(f"{exporter.url}/api/status") or {}
        return {item["pipeline"]: item for item in found.get("pipelines", [])}

    def _order(self, applied: Applied) -> Done:
        name = applied.pipeline
        status = self.status(name)
        held = held_back(status, name)
        if held is not None:
            self.held[name] = held
            return Done(False, held.reason)
        dag = f"stream.{name}"
        _wait(lambda: self._airflow.has_dag(dag), DAG_SECONDS, lambda: self._no_dag(dag))
        if self._airflow.active_run(dag) is not None:
            return Done(False)
        if status is not None and status.desired is Desired.RUNNING:
            owner = status.owner.label if status.owner else "nobody"
            return Done(False, f"runs by order of {owner}")
        self._airflow.unpause(dag)
        return Done(True, f"run {self._airflow.trigger(dag)} of {dag}")

    def _no_dag(self, dag: str) -> HeadgateError:
        errors = self._airflow.import_errors()
        shown = "".join(f"\n{error}" for error in errors[:2])
        return ServiceError(
            f"Airflow has not seen the DAG {dag} after {DAG_SECONDS:.0f} s{shown}",
            help="headgate logs airflow-dag-processor",
        )

    def _running(self, name: str) -> Done:
        if name in self.held:
            return Done(False)
        began = self.status(name)
        if began is not None and began.phase is Phase.RUNNING:
            return Done(False)
        look = _every(AIRFLOW_SECONDS)
        _wait(lambda: self._looks_running(name, look), RUNNING_SECONDS, lambda: self._not_running(name))
        return Done(True)

    def _looks_running(self, name: str, look_at_airflow: Callable[[], bool]) -> bool:
        status = self.status(name)
        if status is not None and status.phase is Phase.RUNNING:
            return True
        held = held_back(status, name)
        if held is not None:
            raise ServiceError(f"the stream {name} is {held.reason}", help=held.help)
        failed = self._failed_tasks(name) if look_at_airflow() else []
        if failed:
            airflow = self.settings.airflow
            raise ServiceError(
                f"the task {failed[0]} of stream.{name} failed",
                help=f"its log: {airflow.url}/dags/stream.{name}",
            )
        return False

    def _failed_tasks(self, name: str) -> list[str]:
        run = self._airflow.last_run(f"stream.{name}")
        return self._airflow.failed_tasks(f"stream.{name}", run) if run else []

    def _not_running(self, name: str) -> HeadgateError:
        status = self.status(name)
        seen = (
            "the supervisor does not know it" if status is None else f"it is {status.phase}: {status.reason}"
        )
        return ServiceError(
            f"the stream {name} does not run after {RUNNING_SECONDS:.0f} s; {seen}",
            help=f"headgate logs {name}; headgate events {name}",
        )

    def _result(self, name: str) -> Done:
        return self._first(
            name, lambda: self._shown(name), RESULT_SECONDS, "nothing is served that it has committed"
        )

    def _shown(self, name: str) -> Any:
        """What is served, once the driver that runs has committed: before that it is an earlier one's."""
        fresh = has_committed(self.status(name), self.snapshots().get(name, {}))
        return self.served(name) if fresh else None

    def _unpause_quality(self, name: str) -> Done:
        """Let the checks run until there is a first verdict; who pauses them later is left alone."""
        if name in self.held or self._verdict_of(name):
            return Done(False)
        quality = f"quality.{name}"
        _wait(lambda: self._airflow.has_dag(quality), DAG_SECONDS, lambda: self._no_dag(quality))
        return Done(self._airflow.unpause(quality))

    def _verdict(self, name: str) -> Done:
        return self._first(
            name, lambda: self._verdict_of(name), VERDICT_SECONDS, "no quality check has looked at it"
        )

    def _verdict_of(self, name: str) -> str | None:
        found = self.snapshots().get(name, {}).get("verdict")
        return None if found in {None, "no_data"} else str(found)

    def _scraped(self, name: str) -> Done:
        def count() -> bool:
            query = f'count({{job="headgate-drivers",pipeline={json.dumps(name)}}})'
            url = f"http://127.0.0.1:{self.settings.local.prometheus_port}/api/v1/query?query={quote(query)}"
            return bool((self._get(url) or {}).get("data", {}).get("result"))

        return self._first(name, count, SCRAPE_SECONDS, "Prometheus has no metrics of its driver")

    def _first(self, name: str, look: Callable[[], Any], seconds: float, lacking: str) -> Done:
        if name in self.held:
            return Done(False)
        if look():
            return Done(False)
        _wait(
            look,
            seconds,
            lambda: ServiceError(
                f"the stream {name} runs, and after {seconds:.0f} s {lacking}",
                help=f"headgate status; headgate logs {name}",
            ),
        )
        return Done(True)

    def _get(self, url: str) -> Any:
        """The JSON there; None for 404 and while the service does not answer."""
        try:
            answer = self._http.get(url)
        except httpx.HTTPError:
            return None
        return answer.json() if answer.status_code == httpx.codes.OK else None


def has_committed(status: StreamStatus | None, seen: Mapping[str, Any]) -> bool:
    """Whether all queries have committed since the stream came up; `seen` is how the exporter sees it."""
    if status is None or seen.get("last_commit") is None or seen.get("state") != Phase.RUNNING:
        return False
    return datetime.fromisoformat(seen["last_commit"]).timestamp() >= status.phase_since


def served_outputs(frozen: FrozenContract) -> list[str]:
    """The outputs that go to Redis, and so to the REST API."""
    return [
        name
        for name, output in frozen.contract.outputs.items()
        if any(getattr(sink, "redis", None) is not None for sink in output.to)
    ]


def _every(seconds: float) -> Callable[[], bool]:
    """True once in so many seconds."""
    last = [time.monotonic()]

    def due() -> bool:
        if time.monotonic() - last[0] < seconds:
            return False
        last[0] = time.monotonic()
        return True

    return due


def _wait(look: Callable[[], Any], seconds: float, failure: Callable[[], HeadgateError]) -> None:
    deadline = time.monotonic() + seconds
    last: UnavailableError | None = None
    while time.monotonic() < deadline:
        try:
            if look():
                return
            last = None
        except UnavailableError as error:
            last = error  # a service that restarts meanwhile; its answer counts, not the gap
        time.sleep(POLL)
    raise last or failure()
