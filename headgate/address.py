"""Addresses of the settings: checked once when they are read, and shown without their passwords."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import urlsplit

__all__ = [
    "authority",
    "checked_brokers",
    "checked_host",
    "checked_registry_url",
    "checked_store_url",
    "checked_url",
    "http_url",
    "masked",
    "split_host_port",
]

LARGEST_PORT = 65_535
# Up to the last @: a password with an @ or a slash that nobody escaped is hidden as well.
_USER_PASSWORD = re.compile(r"(?<=://)([^:@/]*):.*@", re.DOTALL)
_QUERY_PASSWORD = re.compile(
    r"(?<=[?&])([a-z_]*(?:password|passwd|secret|token)[a-z_]*=)[^&#]*", re.IGNORECASE
)


def masked(text: str) -> str:
    """The text with *** for the password of a URL in it, wherever the URL carries one."""
    return _QUERY_PASSWORD.sub(r"\1***", _USER_PASSWORD.sub(r"\1:***@", text))


def authority(host: str, port: int) -> str:
    """`host:port`; an IPv6 address gets its brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def http_url(host: str, port: int) -> str:
    """Where an HTTP server is."""
    return f"http://{authority(host, port)}"


def split_host_port(address: str) -> tuple[str, int]:
    """`host:port` or `[IPv6]:port`, the brackets taken off. Raises ValueError."""
    host, colon, port = address.strip().rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= LARGEST_PORT:
        raise ValueError(f"{address.strip()!r} is not host:port with a port from 1 to {LARGEST_PORT}")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"{address.strip()!r} is not host:port; an IPv6 address is written [{host}]:{port}")
    return checked_host(host), int(port)


def checked_brokers(value: str) -> str:
    """`host:port[,host:port…]`. Raises ValueError."""
    brokers = [part for part in value.split(",") if part.strip()]
    if not brokers:
        raise ValueError("is empty; expected host:port[,host:port…]")
    for broker in brokers:
        split_host_port(broker)
    return value


def checked_host(value: str) -> str:
    """A name or an address without scheme and port; brackets are taken off. Raises ValueError."""
    host = value.strip()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if ":" in host:
        try:
            IPv6Address(host.partition("%")[0])
        except AddressValueError as error:
            raise ValueError(
                f"{value!r} is not a host: a name or an address, without scheme or port"
            ) from error
    elif not re.fullmatch(r"[A-Za-z0-9._-]+", host):
        raise ValueError(f"{value!r} is not a host: a name or an address, without scheme or port")
    return host


def checked_url(value: str) -> str:
    """A URL with a scheme and, where there is one, a port that is one. Raises ValueError.

    The text is no part of the error, nor is what urllib says: with a slash in a password it takes a
    piece of the password for the port.
    """
    if not re.match(r"[a-z][a-z0-9+.-]*://", value):
        raise ValueError("is not a URL: expected scheme://…")
    try:
        _ = urlsplit(value).port
    except ValueError:
        raise ValueError(
            f"is not a URL: expected a port from 1 to {LARGEST_PORT}, an IPv6 address in brackets, "
            "and %-escapes in a password"
        ) from None
    return value


def checked_registry_url(value: str) -> str:
    """An http or https URL that holds no credentials: it stands in messages and logs. Raises ValueError
    without the text, as `checked_url` does."""
    return _plain_http(
        value, "a registry", "registry.username and registry.password, or registry.token, as references"
    )


def checked_store_url(value: str) -> str:
    """The same of a store of S3."""
    return _plain_http(value, "a store of S3", "s3.access_key and s3.secret_key, as references")


def _plain_http(value: str, whose: str, credentials: str) -> str:
    parts = urlsplit(checked_url(value))
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"is not the address of {whose}: expected http://HOST or https://HOST")
    if "@" in value or parts.query or parts.fragment:
        raise ValueError(f"holds more than an address: credentials go to {credentials}")
    return value
