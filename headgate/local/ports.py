"""Ports: whether one is free, who holds it, and finding free ones for tests."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass

import psutil

__all__ = ["Holder", "accepts", "free_port", "holder_of", "is_free"]

# A port from the ephemeral range could be taken by somebody's outgoing connection meanwhile.
TEST_PORTS = range(20000, 32000)


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that listens on a port; without a pid it belongs to another user."""

    port: int
    pid: int | None
    name: str

    def __str__(self) -> str:
        who = f"pid {self.pid} ({self.name})" if self.pid is not None else "a process of another user"
        return f"port {self.port} is held by {who}"


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now; connections in TIME_WAIT do not count."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def accepts(host: str, port: int, timeout: float = 1.0) -> bool:
    """Whether something there takes a connection."""
    try:
        with socket.create_connection((host, port), timeout=timeout):
            return True
    except OSError:
        return False


def holder_of(port: int) -> Holder | None:
    """Who listens on this port, None when nobody does."""
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status != psutil.CONN_LISTEN or connection.laddr[1:2] != (port,):
            continue
        return Holder(port, connection.pid, _name(connection.pid))
    return None


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on at this moment, below those the kernel gives to outgoing connections."""
    while True:
        port = secrets.choice(TEST_PORTS)
        if is_free(host, port):
            return port


def _name(pid: int | None) -> str:
    if pid is None:
        return ""
    try:
        process = psutil.Process(pid)
        return " ".join(process.cmdline()[:4]) or process.name()
    except psutil.Error:
        return "gone meanwhile"
