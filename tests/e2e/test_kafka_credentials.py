"""The same credentials, odd characters included, for Python and JVM clients against a SASL listener."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyspark
import pytest
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway

from headgate.errors import KafkaUnavailable
from headgate.local.java import find_java
from headgate.local.kafka import Broker, broker_of, format_storage, server_properties
from headgate.local.ports import free_port
from headgate.settings import Settings
from headgate.topics.kafka import admin_client, spark_options

USER, PASSWORD = "o.brien", 'a"b\\c;d=e $ü'


@pytest.fixture(scope="module")
def settings(service_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    state = tmp_path_factory.mktemp("sasl")
    kafka = service_settings.kafka.model_copy(update={"brokers": f"127.0.0.1:{free_port()}"})
    local = service_settings.local.model_copy(update={"kafka_controller_port": free_port()})
    roots = service_settings.roots.model_copy(update={"state": str(state)})
    return service_settings.model_copy(update={"kafka": kafka, "local": local, "roots": roots})


@pytest.fixture(scope="module")
def secured(settings: Settings, broker: Any) -> Iterator[Settings]:
    """A broker whose only listener for clients asks for user and password."""
    local: Broker = broker_of(settings)
    format_storage(local)
    quoted = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
    jaas = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{quoted}";'
    text = server_properties(local).replace("PLAINTEXT://", "SASL_PLAINTEXT://")
    text = text.replace("PLAINTEXT:PLAINTEXT", "SASL_PLAINTEXT:SASL_PLAINTEXT")
    text += "sasl.enabled.mechanisms=PLAIN\nsecurity.inter.broker.protocol=SASL_PLAINTEXT\n"
    text += "sasl.mechanism.inter.broker.protocol=PLAIN\n"
    own = f'{jaas[:-1]} username="{USER}" password="{quoted}";'
    escaped = own.replace("\\", "\\\\").replace("ü", "\\u00fc")  # a properties file has escapes of its own
    text += f"listener.name.sasl_plaintext.plain.sasl.jaas.config={escaped}\n"
    local.properties.write_text(text, encoding="utf-8")
    (settings.state / "user").write_text(USER, encoding="utf-8")
    (settings.state / "password").write_text(PASSWORD, encoding="utf-8")
    service = type(broker)("sasl", local.command(), local.host, local.port, settings.state / "kafka.log")
    kafka = settings.kafka.model_copy(
        update={
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "username": "file:{state}/user",
            "password": "file:{state}/password",
        }
    )
    try:
        service.start()
        yield settings.model_copy(update={"kafka": kafka})
    finally:
        service.stop()


@pytest.fixture(scope="module")
def jvm(service_settings: Settings) -> Iterator[JavaGateway]:
    """A JVM with Spark's own Kafka client in it."""
    jars = Path(pyspark.__file__).parent / "jars"
    path = [*service_settings.jars_dir.glob("kafka-clients-*.jar"), *jars.glob("*.jar")]
    port, process = launch_gateway(
        classpath=":".join(map(str, path)),
        jarpath=str(next(jars.glob("py4j-*.jar"))),
        java_path=str(find_java().path),
        die_on_exit=True,
        return_proc=True,
    )
    gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auto_convert=True))
    yield gateway
    gateway.shutdown()
    process.kill()
    process.wait()
    with suppress(OSError):
        process.stdin.close()


def test_python_clients_get_in_and_a_wrong_password_is_told_as_such(secured: Settings) -> None:
    with admin_client(secured) as admin:
        assert admin.describe_cluster()["cluster_id"]
    (secured.state / "wrong").write_text("wrong", encoding="utf-8")
    kafka = secured.kafka.model_copy(update={"password": "file:{state}/wrong", "timeout_seconds": 5.0})
    with (
        pytest.raises(KafkaUnavailable) as caught,
        admin_client(secured.model_copy(update={"kafka": kafka})) as admin,
    ):
        admin.describe_cluster()
    assert secured.kafka.brokers in str(caught.value)
    assert "wrong" not in str(caught.value)


def test_jvm_clients_get_in_with_the_options_that_spark_gets(secured: Settings, jvm: JavaGateway) -> None:
    options = {key.removeprefix("kafka."): str(value) for key, value in spark_options(secured).items()}
    properties = jvm.jvm.java.util.Properties()
    for key, value in {**options, "request.timeout.ms": "15000", "default.api.timeout.ms": "15000"}.items():
        properties.setProperty(key, value)
    client = jvm.jvm.org.apache.kafka.clients.admin.AdminClient.create(properties)
    try:
        assert client.describeCluster().clusterId().get()
    finally:
        client.close()
