"""The embedded services: what each is started with, what it needs first, how its health is asked."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from headgate.errors import RefusedError
from headgate.local import airflow, kafka, redis
from headgate.local.health import AirflowPart, Check, Http, Redis, Runs, Tcp
from headgate.local.java import find_java
from headgate.settings import Settings

__all__ = ["BINARIES", "Service", "find_binary", "missing_binaries", "services_of", "stop_order"]

# Debian's name first, then the one of Prometheus's own archive; what is lost without it.
BINARIES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "prometheus": (("prometheus",), "no metrics history and no alerts"),
    "alertmanager": (("prometheus-alertmanager", "alertmanager"), "alerts are evaluated, nobody is told"),
}


@dataclass(frozen=True, slots=True)
class Service:
    """One program of the process manager.

    `group` orders the stop: airflow, producer, stream, base. `config` changes when a file that the
    service reads at its start changes, so that `up` knows to restart it.
    """

    name: str
    command: tuple[str, ...]
    check: Check
    needs: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    host: str = "127.0.0.1"
    address: str = ""
    group: str = "base"
    environ: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    # A process that dies is noticed at once; only one that hangs costs this long on a busy machine.
    start_seconds: int = 180
    stop_seconds: int = 15
    whole_tree: bool = True
    optional: bool = False


def services_of(settings: Settings) -> list[Service]:
    """All services of this installation whose binaries are there, in the order of their start."""
    return [
        _broker(settings),
        _redis(settings),
        *_own(settings),
        *_monitoring(settings),
        *_airflow(settings),
        *(_producer(name) for name in settings.local.producers),
    ]


def stop_order(services: Sequence[Service]) -> list[list[Service]]:
    """Waves of services to stop together: who asks goes before who answers, the broker last."""
    waves: list[list[Service]] = []
    for group in ("airflow", "producer"):
        waves.append([service for service in services if service.group == group])
    rest = [service for service in services if service.group == "base"]
    waves.append([service for service in rest if service.name not in {"supervisor", "redis", "kafka"}])
    for name in ("supervisor", "redis", "kafka"):
        waves.append([service for service in rest if service.name == name])
    return [wave for wave in waves if wave]


def missing_binaries() -> dict[str, str]:
    """Optional services that cannot run here, with what that costs."""
    return {name: cost for name, (_, cost) in BINARIES.items() if find_binary(name) is None}


def find_binary(name: str) -> str | None:
    for candidate in BINARIES[name][0]:
        found = shutil.which(candidate)
        if found:
            return found
    return None


def _broker(settings: Settings) -> Service:
    broker = kafka.broker_of(settings)
    try:
        command = broker.command()
    except RefusedError:
        command = []  # without Java nothing starts; what runs can still be looked at and stopped
    return Service(
        "kafka",
        tuple(command),
        Tcp(broker.host, broker.port),
        # A step of `up`: the storage is formatted once, before the first start.
        needs=("storage",),
        ports=(broker.port, broker.controller_port),
        address=settings.kafka.brokers,
        config=_digest(broker.properties, broker.folder / "log4j2.properties"),
        stop_seconds=40,
    )


def _redis(settings: Settings) -> Service:
    server = redis.redis_of(settings)
    return Service(
        "redis",
        tuple(server.command()),
        Redis(server.host, server.port),
        ports=(server.port,),
        address=f"redis://{server.host}:{server.port}",
        config=_digest(server.config),
    )


def _own(settings: Settings) -> list[Service]:
    supervisor, exporter, serving = settings.supervisor, settings.exporter, settings.serving
    exporter_url = exporter.url
    serving_url = serving.url
    return [
        Service(
            "supervisor",
            _headgate("supervisor"),
            Http(f"{settings.supervisor_url}/healthz"),
            needs=("kafka",),
            ports=(supervisor.port,),
            host=supervisor.host,
            address=settings.supervisor_url,
            # Its drivers outlive it: the next supervisor adopts them.
            whole_tree=False,
        ),
        Service(
            "exporter",
            _headgate("exporter"),
            Http(f"{exporter_url}/healthz"),
            ports=(exporter.port,),
            host=exporter.host,
            address=exporter_url,
        ),
        Service(
            "serving",
            _headgate("serve"),
            Http(f"{serving_url}/health"),
            needs=("redis",),
            ports=(serving.port,),
            host=serving.host,
            address=serving_url,
        ),
    ]


def _monitoring(settings: Settings) -> list[Service]:
    folder = settings.state / "monitoring"
    local = settings.local
    prometheus = (
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={settings.state / 'prometheus'}",
        "--storage.tsdb.retention.time=15d",
        "--web.enable-lifecycle",
    )
    alertmanager = (
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={settings.state / 'alertmanager'}",
        "--cluster.listen-address=",  # one node: no gossip, no second port
    )
    watched = _digest(folder / "prometheus.yml", folder / "rules.yml")
    return [
        *_binary("prometheus", prometheus, local.prometheus_port, watched),
        *_binary("alertmanager", alertmanager, local.alertmanager_port, _digest(folder / "alertmanager.yml")),
    ]


def _binary(name: str, options: tuple[str, ...], port: int, config: str) -> Iterator[Service]:
    path = find_binary(name)
    if path is None:
        return
    url = f"http://127.0.0.1:{port}"
    command = (path, *options, f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn")
    check = Http(f"{url}/-/ready")
    yield Service(name, command, check, ports=(port,), address=url, config=config, optional=True)


def _airflow(settings: Settings) -> list[Service]:
    home = airflow.airflow_of(settings)
    local = settings.local
    api_check = Http(f"{home.url}/api/v2/monitor/health")
    api = _part(home, "api-server", api_check, (settings.airflow.port,))
    parts = [
        replace(api, host=settings.airflow.host, address=home.url),
        _part(home, "scheduler", AirflowPart(home.url, "scheduler"), (local.airflow_log_port,)),
        _part(home, "dag-processor", AirflowPart(home.url, "dag_processor")),
        _part(home, "triggerer", AirflowPart(home.url, "triggerer"), (local.airflow_trigger_log_port,)),
    ]
    for number in range(2, local.triggerers + 1):
        # Airflow's health names one triggerer, so the others are healthy while they run.
        port = local.airflow_trigger_log_port + number - 1
        more = _part(home, "triggerer", Runs(), (port,))
        environ = {**more.environ, "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(port)}
        parts.append(replace(more, name=f"airflow-triggerer-{number}", environ=environ))
    return parts


def _part(home: airflow.AirflowHome, name: str, check: Check, ports: tuple[int, ...] = ()) -> Service:
    return Service(
        f"airflow-{name}",
        (airflow.executable(), name),
        check,
        # A step of `up`: the database is migrated before any part starts.
        needs=("database",),
        ports=ports,
        group="airflow",
        environ=home.environ,
        config=_digest(home.config, home.passwords),
        # The others are asked through the API server: its own failure has to be the one that is told.
        start_seconds=480 if name == "api-server" else 540,
    )


def _producer(pipeline: str) -> Service:
    return Service(
        f"producer-{pipeline}",
        _headgate("produce", pipeline),
        Runs(),
        # A topic is there once its contract is applied: a step of `up`, named "contracts".
        needs=("kafka", "contracts"),
        group="producer",
        stop_seconds=30,
    )


def _headgate(*arguments: str) -> tuple[str, ...]:
    return (str(Path(sys.executable).with_name("headgate")), *arguments)


def _digest(*files: Path) -> str:
    """Of what the service reads once, at its start; "" before its files were written."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()[:16]


def java_home() -> str:
    """JAVA_HOME for all services, so that Spark and the broker use the Java that was checked."""
    return str(find_java().home)
