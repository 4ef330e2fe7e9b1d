"""Brokers that do not answer. Here, as kafka-python leaves half-open sockets to the garbage collector."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from headgate.errors import KafkaUnavailable
from headgate.settings import KafkaSettings, Settings
from headgate.topics.kafka import admin_client


def _settings(home: Path, **kafka: object) -> Settings:
    return Settings(home=home, kafka=KafkaSettings.model_validate(kafka))


def test_a_broker_that_does_not_answer_is_named_with_the_next_command(tmp_path: Path) -> None:
    # A listening socket that nobody serves: kafka-python leaks its sockets where none listens.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        settings = _settings(tmp_path, brokers=address, timeout_seconds=0.3)
        with pytest.raises(KafkaUnavailable, match=address) as caught, admin_client(settings):
            raise AssertionError("the client must not open")
    assert "headgate up" in str(caught.value)


def test_a_client_that_could_not_open_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = _settings(tmp_path, brokers=f"127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=0.3)
        with pytest.raises(KafkaUnavailable), admin_client(settings):
            raise AssertionError("the client must not open")
    assert threading.active_count() == before
