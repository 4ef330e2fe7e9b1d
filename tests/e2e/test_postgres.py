"""The state store on a real Postgres, and a supervisor whose store goes away."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
from store_contract import StoreContract
from supervised import Installation, in_phase, start, until

from headgate.errors import StoreUnavailable, SupervisorUnavailable
from headgate.streams.model import Phase
from headgate.streams.store import StateStore


def programs() -> Path | None:
    """Debian keeps the server's programs out of the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    beside = shutil.which("initdb")
    return found[-1].parent if found else Path(beside).parent if beside else None


PROGRAMS = programs()
pytestmark = pytest.mark.skipif(
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


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
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


class TestStateStoreOnPostgres(StoreContract):
    @pytest.fixture
    def url(self, postgres: Postgres) -> str:
        return postgres.fresh()


# SQLAlchemy drops a connection that the server cut without closing it; psycopg's finaliser says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_store_that_went_away_is_unavailable_and_serves_again_when_it_is_back(postgres: Postgres) -> None:
    store = StateStore(postgres.fresh())
    assert store.streams() == []
    postgres.stop()
    with pytest.raises(StoreUnavailable, match="streams go on"):
        store.streams()
    postgres.start()
    assert store.streams() == []
    store.close()


def test_streams_run_on_while_the_store_is_away_and_are_supervised_again_when_it_is_back(
    postgres: Postgres, tmp_path: Path
) -> None:
    place = Installation(tmp_path, postgres.fresh())
    try:
        client = place.supervise()
        start(client, "s")
        in_phase(client, "s", Phase.RUNNING)
        postgres.stop()
        committed = len(place.commits("s"))
        until("commits without a store", lambda: len(place.commits("s")) > committed + 5)
        with pytest.raises(SupervisorUnavailable):
            start(client, "s", "k2")
        assert "store unavailable" in place.journal()
        ((_, _, pid),) = place.starts("s")
        os.kill(pid, signal.SIGKILL)
        until("the exit note", (place.folder("s") / "exit-1.json").exists)
        assert len(place.starts("s")) == 1, "nothing starts while no intent can be written down"
        postgres.start()
        restarted = in_phase(client, "s", Phase.RUNNING, epoch=2)
        assert (restarted.generation, restarted.restarts) == (1, 1)
    finally:
        place.clear()
        if postgres.process is None:
            postgres.start()
