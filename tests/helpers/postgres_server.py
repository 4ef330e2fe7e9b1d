"""A real Postgres server for tests, from the programs of the distribution's package."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
from supervised import until

__all__ = ["Postgres", "needs_postgres", "postgres_server"]


def programs() -> Path | None:
    """Debian keeps the server's programs out of the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    beside = shutil.which("initdb")
    return found[-1].parent if found else Path(beside).parent if beside else None


PROGRAMS = programs()
needs_postgres = pytest.mark.skipif(
    PROGRAMS is None, reason="Postgres is not installed: apt-get install postgresql"
)


@dataclass
class Postgres:
    """A server on a Unix socket; it refuses to run as root and gets Debian's user then."""

    folder: Path
    user: str
    process: subprocess.Popen[bytes] | None = None
    names: Iterator[int] = field(default_factory=lambda: count(1))

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{self.user}@/{database}?host={self.folder}"

    def fresh(self) -> str:
        """The address of a new, empty database."""
        name = f"store{next(self.names)}"
        engine = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url(name)

    def run(self, program: str, *arguments: str) -> list[str]:
        assert PROGRAMS is not None
        return [str(PROGRAMS / program), *arguments]

    def start(self) -> None:
        data = str(self.folder / "data")
        command = self.run("postgres", "-D", data, "-k", str(self.folder), "-c", "listen_addresses=")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, user=self.user, stdout=log, stderr=log, cwd=self.folder)
        until("Postgres answers", self.answers)

    def answers(self) -> bool:
        engine = sa.create_engine(self.url("postgres"))
        try:
            engine.connect().close()
        except sa.exc.OperationalError:
            return False
        finally:
            engine.dispose()
        return True

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(60)
            self.process = None


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """With a cluster of its own, which is removed at the end."""
    with tempfile.TemporaryDirectory() as name:
        user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        server = Postgres(Path(name), user)
        shutil.chown(name, user)
        initialise = server.run(
            "initdb", "-D", str(server.folder / "data"), "-A", "trust", "-U", user, "--no-sync"
        )
        subprocess.run(initialise, user=user, check=True, stdout=subprocess.DEVNULL, cwd=name)
        server.start()
        try:
            yield server
        finally:
            server.stop()
