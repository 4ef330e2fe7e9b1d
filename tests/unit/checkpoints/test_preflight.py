"""Preflight over a checkpoint on disk and a broker that is only told of; the real one is in e2e."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from small_contract import small_contract
from spark_checkpoint import committed_batch, summed
from two_lanes import frozen_of

from headgate.checkpoints import preflight as module
from headgate.checkpoints.books import Totals, write_page
from headgate.checkpoints.findings import Finding, refusal
from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.lineage import begin_lineage, note_contract, note_query
from headgate.checkpoints.origin import Origin
from headgate.checkpoints.preflight import planned_preflight, preflight
from headgate.checkpoints.query_checks import KafkaView
from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.errors import KafkaUnavailable, TablesUnavailable
from headgate.settings import Settings, load_settings
from headgate.streams.drain import left_of
from headgate.streams.model import FailureClass
from headgate.streams.store import StateStore
from headgate.tables.conditional import StoreRefused

TOPIC = "p-in"
FROZEN = small_contract("p", job={}, partitions=2)


@dataclass
class World:
    settings: Settings
    topic_id: str = "id-1"
    lows: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    ends: dict[int, int] = field(default_factory=lambda: {0: 10, 1: 10})

    def kafka(self, *_: Any) -> KafkaView:
        def keyed(offsets: dict[int, int]) -> dict[TopicPartition, int]:
            return {TopicPartition(TOPIC, number): offset for number, offset in offsets.items()}

        return KafkaView({TOPIC: (self.topic_id, len(self.ends))}, keyed(self.lows), keyed(self.ends))

    @property
    def layout(self) -> CheckpointLayout:
        return CheckpointLayout(self.settings.checkpoints, "p")

    @property
    def lineage(self) -> str:
        found = self.layout.current_lineage()
        if found is None:
            begun = begin_lineage(self.layout, contract_hash=FROZEN.hash, spark_version="4.2.0", at=1.0)
            found = begun.id
        return found

    def commit(self, query: str, batch_id: int, offsets: dict[int, int], **conf: str) -> Path:
        folder = self.layout.query(self.lineage, query)
        if query == RECORDS:
            write_page(self.layout.books(self.lineage), batch_id, Totals())
        committed_batch(folder, batch_id, TOPIC, offsets, conf=conf, stateful=query != RECORDS)
        note_query(self.layout, self.lineage, query, "q")
        return folder

    def look(self, frozen: FrozenContract = FROZEN) -> list[Finding]:
        return preflight(self.settings, frozen)

    def refused(self, frozen: FrozenContract = FROZEN) -> list[str]:
        return [each.code for each in self.look(frozen) if each.severity == "refuse"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(Settings(home=tmp_path))
    monkeypatch.setattr(module, "_ask_kafka", made.kafka)
    monkeypatch.setattr(module, "desired_tables", lambda _frozen: [])
    ContractStore(made.settings.state).put(FROZEN)
    with closing(StateStore(made.settings.store_url)) as store:
        store.remember_topic(TOPIC, "id-1", "p")
    return made


def test_a_stream_may_start_before_its_first_batch_and_after_any(world: World) -> None:
    assert world.refused() == []
    world.commit(RECORDS, 0, {0: 5, 1: 5})
    world.commit("counts", 0, {0: 3, 1: 5})
    assert world.refused() == []
    assert refusal(world.look()) is None


def on_s3(world: World, monkeypatch: pytest.MonkeyPatch, store: Callable[[Any], None]) -> World:
    """The same with its tables on S3, where `store` is what trying it does."""
    environ = {
        "HEADGATE_ROOTS_TABLES": "s3://lake/a",
        "HEADGATE_S3_ENDPOINT": "http://127.0.0.1:1",
        "HEADGATE_S3_ALLOW_HTTP": "true",
    }
    monkeypatch.setattr(module, "require_conditional_put", store)
    return replace(world, settings=load_settings(world.settings.home, environ)[0])


def arrow_alone() -> FrozenContract:
    """A contract that can have its tables on S3."""
    source = {"topic": TOPIC, "columns": [{"name": "id", "type": "long"}]}
    output = {"sql": "SELECT id FROM a", "to": [{"delta": "rows"}], "lane": "arrow"}
    return frozen_of(source, {"rows": output}, {"rows": {"id": "long"}})


def test_a_contract_that_cannot_be_on_s3_is_refused_before_the_store_is_asked(world, monkeypatch):
    def asked(_tables: Any) -> None:
        raise AssertionError("the store was asked")

    found = on_s3(world, monkeypatch, asked).look()
    assert [each.code for each in found] == ["tables_on_s3", "tables_on_s3"]
    refused = refusal(found)
    assert refused is not None
    assert refused.failure is FailureClass.DETERMINISTIC
    assert "records: not on S3" in refused.text
    assert "leave `delta: counts` out" in refused.text


def test_a_store_that_takes_both_is_refused_and_nothing_else_is_looked_at(world, monkeypatch):
    def takes_both(_tables: Any) -> None:
        raise StoreRefused("it takes both", expected="a second put to be refused", help="another store")

    found = on_s3(world, monkeypatch, takes_both).look(arrow_alone())
    assert [each.code for each in found] == ["store_refused"]
    refused = refusal(found)
    assert refused is not None
    assert refused.failure is FailureClass.DETERMINISTIC
    assert refused.text == "store_refused: it takes both; expected a second put to be refused. " + (
        "Choices: (1) another store."
    )


def test_a_store_that_is_away_is_no_verdict(world, monkeypatch):
    def away(_tables: Any) -> None:
        raise TablesUnavailable("s3://lake/a cannot be reached")

    with pytest.raises(TablesUnavailable):
        on_s3(world, monkeypatch, away).look(arrow_alone())


def test_a_store_that_is_away_after_its_trial_is_no_foreign_checkpoint(world, monkeypatch):
    def away(_folder: Any) -> list[str]:
        raise TablesUnavailable("s3://lake/a cannot be reached: 503 Slow Down")

    monkeypatch.setattr(module, "folders_in", away)
    with pytest.raises(TablesUnavailable, match="503 Slow Down"):
        on_s3(world, monkeypatch, lambda _tables: None).look(arrow_alone())


def test_a_checkpoint_that_cannot_be_read_is_told_as_such(world: World) -> None:
    world.layout.current.mkdir(parents=True)
    assert world.refused() == ["checkpoint_foreign"]


def test_each_partition_that_lost_records_is_told_with_its_range(world: World) -> None:
    world.commit(RECORDS, 0, {0: 5, 1: 2})
    world.commit("counts", 0, {0: 9, 1: 9})
    world.lows = {0: 7, 1: 9}
    (lost,) = [each for each in world.look() if each.severity == "refuse"]
    assert lost.code == "retention_passed"
    assert "9 records" in lost.message
    assert "partition 0 offsets 5 to 6, partition 1 offsets 2 to 8" in lost.message
    refused = refusal(world.look())
    assert refused is not None
    assert refused.failure is FailureClass.DATA_LOSS
    assert "(2) headgate restart p --from earliest" in refused.text


def test_a_topic_that_was_made_anew_is_refused_even_if_it_has_grown_past_the_old_offsets(
    world: World,
) -> None:
    world.commit(RECORDS, 0, {0: 5, 1: 5})
    world.topic_id, world.ends = "id-2", {0: 500, 1: 500}
    assert world.refused() == ["topic_recreated"]


def test_a_topic_that_is_gone_is_data_loss_and_one_that_never_was_is_not_applied(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ask_kafka", lambda *_: KafkaView({}, {}, {}))
    assert world.refused() == ["topic_deleted"]
    other = small_contract("q", job={})
    found = refusal(preflight(world.settings, other))
    assert found is not None
    assert found.failure is FailureClass.DETERMINISTIC
    assert planned_preflight(world.settings, other)[0].code == "checkpoint_new"


def test_offsets_that_are_not_there_yet_and_partitions_that_are_gone(world: World) -> None:
    world.commit(RECORDS, 0, {0: 12, 1: 0, 2: 4})
    assert world.refused() == ["partitions_lost", "offsets_ahead"]


@pytest.mark.parametrize("part", ["offsets/1", "commits/1", "metadata"])
@pytest.mark.parametrize("text", ["", "v1", "v1\n{", None])
def test_a_damaged_checkpoint_is_refused(world: World, part: str, text: str | None) -> None:
    for batch in range(2):
        folder = world.commit(RECORDS, batch, {0: batch, 1: batch})
    if text is None and part == "commits/1":
        return  # a batch without its commit is what a crash leaves: it runs again
    if text is None:
        (folder / part).unlink()
    else:
        (folder / part).write_text(text)
    assert world.refused() == ["checkpoint_unreadable"]


def cut(path: Path) -> None:
    """Half of it is gone, and so is the checksum, as after a crash of the machine."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    path.with_name(f".{path.name}.crc").unlink()


def flip(path: Path) -> None:
    """The last but one byte is another; the checksum is that of before."""
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(bytes(data))


def changed_number(query: Path) -> None:
    path = query / "offsets" / "2"
    path.write_text(path.read_text().replace(': 2, "1"', ': 1, "1"'))


# Of a stateful query with three committed batches; each with a part of what has to be said of it.
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "the newest offsets are cut": (lambda q: cut(q / "offsets" / "2"), "offsets/2 cannot be used"),
    "the newest offsets are empty": (lambda q: (q / "offsets" / "2").write_text(""), "empty or cut"),
    "the newest offsets are garbage": (
        lambda q: (q / "offsets" / "2").write_bytes(b"\x89PNG\xff\0"),
        "offsets/2 cannot be used",
    ),
    "an offset is another": (changed_number, "offsets/2 does not match its checksum"),
    "offsets of a batch between are gone": (
        lambda q: (q / "offsets" / "1").unlink(),
        "offsets lacks the files of the batches 1",
    ),
    "a commit between is gone": (
        lambda q: (q / "commits" / "1").unlink(),
        "commits lacks the files of the batches 1",
    ),
    "all commits are gone": (lambda q: shutil.rmtree(q / "commits"), "commits/ is empty"),
    "the newest commit is empty": (
        lambda q: (q / "commits" / "2").write_text(""),
        "commits/2 cannot be used",
    ),
    "the query's id is gone": (lambda q: (q / "metadata").unlink(), "metadata cannot be used"),
    "the folder is another query's": (
        lambda q: summed(q / "metadata", b'{"id":"another"}'),
        "its id is another, and q has run here",
    ),
    "where the sources began is gone": (
        lambda q: shutil.rmtree(q / "sources"),
        "the first offsets of 0 sources, and 1 have been read",
    ),
    "where a source began is cut": (lambda q: cut(q / "sources/orders/0"), "sources/orders/0 cannot be used"),
    "a delta is missing": (lambda q: (q / "state/0/1/2.delta").unlink(), "state/0/1 lacks version 2"),
    "a delta is cut": (lambda q: cut(q / "state/0/0/3.delta"), "3.delta is cut"),
    "a delta is empty": (lambda q: (q / "state/0/0/1.delta").write_bytes(b""), "1.delta is empty"),
    "a byte of a delta is another": (lambda q: flip(q / "state/0/0/2.delta"), "does not match its checksum"),
    "a partition of the state is gone": (
        lambda q: shutil.rmtree(q / "state/0/1"),
        "state/0/1 cannot be read: No such file",
    ),
    "what the operator keeps is not known": (
        lambda q: (q / "state/0/_metadata/metadata").unlink(),
        "_metadata/metadata cannot be read",
    ),
    "the state is gone": (lambda q: shutil.rmtree(q / "state"), "holds no state"),
}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_is_damaged_it_is_refused_by_name_with_the_ways_on_and_nothing_is_touched(
    world: World, damage: str
) -> None:
    for batch in range(3):
        for query in (RECORDS, "counts"):
            folder = world.commit(query, batch, {0: batch, 1: batch})
    assert world.refused() == []
    harm, said = DAMAGES[damage]
    harm(folder)
    before = tree(world.layout.folder)
    findings = world.look()
    (found,) = [each for each in findings if each.severity == "refuse"]
    assert found.code in ("checkpoint_unreadable", "state_damaged")
    assert "query counts" in found.message
    assert said in found.message
    assert any(choice.startswith("headgate restart p --from snapshot") for choice in found.choices)
    refused = refusal(findings)
    assert refused is not None
    assert refused.failure is FailureClass.CHECKPOINT
    assert tree(world.layout.folder) == before


def test_an_offset_file_cut_under_the_batch_that_has_no_commit_is_refused_too(world: World) -> None:
    folder = world.commit(RECORDS, 0, {0: 1, 1: 1})
    (folder / "offsets" / "1").write_text("")
    (found,) = [each for each in world.look() if each.severity == "refuse"]
    assert any("remove it, and the batch is planned anew" in choice for choice in found.choices)


def test_a_contract_of_another_state_is_refused_by_what_last_ran_on_that_query(world: World) -> None:
    world.commit(RECORDS, 0, {0: 5, 1: 5})
    world.commit("counts", 0, {0: 5, 1: 5})
    other = small_contract("p", job={}, counted="upper(kind)", partitions=2)
    assert world.refused(other) == ["state_does_not_fit"]
    assert world.refused() == []
    note_contract(world.layout, world.lineage, "counts", other.hash)
    assert world.refused(other) == []
    assert world.refused() == ["contract_lost"]


def test_a_state_that_does_not_fit_can_begin_anew_and_no_snapshot_helps(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.commit(RECORDS, 0, {0: 5, 1: 5})
    world.commit("counts", 0, {0: 5, 1: 5})
    other = small_contract("p", job={}, counted="upper(kind)", partitions=2, version=2)
    (found,) = [each for each in world.look(other) if each.severity == "refuse"]
    assert any(choice.startswith("headgate restart p --from earliest") for choice in found.choices)
    assert not any("--from snapshot" in choice for choice in found.choices)

    # What the snapshot's contract wrote is compared, also when the checkpoint itself is not judged.
    monkeypatch.setattr(
        module, "read_snapshot", lambda *_: SimpleNamespace(id="s1", contract_hash=FROZEN.hash)
    )
    back = Origin("snapshot", snapshot="s1")
    refused = [each.code for each in preflight(world.settings, other, back) if each.severity == "refuse"]
    assert refused == ["state_does_not_fit"]
    assert refusal(preflight(world.settings, FROZEN, back)) is None
    anew = Origin("earliest", offsets={TOPIC: {0: 0, 1: 0}})
    assert refusal(preflight(world.settings, other, anew)) is None


def test_a_snapshot_that_was_never_taken_is_the_drivers_matter(world: World) -> None:
    assert refusal(preflight(world.settings, FROZEN, Origin("snapshot", snapshot="upgrade-7"))) is None


def test_pinned_confs_are_a_warning_with_both_values(world: World) -> None:
    world.commit(RECORDS, 0, {0: 5, 1: 5}, **{"spark.sql.shuffle.partitions": "9"})
    (told,) = [each for each in world.look() if each.severity == "warn"]
    assert "spark.sql.shuffle.partitions stays 9; 2 is ignored" in told.message


def test_what_cannot_be_looked_at_is_never_fine(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> KafkaView:
        raise KafkaUnavailable("Kafka does not answer")

    monkeypatch.setattr(module, "_ask_kafka", away)
    with pytest.raises(KafkaUnavailable):
        world.look()


def test_a_drain_looks_at_the_checkpoint_of_every_query_alone(world: World) -> None:
    left = left_of(world.settings)
    ends = {TOPIC: {0: 10, 1: 10}}
    assert left("p", FROZEN.hash, ends) == 20, "nothing has begun"
    world.commit(RECORDS, 0, {0: 10, 1: 10})
    world.commit("counts", 0, {0: 10, 1: 4})
    assert left("p", FROZEN.hash, ends) == 6
    folder = world.commit("counts", 1, {0: 10, 1: 12})
    assert left("p", FROZEN.hash, ends) == 0
    (folder / "offsets" / "1").write_text("")
    assert left("p", FROZEN.hash, ends) is None
    assert left("p", "f" * 64, ends) is None
