from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from monitoring_examples import applied, driver, event, frozen, status

from headgate.airflow import reconcile
from headgate.checkpoints.books import Totals, write_page
from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.lineage import begin_lineage
from headgate.checkpoints.snapshots import Snapshot
from headgate.contract.frozen import ContractStore
from headgate.errors import RefusedError
from headgate.streams import proc
from headgate.streams.handover import RunnerNote, write_runner
from headgate.streams.model import Event, Owner, StreamStatus
from headgate.topics.differences import Action, Refusal
from headgate.topics.plan import Plan
from monitoring.readings import CheckpointReading, Sweep, SweepFinding
from monitoring.sources.checkpoints import read_checkpoint, read_checkpoints
from monitoring.sources.contracts import ContractsReader
from monitoring.sources.drivers import read_drivers
from monitoring.sources.producers import read_producers
from monitoring.sources.reconcile import read_sweep
from monitoring.sources.supervisor import SupervisorReader
from monitoring.sources.topics import topic_health


class _Checkpoint:
    """A lineage as Spark and the driver leave it on disk."""

    def __init__(self, root: Path) -> None:
        self.layout = CheckpointLayout(root, "orders")
        self.layout.folder.mkdir(parents=True)
        self.layout.current.write_text("l1\n", encoding="utf-8")

    def commit(self, query: str, batch_id: int, offsets: dict[str, int], *, at: float) -> None:
        folder = self.layout.query("l1", query)
        for log in ("offsets", "commits"):
            (folder / log).mkdir(parents=True, exist_ok=True)
        metadata = json.dumps({"batchWatermarkMs": 0, "batchTimestampMs": int(at * 1000), "conf": {}})
        source = json.dumps({"orders_in": offsets})
        (folder / "offsets" / str(batch_id)).write_text(f"v1\n{metadata}\n{source}", encoding="utf-8")
        commit = folder / "commits" / str(batch_id)
        commit.write_text('v1\n{"nextBatchWatermarkMs":0}', encoding="utf-8")
        os.utime(commit, (at, at))

    def begins(self, offsets: dict[str, int]) -> None:
        folder = self.layout.query("l1", "records") / "sources" / "orders"
        folder.mkdir(parents=True)
        (folder / "0").write_text("\0v1\n" + json.dumps({"orders_in": offsets}), encoding="utf-8")

    def page(self, batch_id: int, read: int, quarantined: int = 0, *, at: float) -> None:
        books = self.layout.books("l1")
        write_page(books, batch_id, Totals(read, read - quarantined, quarantined))
        os.utime(books / f"{batch_id}.json", (at, at))


@pytest.fixture
def place(tmp_path: Path) -> _Checkpoint:
    return _Checkpoint(tmp_path)


NOW = 1_700_000_000.0


def test_before_the_first_lineage_nothing_is_committed(tmp_path: Path) -> None:
    found = read_checkpoint(CheckpointLayout(tmp_path, "orders"), frozen(), NOW)
    assert (found.lineage, found.queries, found.rows) == (None, {}, None)


def test_rows_are_those_of_the_newest_committed_batch_and_not_of_one_under_way(place: _Checkpoint) -> None:
    place.page(0, 10, 1, at=NOW - 5)
    place.page(1, 7, at=NOW - 1)
    place.commit("records", 0, {"0": 10}, at=NOW - 5)
    found = read_checkpoint(place.layout, frozen(), NOW)
    assert found.rows is not None and (found.rows.read, found.rows.quarantined) == (10, 1)
    assert found.queries["records"].committed_at == NOW - 5


def test_the_books_agree_with_the_offsets(place: _Checkpoint) -> None:
    place.begins({"0": 100, "1": 50})
    place.page(0, 30, 3, at=NOW)
    place.commit("records", 0, {"0": 120, "1": 60}, at=NOW)
    assert read_checkpoint(place.layout, frozen(), NOW).queries["records"].conservation_difference == 0


def test_a_record_that_is_in_the_offsets_and_not_in_the_books_is_a_difference(place: _Checkpoint) -> None:
    place.begins({"0": 100})
    place.page(0, 19, at=NOW)
    place.commit("records", 0, {"0": 120}, at=NOW)
    assert read_checkpoint(place.layout, frozen(), NOW).queries["records"].conservation_difference == 1


def test_a_partition_that_was_added_later_counts_from_its_beginning(place: _Checkpoint) -> None:
    place.begins({"0": 100})
    place.page(0, 25, at=NOW)
    place.commit("records", 0, {"0": 120, "1": 5}, at=NOW)
    assert read_checkpoint(place.layout, frozen(), NOW).queries["records"].conservation_difference == 0


def test_a_compacted_topic_has_holes_and_is_not_compared(place: _Checkpoint) -> None:
    place.begins({"0": 0})
    place.page(0, 25, at=NOW)
    place.commit("records", 0, {"0": 120}, at=NOW)
    contract = frozen(config={"cleanup.policy": "compact,delete"})
    assert read_checkpoint(place.layout, contract, NOW).queries["records"].conservation_difference is None


def test_the_rate_is_over_the_last_half_minute(place: _Checkpoint) -> None:
    for batch in range(61):
        place.page(batch, 20, at=NOW - 60 + batch)
    place.commit("records", 60, {"0": 1220}, at=NOW)
    found = read_checkpoint(place.layout, frozen(), NOW)
    assert found.rows is not None and found.rows.per_second == pytest.approx(20)


def test_the_rate_of_an_idle_stream_is_zero(place: _Checkpoint) -> None:
    place.page(0, 20, at=NOW - 500)
    place.page(1, 20, at=NOW - 400)
    place.commit("records", 1, {"0": 40}, at=NOW - 400)
    found = read_checkpoint(place.layout, frozen(), NOW)
    assert found.rows is not None and found.rows.per_second == 0


def test_the_age_of_snapshots_counts_from_the_newest_or_from_the_lineages_begin(
    place: _Checkpoint, tmp_path: Path
) -> None:
    def read(every: float = 3600.0) -> CheckpointReading:
        contracts = {"orders": applied()}
        return read_checkpoints(place.layout.root, lambda: contracts, tmp_path / "snapshots", every).value[
            "orders"
        ]

    assert (read().snapshot_at, read().snapshot_every) == (None, 3600.0), "the lineage's file is not there"
    begun = begin_lineage(place.layout, contract_hash="c", spark_version="4", at=NOW - 9000)
    assert read().snapshot_at == NOW - 9000
    for number, at in enumerate((NOW - 100, NOW - 5000)):
        folder = tmp_path / "snapshots" / "orders" / f"s{number}"
        folder.mkdir(parents=True)
        empty: dict[str, Any] = {"topics": {}, "queries": {}, "offsets": {}, "tables": {}, "files": {}}
        taken = Snapshot(
            id=folder.name,
            pipeline="orders",
            lineage=begun.id,
            reason="schedule",
            taken_at=at,
            contract_hash="c",
            headgate_version="0",
            spark_version="4",
            **empty,
        )
        (folder / "snapshot.json").write_text(json.dumps(taken.to_json()), encoding="utf-8")
    assert read().snapshot_at == NOW - 100
    assert read(every=0.0).snapshot_every is None, "nobody asked for any"


def test_a_damaged_checkpoint_is_a_problem_of_its_pipeline_alone(place: _Checkpoint, tmp_path: Path) -> None:
    place.commit("records", 0, {"0": 1}, at=NOW)
    (place.layout.query("l1", "records") / "offsets" / "0").write_text("", encoding="utf-8")
    with pytest.raises(RefusedError):
        read_checkpoint(place.layout, frozen(), NOW)
    contracts = {"orders": applied(), "others": applied("others")}
    found = read_checkpoints(place.layout.root, lambda: contracts, tmp_path / "snapshots", 0.0)
    assert list(found.value) == ["others"]
    assert len(found.problems) == 1 and found.problems[0].startswith("orders: ")


def test_applied_contracts_are_read_and_a_broken_one_is_named(tmp_path: Path) -> None:
    store = ContractStore(tmp_path)
    for name in ("orders", "others"):
        store.put(frozen(name))
        store.set_applied(frozen(name), at=NOW, by="cli:ada", file=f"{name}.yaml")
    (tmp_path / "contracts" / f"{frozen('others').hash}.json").unlink()
    found = ContractsReader(tmp_path).read()
    assert list(found.value) == ["orders"] and found.value["orders"].frozen == frozen()
    assert found.problems[0].startswith("others: ")


def _report(state: Path, **changes: Any) -> Path:
    folder = state / "streams" / "orders"
    folder.mkdir(parents=True, exist_ok=True)
    report = driver(**{"written_at": time.time(), **changes})
    (folder / "status.json").write_text(json.dumps(report.to_json()), encoding="utf-8")
    return folder


def _noted(folder: Path, **changes: Any) -> None:
    """The runner's file of epoch 4, with this process as its driver."""
    me = proc.read(os.getpid())
    assert me is not None
    note = RunnerNote(
        stream="orders",
        epoch=4,
        generation=2,
        contract_hash="c",
        nonce="n",
        runner_pid=1,
        runner_start=0.0,
        driver_pid=me.pid,
        driver_start=0.0,
        driver_ticks=me.ticks,
        boot_id=proc.boot_id(),
    )
    write_runner(folder, replace(note, **changes))


def test_a_driver_whose_process_is_there_is_alive(tmp_path: Path) -> None:
    _noted(_report(tmp_path, pid=os.getpid()))
    assert read_drivers(tmp_path).value["orders"].alive


@pytest.mark.parametrize("other", [{"driver_ticks": 1}, {"boot_id": "before"}, {"driver_pid": 2**22 - 1}])
def test_a_pid_that_belongs_to_another_process_by_now_is_not_the_driver(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    _noted(_report(tmp_path, pid=os.getpid()), **other)
    assert not read_drivers(tmp_path).value["orders"].alive


def test_without_the_runners_file_the_report_must_be_younger_than_the_process(tmp_path: Path) -> None:
    me = psutil.Process()
    _report(tmp_path, pid=me.pid)
    assert read_drivers(tmp_path).value["orders"].alive
    _report(tmp_path, pid=me.pid, written_at=me.create_time() - 10)
    assert not read_drivers(tmp_path).value["orders"].alive


def test_a_report_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (_report(tmp_path) / "status.json").write_text("{", encoding="utf-8")
    found = read_drivers(tmp_path)
    assert found.value == {} and found.problems[0].startswith("orders: ")


def test_only_living_producers_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "producers"
    folder.mkdir()
    for name, pid in (("mine", os.getpid()), ("dead", 2**22 - 1)):
        note = {"pipeline": name, "pid": pid, "metrics_port": 40000}
        (folder / f"{name}-readings-{pid}.json").write_text(json.dumps(note), encoding="utf-8")
    (folder / "cut.json").write_text("{", encoding="utf-8")
    found = read_producers(tmp_path)
    assert found.value == (("mine", 40000),)
    assert len(found.problems) == 1


def test_a_sweep_that_never_was_is_nothing_to_worry_about(tmp_path: Path) -> None:
    assert read_sweep(tmp_path).value is None
    (tmp_path / "reconcile.json").write_text('{"at": 12.5, "streams": 1, "found": []}', encoding="utf-8")
    assert read_sweep(tmp_path).value == Sweep(12.5)


def test_a_sweep_says_what_it_found_of_each_stream(tmp_path: Path) -> None:
    owner = Owner("airflow", dag_id="stream.orders", run_id="r", task_id="run_stream")
    text = "runs while its DAG is paused"
    found = reconcile.Action(reconcile.Kind.PAUSED, "orders", text, owner, 3)
    reconcile.write_heartbeat(tmp_path, 1, [found])
    swept = read_sweep(tmp_path).value
    assert swept is not None
    assert swept.found == {"orders": SweepFinding("paused", text, 3)}


class _Supervisor:
    """The client's reading half over lists."""

    def __init__(self, events: list[Event]) -> None:
        self.log = events
        self.asked: list[int] = []

    def health(self) -> dict[str, Any]:
        return {"last_round_at": NOW}

    def streams(self) -> list[StreamStatus]:
        return [status()]

    def events(self, stream: str, after: int = 0, limit: int = 200) -> list[Event]:
        self.asked.append(after)
        found = [each for each in self.log if each.id > after]
        return found[-limit:] if after < 0 else found[:limit]


def test_a_round_asks_only_for_new_events_and_keeps_the_newest_first() -> None:
    supervisor = _Supervisor([event(number) for number in range(1, 51)])
    reader = SupervisorReader(supervisor)
    first = reader.read().value
    assert [each.id for each in first.events["orders"]] == list(range(50, 30, -1))
    assert first.reconciled_at == NOW
    supervisor.log.append(event(51))
    assert reader.read().value.events["orders"][0].id == 51
    assert supervisor.asked == [-1, 50]


def test_the_command_line_reads_no_events() -> None:
    supervisor = _Supervisor([event(1)])
    assert SupervisorReader(supervisor, events=False).read().value.events == {}
    assert supervisor.asked == []


def _plan(
    *, actions: tuple[Action, ...] = (), refusals: tuple[Refusal, ...] = (), topic_id: str = "id-1"
) -> Plan:
    seen = {"topics": {"orders_in": {"id": topic_id}}, "remembered": {"orders_in": "id-1"}}
    return Plan("local", "c", (), {}, {}, actions, refusals, seen)


def _action(kind: str, address: str) -> Action:
    return Action(kind=kind, address=address, pipeline="orders", summary="s", reason="r", arguments={})


def test_a_topic_as_it_should_be_has_no_drift() -> None:
    (found,) = topic_health(_plan(actions=(_action("adopt_topic", "topic orders_in"),)))
    assert (found.topic, found.drift, found.recreated) == ("orders_in", 0, False)


def test_each_difference_of_a_topic_counts_and_those_of_tables_do_not() -> None:
    actions = (_action("alter_topic", "topic orders_in"), _action("create_table", "table orders/plain"))
    refusals = (Refusal("replication", "topic orders_in", "orders", "m", "h"),)
    (found,) = topic_health(_plan(actions=actions, refusals=refusals))
    assert found.drift == 2


def test_another_id_is_a_topic_made_anew() -> None:
    (found,) = topic_health(_plan(topic_id="id-2"))
    assert found.recreated is True
