"""The state store on a real Postgres, and a supervisor whose store goes away."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import Postgres, needs_postgres, postgres_server
from store_contract import StoreContract
from supervised import Installation, in_phase, start, until

from headgate.errors import StoreUnavailable, SupervisorUnavailable
from headgate.streams.model import Phase
from headgate.streams.store import StateStore

pytestmark = needs_postgres


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


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
