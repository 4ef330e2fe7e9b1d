"""Whether a service does its work: one small check per kind, each with a short timeout."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Protocol

__all__ = ["AirflowPart", "Check", "Health", "Http", "Redis", "Runs", "Tcp"]

TIMEOUT = 3.0


@dataclass(frozen=True, slots=True)
class Health:
    ok: bool
    detail: str = ""


class Check(Protocol):
    def __call__(self) -> Health: ...


@dataclass(frozen=True, slots=True)
class Tcp:
    """Takes connections. The broker opens its port only when it is ready to serve."""

    host: str
    port: int

    def __call__(self) -> Health:
        try:
            with socket.create_connection((self.host, self.port), timeout=TIMEOUT):
                return Health(True)
        except OSError as error:
            return Health(False, f"{self.host}:{self.port}: {error.strerror or error}")


@dataclass(frozen=True, slots=True)
class Redis:
    """Answers PING, or asks for a password; one that still loads its file is not there yet."""

    host: str
    port: int

    def __call__(self) -> Health:
        try:
            with socket.create_connection((self.host, self.port), timeout=TIMEOUT) as connection:
                connection.sendall(b"PING\r\n")
                answer = connection.recv(64).decode("ascii", errors="replace").strip()
        except OSError as error:
            return Health(False, f"{self.host}:{self.port}: {error.strerror or error}")
        return Health(answer.startswith(("+PONG", "-NOAUTH")), answer)


@dataclass(frozen=True, slots=True)
class Http:
    """Answers 200 there."""

    url: str

    def __call__(self) -> Health:
        try:
            _get(self.url)
        except (OSError, ValueError) as error:
            return Health(False, f"{self.url}: {error}")
        return Health(True)


@dataclass(frozen=True, slots=True)
class AirflowPart:
    """Airflow's own opinion of one of its parts, from their heartbeats."""

    url: str
    part: str

    def __call__(self) -> Health:
        try:
            parts = json.loads(_get(f"{self.url}/api/v2/monitor/health"))
            status = parts[self.part]["status"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            return Health(False, f"{self.url}: {error}")
        return Health(status == "healthy", f"{self.part}: {status}")


@dataclass(frozen=True, slots=True)
class Runs:
    """Has nothing to ask: it is healthy while its process runs."""

    def __call__(self) -> Health:
        return Health(True)


def _get(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"Accept": "*/*"})
    # A proxy that the environment names has no business between two loopback addresses.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=TIMEOUT) as answer:
        body: bytes = answer.read()
        return body
