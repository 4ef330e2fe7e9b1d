from __future__ import annotations

from pathlib import Path

import pytest

from headgate.errors import SettingsError
from headgate.settings import KafkaSettings, Settings
from headgate.topics.kafka import client_options, spark_options


def _settings(home: Path, **kafka: object) -> Settings:
    return Settings(home=home, kafka=KafkaSettings.model_validate(kafka))


@pytest.fixture
def secured(tmp_path: Path) -> Settings:
    (tmp_path / "user").write_text('me"\n')
    (tmp_path / "password").write_text('a\\b"; org.evil.Module required x="')
    (tmp_path / "ca.pem").write_text("pem")
    return _settings(
        tmp_path,
        brokers="a:9092, b:9092",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        username="file:user",
        password="file:password",
        ca_file="ca.pem",
    )


def test_python_and_jvm_clients_get_the_same_brokers_and_credentials(secured: Settings) -> None:
    python, jvm = client_options(secured), spark_options(secured)
    assert python["bootstrap_servers"] == ["a:9092", "b:9092"]
    assert jvm["kafka.bootstrap.servers"] == "a:9092,b:9092"
    assert python["sasl_plain_username"] == 'me"'
    assert python["ssl_cafile"] == jvm["kafka.ssl.truststore.location"]
    assert jvm["kafka.ssl.truststore.type"] == "PEM"
    assert jvm["kafka.sasl.mechanism"] == python["sasl_mechanism"] == "SCRAM-SHA-512"


def test_a_password_cannot_end_the_quotes_and_name_a_login_module_of_its_own(secured: Settings) -> None:
    config = str(spark_options(secured)["kafka.sasl.jaas.config"])
    assert config == (
        'org.apache.kafka.common.security.scram.ScramLoginModule required username="me\\"" '
        'password="a\\\\b\\"; org.evil.Module required x=\\"";'
    )


def test_a_printed_configuration_does_not_hold_the_password(secured: Settings) -> None:
    shown = f"{client_options(secured)!r} {spark_options(secured)!r}"
    assert "evil" not in shown
    assert shown.count("[hidden]") == 2


def test_plaintext_needs_and_gives_no_credentials(tmp_path: Path) -> None:
    settings = _settings(tmp_path, brokers="a:1", password="env:NOT_THERE")
    assert set(spark_options(settings)) == {"kafka.bootstrap.servers", "kafka.security.protocol"}
    assert "sasl_mechanism" not in client_options(settings)


def test_sasl_without_a_user_names_the_settings_that_are_missing(tmp_path: Path) -> None:
    settings = _settings(tmp_path, security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN")
    with pytest.raises(SettingsError, match=r"no kafka\.username and no kafka\.password"):
        client_options(settings)


def test_a_missing_certificate_file_is_a_settings_error(tmp_path: Path) -> None:
    settings = _settings(tmp_path, security_protocol="SSL", ca_file="gone.pem")
    with pytest.raises(SettingsError, match=r"gone\.pem"):
        spark_options(settings)
