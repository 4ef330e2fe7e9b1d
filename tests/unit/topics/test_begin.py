"""What an origin means today, looked up without a broker: files, times, checkpoints, snapshots."""

from __future__ import annotations

import json
from contextlib import closing, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from spark_checkpoint import batch, begin_query, commit, write_batch

from headgate.checkpoints.choices import Place
from headgate.checkpoints.layout import CheckpointLayout, transaction_id
from headgate.checkpoints.lineage import begin_lineage
from headgate.checkpoints.restore import NEW_LINEAGE, SAME_BATCHES
from headgate.checkpoints.sinks import Sink
from headgate.checkpoints.snapshots import take_snapshot
from headgate.errors import NotFoundError, UsageError
from headgate.settings import Settings
from headgate.streams.store import StateStore
from headgate.topics import back, begin
from headgate.topics.back import plan_restore
from headgate.topics.begin import offsets_from

SINKS = (Sink("copy", "records", ("copy",), keyed=False),)
HASH = "ab" * 32


def test_offsets_are_read_from_a_file(tmp_path):
    path = tmp_path / "o.json"
    path.write_text('{"t": {"0": 12, "1": 0}}')
    assert offsets_from(path) == {"t": {0: 12, 1: 0}}


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"t": 3}', '{"t": {"x": 1}}', '{"t": {"0": -1}}', '{"t": {"0": true}}', '{"t": {"0": "1"}}'],
)
def test_a_file_that_holds_no_offsets_is_told_with_its_form(tmp_path, text):
    path = tmp_path / "o.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        offsets_from(path)
    assert "every partition" in str(caught.value.expected)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01T01:00:01+01:00", 1000),
        ("1970-01-01T00:00:01", 1000),  # without a zone: UTC, as everywhere
    ],
)
def test_a_time_is_understood_in_its_zone(text, milliseconds):
    assert begin.moment_of(text) == milliseconds


def test_what_is_no_time_is_refused():
    with pytest.raises(UsageError, match="is not a time"):
        begin.moment_of("yesterday")


def test_topics_that_were_made_anew_are_remembered_as_they_are_now_and_keep_their_owner(
    tmp_path, monkeypatch
):
    settings = Settings(home=tmp_path)
    with closing(StateStore(settings.store_url)) as store:
        store.remember_topic("t", "old", "first")
    monkeypatch.setattr(begin, "admin_client", lambda _: nullcontext())
    monkeypatch.setattr(begin, "topic_partitions", lambda *_: {"t": ("new", 2), "u": ("id", 1)})
    frozen: Any = SimpleNamespace(pipeline="shop", topics={"a": "t", "b": "u"})
    begin.accept_topics(settings, frozen)
    with closing(StateStore(settings.store_url)) as store:
        assert (store.topic_id("t"), store.topic_owner("t")) == ("new", "first")
        assert (store.topic_id("u"), store.topic_owner("u")) == ("id", "shop")


class World:
    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = Settings(home=root)
        self.frozen: Any = SimpleNamespace(pipeline="shop", hash=HASH, stateful_outputs=[])
        self.layout = CheckpointLayout(self.settings.checkpoints, "shop")
        self.lineage = begin_lineage(self.layout, contract_hash=HASH, spark_version="4", at=0.0)
        self.query = self.layout.query(self.lineage.id, "records")
        begin_query(self.query)
        self.layout.books(self.lineage.id).mkdir()
        self.running = HASH
        contracts = SimpleNamespace(get=lambda _: self.frozen)
        monkeypatch.setattr("headgate.checkpoints.snapshots.sinks_of", lambda _: SINKS)
        monkeypatch.setattr(back, "sinks_of", lambda _: SINKS)
        monkeypatch.setattr(back, "ContractStore", lambda _: contracts)
        monkeypatch.setattr(back, "running_contract", lambda *_: self.running)
        monkeypatch.setattr(back, "places_of", lambda *_: [Place("records", "t", 0, 0, 99, 50)])
        store = StateStore(self.settings.store_url)
        store.remember_topic("t", "id-1", "shop")
        store.close()

    def run(self, *numbers: int) -> None:
        name = transaction_id("shop", "records", "copy", self.lineage.id)
        for number in numbers:
            batch(self.query, number, 10 * (number + 1))
            write_batch(self.settings.tables / "shop" / "copy", name, number)
            commit(self.query, number)

    def take(self, id: str, at: float) -> None:
        take_snapshot(
            self.settings.snapshots_root,
            self.layout,
            self.frozen,
            self.settings.tables,
            id=id,
            topics={"t": "id-1"},
            reason="request",
            at=at,
        )


@pytest.fixture
def world(tmp_path, monkeypatch):
    found = World(tmp_path, monkeypatch)
    found.run(0, 1)
    found.take("one", 1.0)
    found.run(2, 3, 4)
    return found


def test_a_whole_log_is_told_as_batches_that_run_again_and_are_recognised(world):
    plan = plan_restore(world.settings, world.frozen, None)
    assert (plan.origin.snapshot, plan.origin.way, plan.new_lineage) == ("one", SAME_BATCHES, False)
    assert [span.again for span in plan.spans] == [(20, 50)]
    (effect,) = plan.effects
    assert "3 batches run again" in effect.text
    assert not effect.doubles
    assert plan.destructive
    assert not plan.problems


def test_a_gap_is_told_as_a_new_lineage_that_puts_the_table_back(world):
    (world.query / "offsets" / "3").unlink()
    plan = plan_restore(world.settings, world.frozen, "one")
    assert (plan.origin.way, plan.new_lineage) == (NEW_LINEAGE, True)
    assert "put back to version 2" in plan.effects[0].text
    assert "offsets/3" in plan.notes[0]


def test_batches_that_another_contract_wrote_are_not_run_again(world):
    world.running = "cd" * 32
    plan = plan_restore(world.settings, world.frozen, "one")
    assert plan.origin.way == NEW_LINEAGE
    assert "another contract" in plan.notes[0]


def test_a_damaged_snapshot_is_a_problem_when_named_and_passed_over_otherwise(world):
    world.take("two", 2.0)
    (world.settings.snapshots_root / "shop" / "two" / "queries" / "records" / "metadata").unlink()
    assert plan_restore(world.settings, world.frozen, None).origin.snapshot == "one"
    assert plan_restore(world.settings, world.frozen, "two").problems


def test_a_topic_that_was_made_anew_is_a_problem(world):
    store = StateStore(world.settings.store_url)
    store.remember_topic("t", "id-2", "shop")
    store.close()
    assert "made anew" in plan_restore(world.settings, world.frozen, "one").problems[0]


def test_without_a_good_snapshot_the_other_choices_are_named(world):
    (world.settings.snapshots_root / "shop" / "one" / "snapshot.json").write_text(json.dumps({}))
    with pytest.raises(NotFoundError) as caught:
        plan_restore(world.settings, world.frozen, None)
    assert "--from earliest" in str(caught.value.help)
