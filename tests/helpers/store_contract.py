"""What every state store must do, on SQLite and on Postgres alike; a subclass gives the address."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa
from stream_world import AIRFLOW, ALICE, HASH

from headgate.errors import RefusedError
from headgate.quality.verdict import ExpectationResult, Verdict
from headgate.streams import orders, tables
from headgate.streams.engine import make_engine
from headgate.streams.model import Event, FailureClass, Owner, Phase
from headgate.streams.record import Drain, Ending, Failure, Incarnation, StopCause, StopOrder, StreamRecord
from headgate.streams.statements import Change, Order, StaleRecord
from headgate.streams.store import LeaseLost, StateStore


class StoreContract:
    @pytest.fixture
    def store(self, url: str) -> Iterator[StateStore]:
        opened = StateStore(url)
        yield opened
        opened.close()

    def test_a_record_comes_back_as_it_was_written(self, store: StateStore) -> None:
        record = ordered(store, owner=AIRFLOW)
        full = replace(
            record,
            phase=Phase.STOPPING,
            failures=(Failure(1.5, FailureClass.DEPENDENCY, "away", True),),
            failure_class=FailureClass.DEPENDENCY,
            stop=StopOrder(StopCause.REPLACED, "cli:x", "why", 9.0, kill=True, signalled_at=8.0),
            next_attempt_at=7.25,
            conditions=("stalled",),
            stopped_by="cli:x: why",
            stopped_how="killed",
            drain=Drain("cli:x", "why", 9.0, 60.0, {"a": {0: 7, 11: 8}}, "3 records were left"),
        )
        saved = store.save(record, full)
        assert store.stream("s") == saved == replace(full, version=2)
        assert store.streams() == [saved]
        assert store.stream("unknown") is None

    def test_a_writer_that_read_an_older_record_is_refused(self, store: StateStore) -> None:
        record = ordered(store)
        store.save(record, replace(record, reason="first"))
        with pytest.raises(StaleRecord):
            store.save(record, replace(record, reason="second"))
        kept = store.stream("s")
        assert kept is not None
        assert kept.reason == "first"

    def test_a_refused_write_leaves_nothing_of_itself(self, store: StateStore) -> None:
        record = ordered(store)
        store.save(record, replace(record, reason="first"))
        begun = Incarnation("s", 1, 1, HASH, "nonce", started_at=2.0)
        with pytest.raises(StaleRecord):
            store.save(record, replace(record, epoch=1), events=[event("lost")], begun=begun)
        assert store.incarnation("s", 1) is None
        assert [each.kind for each in store.events("s")] == ["order"]

    def test_orders_that_come_together_get_generations_of_their_own(
        self, store: StateStore, url: str
    ) -> None:
        stores = [StateStore(url) for _ in range(6)]
        found: list[int] = []
        at_once(
            [
                lambda s=each, n=n: found.append(ordered(s, f"k{n}").generation)
                for n, each in enumerate(stores)
            ]
        )
        for each in stores:
            each.close()
        assert sorted(found) == [1, 2, 3, 4, 5, 6]
        last = store.stream("s")
        assert last is not None
        assert (last.generation, last.version) == (6, 6)

    def test_one_key_sent_by_many_at_once_is_one_generation(self, store: StateStore, url: str) -> None:
        stores = [StateStore(url) for _ in range(6)]
        found: list[int] = []
        at_once([lambda s=each: found.append(ordered(s, "same").generation) for each in stores])
        for each in stores:
            each.close()
        assert found == [1] * 6
        assert len(store.events("s")) == 1

    def test_epochs_begun_at_once_are_begun_once(self, store: StateStore, url: str) -> None:
        record = ordered(store)
        stores = [StateStore(url) for _ in range(6)]
        outcomes: list[str] = []

        def attempt(each: StateStore, number: int) -> None:
            try:
                begin(each, record, f"n{number}-")
                outcomes.append("begun")
            except StaleRecord:
                outcomes.append("stale")

        at_once([lambda s=each, n=n: attempt(s, n) for n, each in enumerate(stores)])
        for each in stores:
            each.close()
        assert sorted(outcomes) == ["begun", *["stale"] * 5]
        assert len(store.incarnations("s")) == 1

    def test_a_repeated_key_is_refused_after_another_owner_has_ordered(self, store: StateStore) -> None:
        ordered(store, "a", AIRFLOW)
        assert ordered(store, "a", AIRFLOW).generation == 1
        ordered(store, "b", ALICE)
        with pytest.raises(RefusedError, match="became generation 1"):
            ordered(store, "a", AIRFLOW)

    def test_an_incarnation_keeps_its_processes_and_its_ending(self, store: StateStore) -> None:
        record = begin(store, ordered(store))
        begun = store.incarnation("s", 1)
        assert begun is not None
        known = replace(begun, runner_pid=10, driver_pid=11, driver_ticks=12, boot_id="b", driver_start=3.0)
        store.note_processes(known)
        assert store.incarnation("s", 1) == known
        ending = Ending("failed", None, 9, FailureClass.TRANSIENT, "killed")
        store.save(record, replace(record, phase=Phase.BACKOFF), ended=ending, at=5.0)
        assert store.incarnation("s", 1) == replace(known, ended_at=5.0, ending=ending)

    def test_events_are_read_forwards_from_an_id_or_backwards_from_the_end(self, store: StateStore) -> None:
        for number in range(5):
            store.append(event(f"e{number}"))
            store.append(event("other", "t"))
        ids = [each.id for each in store.events("s")]
        assert ids == sorted(ids)
        assert [each.kind for each in store.events("s", after=ids[1], limit=2)] == ["e2", "e3"]
        assert [each.kind for each in store.events("s", after=-1, limit=2)] == ["e3", "e4"]
        assert len(store.events()) == 10

    def test_the_latest_verdict_of_each_output_is_found(self, store: StateStore) -> None:
        result = ExpectationResult("not_null", "a", "critical", False, "3 nulls")
        for output, at in (("b", 1.0), ("a", 2.0), ("b", 3.0)):
            store.record_verdict(Verdict("p", output, "failed", "critical", at, (result,), 7, None, HASH))
        latest = store.latest_verdicts("p")
        assert [(each.output, each.at) for each in latest] == [("a", 2.0), ("b", 3.0)]
        assert latest[0].expectations == (result,)
        assert store.latest_verdicts("q") == []

    def test_a_topic_is_remembered_with_its_newest_id(self, store: StateStore) -> None:
        assert store.topic_id("t") is None
        store.remember_topic("t", "id1", "p")
        store.remember_topic("t", "id2", "p")
        assert store.topic_id("t") == "id2"

    def test_a_write_without_the_lease_is_refused(self, store: StateStore) -> None:
        record = ordered(store)
        with store.engine.begin() as connection:
            connection.execute(tables.lease.insert().values(id=1, holder="me", epoch=4, beat=1, renewed=0.0))
        store.save(record, replace(record, reason="mine"), lease_epoch=4)
        current = store.stream("s")
        assert current is not None
        with pytest.raises(LeaseLost):
            store.save(current, replace(current, reason="late"), lease_epoch=3)
        with pytest.raises(LeaseLost):
            store.order("s", Order("ensure", start()), lease_epoch=3)
        assert store.stream("s") == current

    def test_opening_a_fresh_store_from_many_threads_makes_it_once(self, url: str) -> None:
        opened: list[StateStore] = []
        at_once([lambda: opened.append(StateStore(url))] * 6)
        assert len(opened) == 6
        for each in opened:
            each.close()

    def test_an_older_store_takes_the_steps_that_it_lacks(self, url: str) -> None:
        StateStore(url).close()
        engine = make_engine(url)
        taken: list[int] = []

        def second(connection: sa.Connection) -> None:
            connection.execute(sa.text("ALTER TABLE streams ADD COLUMN colour VARCHAR(8)"))
            taken.append(2)

        steps = {
            2: second,
            3: lambda connection: taken.append(3),
        }
        base = tables.SCHEMA_VERSION
        shifted = {base + number - 1: step for number, step in steps.items()}
        tables.migrate(engine, shifted, base + 2)
        tables.migrate(engine, shifted, base + 2)
        assert taken == [2, 3]
        assert "colour" in {column["name"] for column in sa.inspect(engine).get_columns("streams")}
        engine.dispose()

    def test_a_store_of_the_first_schema_becomes_that_of_a_fresh_one(self, url: str) -> None:
        engine = make_engine(url)
        with engine.begin() as connection:
            tables.metadata.create_all(connection)
            connection.execute(sa.text("ALTER TABLE incarnations DROP COLUMN host"))
            for column in ("drain", "origin", "upgrade", "stable_hash"):
                connection.execute(sa.text(f"ALTER TABLE streams DROP COLUMN {column}"))
            tables.operations.drop(connection)
            connection.execute(tables.schema_version.insert().values(version=1))
            connection.execute(
                sa.text(
                    "INSERT INTO incarnations (stream, epoch, generation, contract_hash, nonce, started_at) "
                    "VALUES ('s', 1, 1, 'c', 'n', 1.0)"
                )
            )
        engine.dispose()
        store = StateStore(url)
        old = store.incarnation("s", 1)
        assert old is not None
        assert old.host == ""
        inspector = sa.inspect(store.engine)
        for table in tables.metadata.sorted_tables:
            columns = {column["name"] for column in inspector.get_columns(table.name)}
            assert columns == set(table.c.keys())
        store.close()

    def test_a_step_that_fails_leaves_the_older_schema(self, url: str) -> None:
        StateStore(url).close()
        engine = make_engine(url)
        base = tables.SCHEMA_VERSION

        def broken(connection: sa.Connection) -> None:
            connection.execute(sa.text("ALTER TABLE streams ADD COLUMN half VARCHAR(8)"))
            connection.execute(sa.text("ALTER TABLE nowhere ADD COLUMN x VARCHAR(8)"))

        with pytest.raises(sa.exc.DBAPIError):
            tables.migrate(engine, {base + 1: broken}, base + 1)
        assert "half" not in {column["name"] for column in sa.inspect(engine).get_columns("streams")}
        engine.dispose()
        StateStore(url).close()

    def test_a_newer_store_is_refused(self, url: str) -> None:
        StateStore(url).close()
        engine = make_engine(url)
        tables.migrate(
            engine, {tables.SCHEMA_VERSION + 1: lambda connection: None}, tables.SCHEMA_VERSION + 1
        )
        engine.dispose()
        with pytest.raises(RefusedError, match="upgrade headgate"):
            StateStore(url)


def start(owner: Owner = ALICE, now: float = 1.0) -> Change:
    return lambda record: orders.ensure(
        record, stream="s", pipeline="s", contract_hash=HASH, owner=owner, now=now
    )


def ordered(store: StateStore, key: str | None = None, owner: Owner = ALICE) -> StreamRecord:
    return store.order("s", Order("ensure", start(owner), key, owner))


def begin(store: StateStore, record: StreamRecord, nonce: str = "n") -> StreamRecord:
    after = replace(record, phase=Phase.STARTING, epoch=record.epoch + 1, attempted=record.generation)
    begun = Incarnation("s", after.epoch, after.generation, HASH, f"{nonce}{after.epoch}", started_at=2.0)
    return store.save(record, after, begun=begun)


def event(kind: str, stream: str = "s") -> Event:
    return Event(0, 1.0, stream, kind, "stopped", "stopped", kind, "cli:x", 1, 1)


def at_once(jobs: list[Callable[[], None]]) -> None:
    """Run all jobs in threads that begin together."""
    gate = threading.Barrier(len(jobs))

    def run(job: Callable[[], None]) -> None:
        gate.wait()
        job()

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
