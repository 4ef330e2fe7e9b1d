"""`headgate up`: from files to running services to running pipelines, each step as early as it can be."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from headgate.contract.frozen import Applied, ContractStore
from headgate.errors import HeadgateError, RefusedError
from headgate.local import airflow, jars, kafka
from headgate.local.java import find_java
from headgate.local.pipelines import Bringer, Held
from headgate.local.platform import Platform
from headgate.local.services import Service, missing_binaries
from headgate.local.steps import Done, Reporter, Step, StepFailed, run_steps
from headgate.settings import Settings

__all__ = ["UpResult", "check_prerequisites", "up"]


@dataclass
class UpResult:
    """What `up` found and did. `problems` do not take the platform down, but `up` fails with them."""

    services: Sequence[Service]
    missing: dict[str, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    problems: list[HeadgateError] = field(default_factory=list)
    held: dict[str, Held] = field(default_factory=dict)
    snapshots: dict[str, Any] = field(default_factory=dict)
    served: dict[str, Any] = field(default_factory=dict)


def up(settings: Settings, *, pipelines: bool, report: Reporter) -> UpResult:
    """Start what does not run, apply what is not applied, order what is not ordered. Idempotent."""
    check_prerequisites(settings)
    platform = Platform(settings)
    with platform.lock():
        services = platform.prepare()
        platform.refuse_taken_ports(services)
        result = UpResult(services, missing_binaries())
        # A new process manager starts or takes over every service, so each of them reports itself.
        platform.manager.ensure(services, platform.environ())
        _run(
            [*_services(platform, services), *_contracts(platform, services, pipelines, result)],
            result,
            report,
        )
        if pipelines:
            _pipelines(platform, result, report)
    return result


def check_prerequisites(settings: Settings) -> None:
    """Java and the jars, before anything is begun. Raises RefusedError."""
    find_java()
    absent = [jar.coordinates for jar_set in jars.jar_sets(settings) for jar in jars.missing(jar_set)]
    if absent:
        raise RefusedError(
            f"{len(absent)} jars are missing or are not what the lock says, {absent[0]} among them",
            help="make jars",
        )


@dataclass(frozen=True, slots=True)
class _Noting:
    """Passes on what it is told and keeps what changed."""

    result: UpResult
    report: Reporter

    def done(self, name: str, done: Done, seconds: float) -> None:
        if done.changed:
            self.result.changed.append(name)
        self.report.done(name, done, seconds)

    def waiting(self, names: Sequence[str]) -> None:
        self.report.waiting(names)


class _Silent:
    """For steps that only hold others together."""

    def done(self, name: str, done: Done, seconds: float) -> None:
        pass

    def waiting(self, names: Sequence[str]) -> None:
        pass


def _run(steps: Sequence[Step], result: UpResult, report: Reporter) -> None:
    run_steps(steps, _Noting(result, report))


def _services(platform: Platform, services: Sequence[Service]) -> list[Step]:
    broker = kafka.broker_of(platform.settings)
    steps = [
        Step("storage", lambda: _noted(kafka.format_storage(broker), "the broker's storage")),
        Step("database", partial(_migrate, platform)),
    ]
    for service in services:
        if service.group != "producer":
            steps.append(Step(service.name, partial(platform.start, service), service.needs, True))
    return steps


def _migrate(platform: Platform) -> Done:
    home = airflow.airflow_of(platform.settings)
    return _noted(airflow.migrate(home, {**os.environ, **platform.environ()}), "Airflow's database")


def _noted(changed: bool, note: str) -> Done:
    return Done(changed, note if changed else "")


def _contracts(
    platform: Platform, services: Sequence[Service], pipelines: bool, result: UpResult
) -> list[Step]:
    """Analysis needs no service, so it runs beside their start; applying needs the broker."""
    if not pipelines:
        return []
    settings = platform.settings
    producers = [service for service in services if service.group == "producer"]
    return [
        Step("analysis", partial(_guarded, partial(_analyse, settings), result)),
        Step("contracts", partial(_guarded, partial(_apply, settings), result), ("analysis", "kafka")),
        *(
            Step(each.name, partial(_produce, platform, each), ("contracts", *each.needs), True)
            for each in producers
        ),
    ]


def _guarded(work: Callable[[], Done], result: UpResult) -> Done:
    """A contract that cannot be applied must not keep the other pipelines down: noted, and `up` goes on."""
    try:
        return work()
    except HeadgateError as error:
        if str(error) not in map(str, result.problems):
            result.problems.append(error)
        return Done(False, "failed, see below")


def _analyse(settings: Settings) -> Done:
    from headgate.contract.resolve import resolve
    from headgate.topics.pipelines import load_pipelines

    resolve(load_pipelines(settings), settings)
    return Done(False)


def _apply(settings: Settings) -> Done:
    from headgate.topics.apply import apply_plan
    from headgate.topics.pipelines import plan_pipelines

    plan = plan_pipelines(settings)
    if plan.refusals:
        refusal = plan.refusals[0]
        more = f" (and {len(plan.refusals) - 1} more)" if len(plan.refusals) > 1 else ""
        raise RefusedError(f"the contracts cannot be applied: {refusal.message}{more}", help="headgate plan")
    if not plan.actions:
        return Done(False)
    done = apply_plan(settings, plan, by=f"up:{getpass.getuser()}").done
    return Done(bool(done), f"{len(done)} actions applied")


def _produce(platform: Platform, service: Service) -> Done:
    pipeline = service.name.removeprefix("producer-")
    if pipeline not in ContractStore(platform.settings.state).applied():
        return Done(False, f"not started: no contract {pipeline} is applied")
    return platform.start(service)


def _pipelines(platform: Platform, result: UpResult, report: Reporter) -> None:
    settings = platform.settings
    applied = ContractStore(settings.state).applied()
    with closing(Bringer(settings, metrics="prometheus" not in result.missing)) as bringer:
        bringer.resume()
        result.problems += _failing_alone(list(applied.values()), bringer, result, report)
        result.held = bringer.held
        result.snapshots = bringer.snapshots()
        result.served = {name: bringer.served(name) for name in applied}


def _failing_alone(applied: Any, bringer: Bringer, result: UpResult, report: Reporter) -> list[HeadgateError]:
    """Run every pipeline's steps side by side; one that fails does not end the others."""
    failures: list[HeadgateError] = []

    def bring(each: Applied) -> Done:
        try:
            _run(bringer.steps(each), result, report)
        except StepFailed as failure:
            failures.append(failure)
        return Done(False)

    run_steps([Step(each.pipeline, partial(bring, each)) for each in applied], _Silent())
    return failures
