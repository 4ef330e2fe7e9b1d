"""The one place that knows how Kafka is reached: options for Python and JVM clients, and the clients.

Kafka client options are code (CVE-2023-25194: a login module named in `sasl.jaas.config` is loaded), so
nothing here comes from a contract: the mechanism is one of three, the module follows from it, and user
and password are quoted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer
from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient

from headgate.errors import KafkaUnavailable, ServiceError, SettingsError
from headgate.settings import Settings

__all__ = [
    "admin_client",
    "client_options",
    "consumer_client",
    "ended_unless_built",
    "spark_options",
    "unavailable_as_ours",
]

_LOGIN_MODULES = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}
# Kafka reads JAAS with java.io.StreamTokenizer: backslash escapes, and a bare line end closes a string.
_JAAS_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})

_REFUSED_CREDENTIALS = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
)
# What a later try can heal. Not the whole of RetriableError: an unknown topic is "retriable" to Kafka.
_NO_ANSWER = (
    kafka_errors.KafkaConnectionError,
    kafka_errors.KafkaTimeoutError,
    kafka_errors.NodeNotReadyError,
    kafka_errors.BrokerNotAvailableError,
    kafka_errors.RequestTimedOutError,
    kafka_errors.LeaderNotAvailableError,
    kafka_errors.NotLeaderForPartitionError,
    kafka_errors.CoordinatorNotAvailableError,
    kafka_errors.Cancelled,
)


class _Secret(str):
    """A string that does not show itself: kafka-python logs its whole configuration at debug level."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'[hidden]'"


def client_options(settings: Settings) -> dict[str, Any]:
    """Options for every kafka-python client of this installation. Raises SettingsError."""
    kafka = settings.kafka
    options: dict[str, Any] = {
        "bootstrap_servers": _brokers(settings),
        "security_protocol": kafka.security_protocol,
        "bootstrap_timeout_ms": int(kafka.timeout_seconds * 1000),
    }
    if (ca_file := _ca_file(settings)) is not None:
        options["ssl_cafile"] = ca_file
    if _uses_sasl(settings):
        mechanism, username, password = _credentials(settings)
        options["sasl_mechanism"] = mechanism
        options["sasl_plain_username"] = username
        options["sasl_plain_password"] = _Secret(password)
    return options


def spark_options(settings: Settings) -> dict[str, str]:
    """The same as options of Spark's Kafka source and sink (`kafka.…`). Raises SettingsError."""
    kafka = settings.kafka
    options = {
        "kafka.bootstrap.servers": ",".join(_brokers(settings)),
        "kafka.security.protocol": kafka.security_protocol,
    }
    if (ca_file := _ca_file(settings)) is not None:
        options["kafka.ssl.truststore.type"] = "PEM"
        options["kafka.ssl.truststore.location"] = ca_file
    if _uses_sasl(settings):
        mechanism, username, password = _credentials(settings)
        options["kafka.sasl.mechanism"] = mechanism
        options["kafka.sasl.jaas.config"] = _jaas(mechanism, username, password)
    return options


@contextmanager
def admin_client(settings: Settings) -> Iterator[KafkaAdminClient]:
    """An admin client, closed afterwards. Raises KafkaUnavailable, also for what happens inside."""
    options = client_options(settings)
    options["request_timeout_ms"] = options["bootstrap_timeout_ms"]
    with _open(KafkaAdminClient, options, settings) as admin, unavailable_as_ours(settings):
        yield admin


@contextmanager
def consumer_client(settings: Settings, **more: Any) -> Iterator[KafkaConsumer]:
    """A consumer without a group, which commits nothing, closed afterwards. Raises KafkaUnavailable."""
    options = {
        **client_options(settings),
        "group_id": None,
        "enable_auto_commit": False,
        "allow_auto_create_topics": False,
        **more,
    }
    with _open(KafkaConsumer, options, settings) as consumer, unavailable_as_ours(settings):
        yield consumer


@contextmanager
def unavailable_as_ours(settings: Settings) -> Iterator[None]:
    """Turn what kafka-python raises into errors that say where and what next.

    KafkaUnavailable for what later tries can heal, ServiceError for an answer that is an error.
    """
    try:
        yield
    except _REFUSED_CREDENTIALS as error:
        raise KafkaUnavailable(
            f"Kafka at {settings.kafka.brokers} refused this user: {_first_line(error)}",
            expected=f"{settings.kafka.security_protocol} with the right mechanism, user and password",
            help="check [kafka] in headgate.toml and the secrets it refers to: headgate doctor",
        ) from error
    except _NO_ANSWER as error:
        raise KafkaUnavailable(
            f"Kafka does not answer at {settings.kafka.brokers}: {_first_line(error)}",
            expected=f"a broker that answers within {settings.kafka.timeout_seconds:g} s",
            help="headgate up starts the embedded broker; headgate doctor shows where "
            "kafka.brokers comes from",
        ) from error
    except kafka_errors.KafkaError as error:
        raise ServiceError(
            f"Kafka at {settings.kafka.brokers} answered with an error: {_first_line(error)}",
            help="headgate plan shows what is there",
        ) from error


@contextmanager
def ended_unless_built() -> Iterator[Callable[..., KafkaNetClient]]:
    """A `kafka_client=` for one client: one that fails to bootstrap leaves its I/O thread behind, which is
    ended here; one that is built keeps it."""
    with ExitStack() as started:

        def transport(*args: Any, **kwargs: Any) -> KafkaNetClient:
            net = KafkaNetClient(*args, **kwargs)
            started.callback(net.close)
            return net

        yield transport
        started.pop_all()


@contextmanager
def _open(kind: type[Any], options: dict[str, Any], settings: Settings) -> Iterator[Any]:
    with ended_unless_built() as transport, unavailable_as_ours(settings):
        client = kind(**options, kafka_client=transport)
    try:
        yield client
    finally:
        client.close()


def _brokers(settings: Settings) -> list[str]:
    brokers = [part.strip() for part in settings.kafka.brokers.split(",") if part.strip()]
    if not brokers:
        raise SettingsError("kafka.brokers is empty", expected="host:port[,host:port…]")
    return brokers


def _ca_file(settings: Settings) -> str | None:
    kafka = settings.kafka
    if kafka.ca_file is None or kafka.security_protocol not in ("SSL", "SASL_SSL"):
        return None
    path = settings.path(kafka.ca_file)
    if not path.is_file():
        raise SettingsError(
            f"kafka.ca_file is not there: {path}",
            expected="certificates of the authorities that sign the brokers', in PEM form",
        )
    return str(path)


def _uses_sasl(settings: Settings) -> bool:
    return settings.kafka.security_protocol.startswith("SASL_")


def _credentials(settings: Settings) -> tuple[str, str, str]:
    kafka = settings.kafka
    missing = [key for key in ("sasl_mechanism", "username", "password") if getattr(kafka, key) is None]
    if kafka.sasl_mechanism is None or kafka.username is None or kafka.password is None:
        raise SettingsError(
            f"kafka.security_protocol is {kafka.security_protocol}, and there is no "
            + " and no ".join(f"kafka.{key}" for key in missing),
            expected="kafka.sasl_mechanism, and references (env:NAME, file:PATH) to user and password",
            help="headgate doctor shows where each setting comes from",
        )
    return kafka.sasl_mechanism, settings.secret(kafka.username), settings.secret(kafka.password)


def _jaas(mechanism: str, username: str, password: str) -> str:
    return _Secret(
        f"{_LOGIN_MODULES[mechanism]} required "
        f'username="{username.translate(_JAAS_ESCAPES)}" password="{password.translate(_JAAS_ESCAPES)}";'
    )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
