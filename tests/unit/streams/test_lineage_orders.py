"""Origins on their way from an order to a driver; operations; snapshots by the clock."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.lineage import begin_lineage
from headgate.checkpoints.origin import Origin, read_origin
from headgate.errors import RefusedError
from headgate.settings import Settings
from headgate.streams import launch, orders, schedule
from headgate.streams.calls import restart_call
from headgate.streams.journal import Journal
from headgate.streams.launch import Launcher
from headgate.streams.model import Owner, Phase
from headgate.streams.operations import NEXT, IllegalOperation, note, operations_of
from headgate.streams.record import StreamRecord, Upgrade
from headgate.streams.schedule import SnapshotSchedule, due
from headgate.streams.statements import Order
from headgate.streams.store import StateStore
from headgate.streams.taking import _needed, take

ALICE = Owner("cli", "alice")
HASH = "ab" * 32
ORIGIN = Origin("timestamp", offsets={"t": {0: 4, 1: 5}}, note="2026-01-01T00:00:00Z")


@pytest.fixture
def store(tmp_path):
    opened = StateStore(f"sqlite:///{tmp_path}/store.db")
    yield opened
    opened.close()


def ensured(store: StateStore) -> StreamRecord:
    def change(record: StreamRecord | None) -> Any:
        return orders.ensure(record, stream="s", pipeline="s", contract_hash=HASH, owner=ALICE, now=1.0)

    return store.order("s", Order("ensure", change))


def restarted(store: StateStore, origin: Origin | None) -> StreamRecord:
    def change(record: StreamRecord | None) -> Any:
        return orders.restart(
            record,
            stream="s",
            actor="cli:alice",
            reason="why",
            owner=ALICE,
            contract_hash=HASH,
            now=2.0,
            origin=origin,
        )

    return store.order("s", Order("restart", change))


def test_an_order_keeps_its_origin_in_the_store_and_the_next_order_drops_it(store):
    ensured(store)
    restarted(store, ORIGIN)
    kept = store.stream("s")
    assert kept.origin == ORIGIN
    assert store.events("s")[-1].detail == "restart from the timestamp 2026-01-01T00:00:00Z: why"
    restarted(store, None)
    assert store.stream("s").origin is None


def test_an_upgrade_on_trial_is_kept_in_the_store(store):
    record = ensured(store)
    trial = Upgrade("cc" * 32, HASH, "upgrade-2", 3.0, undone=True, text="why")
    changed = StreamRecord("s", "s", HASH, upgrade=trial, stable_hash=HASH)
    store.save(record, changed)
    assert store.stream("s").upgrade == trial
    assert store.stream("s").stable_hash == HASH


def test_the_origin_travels_in_the_request_and_an_older_request_is_as_it_was():
    owner, key = ALICE, "k"
    plain = restart_call("s", actor="a", reason="", idempotency_key=key, owner=owner, contract_hash=None)
    assert "origin" not in plain.body  # type: ignore[operator]
    call = restart_call(
        "s", actor="a", reason="", idempotency_key=key, owner=owner, contract_hash=None, origin=ORIGIN
    )
    body = json.loads(json.dumps(call.body))
    assert Origin.from_json(body["origin"]) == ORIGIN


def test_the_driver_of_a_generation_with_an_origin_is_told_by_a_file(tmp_path, monkeypatch):
    launched: list[Any] = []
    monkeypatch.setattr(launch.processes, "spawn", launched.append)
    launcher = Launcher(Settings(home=tmp_path), lambda *_: [sys.executable])
    record = StreamRecord("s", "s", HASH, epoch=3, generation=2, attempted=2)
    launcher.launch(record, launcher.plan(record, 0.0))
    told = StreamRecord("s", "s", HASH, epoch=4, generation=3, attempted=3, origin=ORIGIN)
    launcher.launch(told, launcher.plan(told, 0.0))
    assert launched[0].command == [sys.executable]
    *_, option, path = launched[1].command
    assert option == "--origin"
    assert read_origin(Path(path)) == ORIGIN


def test_an_operation_moves_on_and_is_told_in_the_events(store):
    ensured(store)
    note(store, "s", "snapshot", "one", "running", actor="cli:bob", at=1.0)
    done = note(store, "s", "snapshot", "one", "done", actor="supervisor", at=3.0, detail="9 bytes")
    assert (done.actor, done.requested_at, done.changed_at) == ("cli:bob", 1.0, 3.0)
    assert operations_of(store, "s") == [done]
    told = [event.detail for event in store.events("s") if event.kind == "operation"]
    assert told == ["snapshot one running", "snapshot one done: 9 bytes"]
    assert note(store, "s", "snapshot", "one", "done", actor="x", at=9.0, detail="9 bytes") == done


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([*NEXT]), max_size=8))
def test_an_operation_that_is_done_stays_done(tmp_path_factory, states):
    store = StateStore(f"sqlite:///{tmp_path_factory.mktemp('operations')}/store.db")
    state = None
    for wanted in states:
        try:
            state = note(store, "s", "upgrade", "u", wanted, actor="a", at=1.0).state
        except IllegalOperation:
            assert wanted not in NEXT[str(state)]
        if operations_of(store, "s"):
            assert operations_of(store, "s")[0].state == state
    store.close()


def test_operations_of_one_stream_are_not_another_ones(store):
    note(store, "a", "snapshot", "x", "failed", actor="a", at=1.0)
    assert operations_of(store, "b") == []


@pytest.mark.parametrize(
    ("lineage", "every", "now", "expected"),  # the lineage: begun at, newest snapshot, last tried
    [
        ((0, None, None), 3600, 3599, False),  # a young lineage has nothing worth keeping
        ((0, None, None), 3600, 3600, True),
        ((0, 3000, None), 3600, 6000, False),
        ((0, 3000, None), 3600, 6600, True),
        ((0, 3000, 6600), 3600, 6700, False),  # one that failed is tried again, later
        ((0, 3000, 6600), 3600, 6900, True),
        ((9000, 3000, None), 3600, 10_000, False),  # the snapshot is of a lineage before
        ((0, None, None), 0, 10**9, False),
    ],
)
def test_when_a_snapshot_is_due(lineage, every, now, expected):
    assert due(*lineage, every=every, now=now) is expected


def test_the_schedule_takes_what_is_due_only_while_it_leads_and_one_failure_stops_no_other(
    tmp_path, monkeypatch
):
    taken: list[str] = []

    def take(_settings: object, _store: object, pipeline: str, **_: object) -> None:
        taken.append(pipeline)
        if pipeline == "bad":
            raise RefusedError("no")

    monkeypatch.setattr(schedule, "take", take)
    settings = Settings(home=tmp_path)
    for name in ("bad", "good", "idle"):
        begin_lineage(
            CheckpointLayout(settings.checkpoints, name), contract_hash="a", spark_version="4", at=0.0
        )
    phases = {"bad": Phase.RUNNING, "good": Phase.RUNNING, "idle": Phase.STOPPED, "none": Phase.RUNNING}
    records = [StreamRecord(name, name, HASH, phase=phase) for name, phase in phases.items()]
    leads = [False]
    store: Any = SimpleNamespace(streams=lambda: records)
    clock = SnapshotSchedule(settings, store, lambda: leads[0], Journal(), wall=lambda: 10_000.0)
    clock.look()
    assert taken == []
    leads[0] = True
    clock.look()
    assert taken == ["bad", "good"]
    clock.look()
    assert taken == ["bad", "good"]


def test_what_an_upgrade_or_an_order_may_go_back_to_is_not_removed(store):
    record = ensured(store)
    trial = Upgrade("cc" * 32, HASH, "upgrade-2", 3.0)
    going = Origin("snapshot", snapshot="chosen", keep="upgrade-2")
    store.save(record, StreamRecord("s", "s", HASH, upgrade=trial, origin=going))
    assert _needed(store, "s") == {"upgrade-2", "chosen"}
    assert _needed(store, "other") == set()


def test_a_snapshot_that_cannot_be_taken_is_an_operation_that_failed(store, tmp_path, monkeypatch):
    def refused(*_: object) -> str:
        raise RefusedError("no contract")

    monkeypatch.setattr("headgate.streams.taking.running_contract", refused)
    with pytest.raises(RefusedError):
        take(Settings(home=tmp_path), store, "s", actor="cli:bob", reason="request")
    (found,) = operations_of(store, "s")
    assert (found.state, found.actor, found.detail) == ("failed", "cli:bob", "no contract")
