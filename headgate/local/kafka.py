"""The embedded broker: one KRaft node in a JVM of its own, on loopback, its data below the state root."""

from __future__ import annotations

import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path

from headgate.errors import RefusedError, ServiceError
from headgate.local.execute import run_within
from headgate.local.java import find_java
from headgate.settings import Settings

__all__ = [
    "Broker",
    "broker_of",
    "format_storage",
    "log4j_configuration",
    "server_properties",
    "write_configuration",
]

# Half a gigabyte carries the throughput of two cores; the page cache does the rest.
HEAP = "512m"
FORMAT_SECONDS = 60
# The default, 15 s of a session that ended, would keep a restarted broker fenced for that long.
SESSION_TIMEOUT_MS = 6000


@dataclass(frozen=True, slots=True)
class Broker:
    """Where one embedded broker lives."""

    folder: Path
    jars: Path
    host: str
    port: int
    controller_port: int

    @property
    def properties(self) -> Path:
        return self.folder / "server.properties"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def command(self) -> list[str]:
        """The argv that runs the broker in the foreground."""
        return [*_java(self), f"-Xmx{HEAP}", f"-Xms{HEAP}", "kafka.Kafka", str(self.properties)]


def broker_of(settings: Settings) -> Broker:
    """The embedded broker of these settings; refuses when they point at brokers elsewhere."""
    host, _, port = settings.kafka.brokers.partition(":")
    if "," in settings.kafka.brokers or host not in {"127.0.0.1", "localhost"} or not port.isdigit():
        raise RefusedError(
            f"kafka.brokers is {settings.kafka.brokers!r}: not an embedded broker",
            expected="one loopback address, such as 127.0.0.1:9092",
            help="choose another environment with HEADGATE_ENV, or correct [kafka] brokers in headgate.toml",
        )
    if settings.kafka.security_protocol != "PLAINTEXT":
        raise RefusedError(
            f"kafka.security_protocol is {settings.kafka.security_protocol}",
            expected="PLAINTEXT for the embedded broker, which listens on loopback only",
        )
    return Broker(
        settings.state / "kafka",
        settings.jars_dir.parent / "kafka",
        "127.0.0.1",
        int(port),
        settings.local.kafka_controller_port,
    )


def server_properties(broker: Broker) -> str:
    """The broker's configuration: one node, no topic by accident, internal topics of one replica."""
    plain = f"PLAINTEXT://{broker.host}:{broker.port}"
    controller = f"CONTROLLER://{broker.host}:{broker.controller_port}"
    values = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.bootstrap.servers": f"{broker.host}:{broker.controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"{plain},{controller}",
        "advertised.listeners": plain,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(broker.data),
        "auto.create.topics.enable": "false",
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        "broker.session.timeout.ms": str(SESSION_TIMEOUT_MS),
        "controlled.shutdown.enable": "true",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "message.max.bytes": str(8 * 1024 * 1024),
    }
    return "".join(f"{key}={value}\n" for key, value in values.items())


def log4j_configuration() -> str:
    """Warnings and the start-up lines on stdout, which the launcher sends to the service's log."""
    return (
        "status=warn\n"
        "appender.out.type=Console\nappender.out.name=OUT\n"
        "appender.out.layout.type=PatternLayout\n"
        "appender.out.layout.pattern=%d{yyyy-MM-dd'T'HH:mm:ss.SSSX}{UTC} %-5p %c{1}: %m%n\n"
        "rootLogger.level=warn\nrootLogger.appenderRef.out.ref=OUT\n"
        "logger.server.name=kafka.server.KafkaRaftServer\nlogger.server.level=info\n"
        "logger.broker.name=kafka.server.BrokerServer\nlogger.broker.level=info\n"
    )


def write_configuration(broker: Broker) -> None:
    broker.folder.mkdir(parents=True, exist_ok=True)
    _write_if_changed(broker.properties, server_properties(broker))
    _write_if_changed(broker.folder / "log4j2.properties", log4j_configuration())


def format_storage(broker: Broker) -> bool:
    """Write the configuration and format the storage once; True when it was formatted now.

    The cluster id is kept in a file beside the data: data whose id is lost is refused, never
    formatted over.
    """
    write_configuration(broker)
    if (broker.data / "meta.properties").is_file():
        return False
    if broker.data.is_dir() and any(broker.data.iterdir()):
        raise RefusedError(
            f"{broker.data} holds data without meta.properties: it is not formatted over",
            help=f"move {broker.data} away to begin with an empty broker",
        )
    command = [*_java(broker), "kafka.tools.StorageTool", "format", "--standalone"]
    command += ["-t", _cluster_id(broker.folder / "cluster.id"), "-c", str(broker.properties)]
    done = run_within(FORMAT_SECONDS, "the formatting of the broker's storage", command)
    if done.returncode != 0:
        raise ServiceError(
            f"the broker's storage could not be formatted:\n{(done.stdout + done.stderr).strip()[-2000:]}",
            help="headgate doctor",
        )
    return True


def _java(broker: Broker) -> list[str]:
    return [
        str(find_java().path),
        "-XX:+UseG1GC",
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={broker.folder / 'log4j2.properties'}",
        "-cp",
        f"{broker.jars}/*",
    ]


def _cluster_id(path: Path) -> str:
    if not path.is_file():
        text = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # Kafka's command line takes an id that begins with a dash for an option.
        path.write_text(("A" + text[1:] if text.startswith("-") else text) + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


def _write_if_changed(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
