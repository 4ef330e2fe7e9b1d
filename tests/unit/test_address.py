from __future__ import annotations

import httpx
import pytest

from headgate.address import (
    checked_brokers,
    checked_host,
    checked_registry_url,
    checked_url,
    http_url,
    masked,
    split_host_port,
)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        ("redis://:***@cache:6379/0", "redis://:hunter2@cache:6379/0"),
        ("redis://:***@cache/0", "redis://:hun@ter/2@cache/0"),
        (
            "postgresql+psycopg://headgate:***@db/headgate",
            "postgresql+psycopg://headgate:hunter2@db/headgate",
        ),
        ("postgresql://db/x?user=a&password=***&b=1", "postgresql://db/x?user=a&password=hunter2&b=1"),
        ("sqlite:///{state}/headgate.db", "sqlite:///{state}/headgate.db"),
        ("redis://headgate@cache:6379/0", "redis://headgate@cache:6379/0"),
        ("env:KAFKA_PASSWORD", "env:KAFKA_PASSWORD"),
    ],
)
def test_a_url_is_shown_without_its_password(shown: str, text: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(
    "text", ["localhost", "localhost:", ":9092", "a:0", "a:65536", "a:9x", "::1:9092", ""]
)
def test_what_is_no_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host"):
        split_host_port(text)


def test_a_host_and_port_of_either_family_comes_apart() -> None:
    assert split_host_port(" kafka-1.example:9093") == ("kafka-1.example", 9093)
    assert split_host_port("[::1]:9092") == ("::1", 9092)


def test_each_broker_of_a_list_is_looked_at() -> None:
    assert checked_brokers("a:1, b:2,") == "a:1, b:2,"
    with pytest.raises(ValueError, match="'b' is not host:port"):
        checked_brokers("a:1,b")
    with pytest.raises(ValueError, match="empty"):
        checked_brokers(" , ")


def test_an_ipv6_address_gets_brackets_in_a_url_that_httpx_takes() -> None:
    assert http_url("127.0.0.1", 8070) == "http://127.0.0.1:8070"
    assert httpx.URL(http_url("::1", 8070)).host == "::1"
    assert checked_host("[::1]") == "::1"


@pytest.mark.parametrize("host", ["", "http://a", "a:8070", "a/b", "a b", "[::1", "::z"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="is not a host"):
        checked_host(host)


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:abc/0", "redis://:hun/ter2@cache", "redis://[::1/0", "127.0.0.1:6379", ""]
)
def test_a_url_that_cannot_be_used_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(ValueError, match="is not a URL") as caught:
        checked_url(url)
    assert "hun" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("url", ["https://r", "http://r:8081/apis/ccompat/v7", "http://[::1]:8081"])
def test_the_address_of_a_registry_is_taken_as_it_is(url: str) -> None:
    assert checked_registry_url(url) == url


@pytest.mark.parametrize("url", ["redis://r", "file:///etc/passwd", "http://", "r:8081"])
def test_what_is_no_address_of_a_registry_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        checked_registry_url(url)
