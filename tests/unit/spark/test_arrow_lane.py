"""The driver's side of the Arrow lane, with its tasks run here: what is committed, once, and what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from two_lanes import frozen_of, lane_context

from headgate.arrow.files import TableFiles
from headgate.arrow.quarantine import QUARANTINE
from headgate.arrow.screen import BAD as BADS
from headgate.arrow.screen import GOOD as PASSED
from headgate.arrow.screen import RAW, READ
from headgate.arrow.stretches import Stretch
from headgate.checkpoints.books import Page
from headgate.checkpoints.owner import FencedError
from headgate.contract.refusal import RuleFailedError
from headgate.errors import HeadgateError, TablesUnavailable
from headgate.tables.answers import StoreDenied
from spark import arrow_lane, arrow_task, delta
from spark.arrow_lane import ArrowLane
from spark.arrow_task import ROWS
from spark.doubtful import Settled
from spark.record import RecordQuery

ARRIVED = datetime(2026, 1, 1, tzinfo=UTC)
SOURCE = {
    "topic": "t",
    "columns": [{"name": "n", "type": "int", "required": True}],
    "rules": [
        {"name": "positive", "expect": "n > 0"},
        {"name": "never", "expect": "n <> 666", "otherwise": "fail"},
    ],
}
OUTPUTS = {
    "all": {"sql": "SELECT n, _offset AS place FROM a", "to": [{"delta": "all_of"}]},
    "even": {"sql": "SELECT n FROM a WHERE n % 2 = 0", "to": [{"delta": "even_of"}]},
}
TYPES = {"all": {"n": "int", "place": "long"}, "even": {"n": "int"}}
GOOD = [b'{"n": %d}' % n for n in range(1, 11)]
DOUBTFUL = b'{"n": 1, "n": 2}'
QUARANTINED = pa.list_(pa.string())
BAD = [b'{"n": -1}', b"{", b'{"n": "x"}']
Task = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


class Raw:
    """Stands for Spark's frame of records: `mapInArrow` runs its function when the rows are asked for."""

    def __init__(self, *tasks: list[bytes]) -> None:
        self._tasks = tasks
        self._function: Task | None = None
        self.sparkSession: Any = SimpleNamespace(conf=SimpleNamespace(set=lambda *_: None))

    def select(self, *_: str) -> Raw:
        return self

    def mapInArrow(self, function: Task, _: str) -> Raw:
        self._function = function
        return self

    def toArrow(self) -> pa.Table:
        assert self._function is not None
        rows: list[pa.RecordBatch] = []
        first = 0
        for partition, values in enumerate(self._tasks):
            rows += self._function(iter([_batch(values, partition, first)]))
            first += len(values)
        return pa.Table.from_batches(rows, ROWS)


def _batch(values: list[bytes], partition: int, first: int) -> pa.RecordBatch:
    count = len(values)
    columns: list[list[Any]] = [
        *([b"k"] * count, values, [partition] * count, list(range(first, first + count))),
        *([ARRIVED] * count, [ARRIVED] * count),
    ]
    arrays = [pa.array(each, field.type) for each, field in zip(columns, RAW, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=RAW)


class Place:
    """A pipeline's tables and what has been written to them."""

    def __init__(self, folder: Path) -> None:
        self.context = lane_context(frozen_of(SOURCE, OUTPUTS, TYPES), folder)
        self.tables = folder / "example"
        self.pages: list[Page] = []

    def run(self, *tasks: list[bytes], batch_id: int = 0) -> ArrowLane:
        lane = ArrowLane(self.context, self.pages.append)
        frame: Any = Raw(*tasks)
        lane.commit(lane.frame(frame), batch_id)
        return lane

    def rows(self, table: str, column: str) -> list[Any]:
        return sorted(DeltaTable(self.tables / table).to_pyarrow_table()[column].to_pylist())

    def files(self) -> set[Path]:
        return set(self.tables.glob("**/*.parquet"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_batch_is_one_commit_for_each_table_and_a_page_of_the_books(place):
    lane = place.run([*GOOD[:5], *BAD], GOOD[5:])
    assert place.rows("all_of", "n") == list(range(1, 11))
    assert place.rows("all_of", "place") == [0, 1, 2, 3, 4, 8, 9, 10, 11, 12]
    assert place.rows("even_of", "n") == [2, 4, 6, 8, 10]
    assert place.rows("_quarantine", "value") == sorted(BAD)
    assert place.rows("_quarantine", "batch_id") == [0, 0, 0]
    (page,) = place.pages
    assert (page.batch.read, page.batch.good, page.batch.quarantined) == (13, 10, 3)
    assert page.batch.rules == {"positive": 1, "_parse": 2}
    assert lane.example == "topic t, partition 0, offset 7"


def test_where_the_folder_of_the_tables_went_away_nothing_is_made_in_its_place(place):
    lane = ArrowLane(place.context, place.pages.append)
    (place.tables / "_quarantine").rename(place.tables / "elsewhere")
    frame: Any = Raw(GOOD)
    with pytest.raises(FileNotFoundError):
        lane.frame(frame)
    assert not (place.tables / "_quarantine").exists()


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_what_another_query_has_noted_and_cannot_be_read_is_judged_by_its_own_tasks(place, caplog, damage):
    path = place.tables / "note"
    if damage == "cut":
        path.write_bytes(b"ARROW1")
    stretch = Stretch(path, 0, 0, 10, record_bytes=100, holds_from=0, rows=1, size=6)
    shared: Any = SimpleNamespace(parts=lambda _: [stretch], now=lambda _: 0, waited=False)
    lane = ArrowLane(place.context, place.pages.append, shared=shared)
    frame: Any = Raw([*GOOD, *BAD])
    lane.commit(lane.frame(frame), 0)
    assert place.rows("all_of", "n") == list(range(1, 11))
    assert "what was judged of batch 0 cannot be read" in caplog.text


def test_a_batch_that_runs_again_writes_nothing_twice_and_leaves_no_file(place):
    place.run([*GOOD, *BAD])
    files = place.files()
    place.run([*GOOD, *BAD])
    assert place.files() == files
    assert place.pages[0] == place.pages[1]
    assert place.rows("all_of", "n") == list(range(1, 11))
    assert len(place.rows("_quarantine", "offset")) == 3


@pytest.mark.parametrize("why", [StoreDenied("no right to delete"), TablesUnavailable("503 Slow Down")])
def test_a_store_that_does_not_remove_what_no_commit_names_keeps_no_batch_from_its_end(
    place, monkeypatch, caplog, why
):
    monkeypatch.setattr(arrow_task, "CARRIED_ROWS", 1)
    monkeypatch.setattr(arrow_lane, "settle", _all_bad)
    for _ in range(2):
        lane = ArrowLane(place.context, place.pages.append)
        whole: Any = lane.frame(Raw([*GOOD, DOUBTFUL, DOUBTFUL]))
        with monkeypatch.context() as patch:
            patch.setattr(arrow_lane, "remove", Mock(side_effect=why))
            lane.commit(whole, 0)
    assert len(place.pages) == 2
    assert place.rows("all_of", "n") == list(range(1, 11))
    assert len(place.rows("_quarantine", "offset")) == 2
    told = {record.args[0] for record in caplog.records}
    assert told == {
        place.tables / name for name in ("all_of", "even_of", "_quarantine", "_quarantine/_doubtful")
    }


def _all_bad(_spark: Any, _frozen: Any, _source: str, records: pa.Table, _writers: Any) -> Settled:
    bad = records.append_column("reasons", pa.array([["positive"]] * len(records), QUARANTINED))
    return Settled(Counter({READ: len(records), BADS: len(records)}), {}, bad, {})


def test_a_batch_that_was_lost_between_two_tables_gets_what_it_lacks(place, monkeypatch):
    def killed(name: str) -> None:
        if name == "records.before_quarantine":
            raise HeadgateError("killed")

    monkeypatch.setattr(arrow_lane, "hit", killed)
    with pytest.raises(HeadgateError, match="killed"):
        place.run([*GOOD, *BAD])
    assert (len(place.rows("all_of", "n")), place.rows("_quarantine", "offset")) == (10, [])
    monkeypatch.undo()
    place.run([*GOOD, *BAD])
    assert (len(place.rows("all_of", "n")), len(place.rows("_quarantine", "offset"))) == (10, 3)


class Looks:
    """Stands for the claim: notes what there was at each look, and that a newer epoch exists from one on."""

    def __init__(self, place: Place, replaced_at: int | None) -> None:
        self._place = place
        self._replaced_at = replaced_at
        self.seen: list[int] = []

    def __call__(self) -> None:
        self.seen.append(self.commits())
        if len(self.seen) == self._replaced_at:
            raise FencedError("a newer epoch")

    def commits(self) -> int:
        names = ("all_of", "even_of", "_quarantine")
        return len(self._place.pages) + sum(DeltaTable(self._place.tables / name).version() for name in names)


def test_a_driver_that_was_replaced_at_any_moment_writes_nothing_after_its_next_look(tmp_path, monkeypatch):
    monkeypatch.setattr(delta, "CHECKPOINT_EVERY", 1)
    whole = Looks(Place(tmp_path / "whole"), None)
    whole._place.context.before_write = whole
    whole._place.run([*GOOD, *BAD])
    steps = [*whole.seen, whole.commits()]
    # A look before each of the six writes: two notes, three commits, the books.
    assert max(after - before for before, after in pairwise(steps)) == 1
    assert steps[-1] - steps[0] == 6
    for number in range(1, len(whole.seen) + 1):
        looks = Looks(Place(tmp_path / str(number)), number)
        looks._place.context.before_write = looks
        with pytest.raises(FencedError):
            looks._place.run([*GOOD, *BAD])
        assert looks.seen == whole.seen[:number]
        assert looks.commits() == looks.seen[-1]


def test_doubtful_records_that_are_many_are_judged_and_written_piece_by_piece(place, monkeypatch):
    steps: list[str] = []

    def settled(_spark: Any, _frozen: Any, _source: str, records: pa.Table, _writers: Any) -> Settled:
        steps.append(f"judge {records.num_rows}")
        bad = records.append_column("reasons", pa.array([["positive"]] * len(records), QUARANTINED))
        good = {name: pa.table({"n": pa.array([1], pa.int32())}) for name in ("even",)}
        counts = Counter({READ: len(records) + 1, PASSED: 1, BADS: len(records), "positive": len(records)})
        good["all"] = good["even"].append_column("place", pa.array([7]))
        return Settled(counts, good, bad, {})

    class Told(TableFiles):
        def write(self, table: pa.Table) -> None:
            if self._schema == QUARANTINE and table.num_rows:
                steps.append(f"write {table.num_rows}")
            super().write(table)

    monkeypatch.setattr(arrow_task, "CARRIED_ROWS", 1)
    monkeypatch.setattr(arrow_lane, "PIECE_BYTES", 1)
    monkeypatch.setattr(arrow_lane, "TableFiles", Told)
    monkeypatch.setattr(arrow_lane, "settle", settled)
    doubtful = [DOUBTFUL] * 2
    place.run(doubtful, doubtful, [*doubtful, *doubtful])
    assert steps == ["judge 2", "write 2", "judge 2", "write 2", "judge 4", "write 4"]
    assert place.rows("_quarantine", "value") == [DOUBTFUL] * 8
    assert place.rows("all_of", "n") == [1, 1, 1]
    # However many pieces there were, each table has one file of them.
    names = sorted(path.parent.name for path in place.files())
    assert names == ["_quarantine", "all_of", "even_of"]


def test_small_pieces_of_doubtful_records_are_judged_together(place, monkeypatch):
    asked: list[int] = []

    def settled(_spark: Any, _frozen: Any, _source: str, records: pa.Table, _writers: Any) -> Settled:
        asked.append(records.num_rows)
        bad = records.append_column("reasons", pa.array([["positive"]] * len(records), QUARANTINED))
        return Settled(Counter({READ: len(records), BADS: len(records)}), {}, bad, {})

    monkeypatch.setattr(arrow_task, "CARRIED_ROWS", 1)
    monkeypatch.setattr(arrow_lane, "settle", settled)
    place.run([DOUBTFUL], [DOUBTFUL] * 2, [DOUBTFUL] * 3)
    assert asked == [6]


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_a_file_that_the_driver_does_not_find_as_it_was_written_stops_the_batch(place, monkeypatch, how):
    whole = arrow_lane.reported

    def elsewhere(rows: pa.Table) -> Any:
        found = whole(rows)
        path = place.tables / "even_of" / found.outputs["even"][0].path
        if how == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-1])
        return found

    monkeypatch.setattr(arrow_lane, "reported", elsewhere)
    with pytest.raises(HeadgateError, match=r"even_of.*nothing was committed") as caught:
        place.run([*GOOD, *BAD])
    assert "the driver and all workers share" in str(caught.value.expected)
    assert (place.rows("all_of", "n"), place.rows("_quarantine", "offset"), place.pages) == ([], [], [])
    assert place.files() == set()


def test_files_of_tasks_that_ended_before_another_one_failed_are_removed_and_no_others(place, monkeypatch):
    class Failing(Raw):
        def toArrow(self) -> pa.Table:
            super().toArrow()
            raise ValueError("another task failed")

    lane = ArrowLane(place.context, place.pages.append)
    for batch_id, frame in enumerate([Raw([*GOOD, *BAD]), Failing([*GOOD, *BAD])]):
        monkeypatch.setattr(arrow_task, "_batch", lambda found=batch_id: found)
        whole: Any = lane.frame(frame)
        if batch_id == 0:
            lane.commit(whole, batch_id)
            committed = place.files()
            assert len(committed) == 3
            continue
        with pytest.raises(ValueError, match="another task"):
            lane.commit(whole, batch_id)
    assert place.files() == committed
    assert place.rows("all_of", "n") == list(range(1, 11))


@pytest.mark.parametrize("step", ["remove", "files_in"])
def test_a_clean_up_that_fails_does_not_hide_what_the_batch_failed_of(place, monkeypatch, caplog, step):
    lane = ArrowLane(place.context, place.pages.append)
    whole: Any = lane.frame(Raw([*GOOD, b'{"n": 666}']))
    failing = Mock(side_effect=StoreDenied("no right to delete"))
    monkeypatch.setattr(arrow_lane, step, failing)
    with pytest.raises(RuleFailedError, match="never"):
        lane.commit(whole, 7)
    assert failing.call_count == 1, "a store that is away is waited for once"
    assert "files of batch 7, which has failed, could not be removed: no right to delete" in caplog.text


def test_what_older_drivers_set_aside_is_removed_and_what_a_newer_one_did_is_not(place):
    place.context.epoch = 12
    aside = place.tables / "_quarantine" / "_doubtful"
    aside.mkdir()
    names = [
        "part-1234-ab.parquet",
        "part-epoch2-a.parquet",
        "part-epoch12-a.parquet",
        "part-epoch13-a.parquet",
    ]
    for name in names:
        (aside / name).touch()

    def replaced() -> None:
        raise FencedError("a newer epoch")

    looks, place.context.before_write = place.context.before_write, replaced
    lane = ArrowLane(place.context, place.pages.append)
    with pytest.raises(FencedError):
        lane.frame(Raw(GOOD))
    assert sorted(path.name for path in aside.iterdir()) == sorted(names)
    place.context.before_write = looks
    lane.frame(Raw(GOOD))
    assert sorted(path.name for path in aside.iterdir()) == names[2:]


def test_a_rule_that_stops_the_stream_does_so_before_any_commit_and_leaves_no_file(place):
    with pytest.raises(RuleFailedError, match="never"):
        place.run([*GOOD, b'{"n": 666}'])
    assert place.files() == set()
    assert place.pages == []


@pytest.mark.parametrize("lost", ["all", "quarantine"])
def test_rows_that_are_lost_on_the_way_to_the_driver_are_noticed(place, monkeypatch, lost):
    whole = arrow_lane.reported

    def losing(rows: pa.Table) -> Any:
        found = whole(rows)
        if lost == "all":
            found.outputs["all"].pop()
        else:
            found.bad.pop()
        return found

    monkeypatch.setattr(arrow_lane, "reported", losing)
    with pytest.raises(HeadgateError, match=f"counted for the (output )?{lost}, 0 written"):
        place.run([*GOOD, *BAD])
    assert (place.rows("all_of", "n"), place.rows("_quarantine", "offset"), place.pages) == ([], [], [])


def test_bad_records_that_are_too_many_to_carry_are_written_by_the_tasks_and_one_is_named(place, monkeypatch):
    monkeypatch.setattr(arrow_task, "_batch_id", lambda: 0)
    poison = [b'{"n": %d}' % -n for n in range(1500)]
    lane = place.run(poison, poison[:100])
    assert place.rows("_quarantine", "offset") == list(range(1600))
    assert set(place.rows("_quarantine", "batch_id")) == {0}
    assert lane.example == "topic t, partition 1, offset 1599"
    assert place.pages[0].batch.rules == {"positive": 1600}


def test_a_table_notes_its_writer_and_the_other_lane_knows_the_batches_that_it_has(place):
    place.run(GOOD)
    sink = place.context.sink("all", "records")
    assert sink.noted_writer == "deltalake"
    other = RecordQuery(place.context, place.pages.append)
    frame: Any = Raw(GOOD)
    assert other.frame(frame) is frame
    assert DeltaTable(sink.path).metadata().configuration["headgate.writer"] == "delta-spark"
    assert [sink.has(0), sink.has(1)] == [True, False]
    assert sink.sweeps  # what the other lane's tasks have left is removed in this one as well
    place.run(GOOD)
    assert place.rows("all_of", "n") == list(range(1, 11))
    assert sink.noted_writer == "deltalake"


def test_a_pipeline_without_outputs_of_records_is_screened_and_counted(tmp_path):
    place = Place(tmp_path)
    sql = "SELECT n, count(*) AS records FROM a GROUP BY n"
    frozen = frozen_of(
        SOURCE,
        {"by_n": {"sql": sql, "mode": "update", "key": ["n"], "to": [{"delta": "by_n"}]}},
        {"by_n": {"n": "int", "records": "long"}},
        stateful=True,
    )
    place.context = lane_context(frozen, tmp_path / "other")
    place.tables = tmp_path / "other" / "example"
    place.run([*GOOD, *BAD])
    assert (place.pages[0].batch.good, place.pages[0].batch.quarantined) == (10, 3)
    assert len(place.rows("_quarantine", "offset")) == 3
    assert place.rows("by_n", "n") == []


def test_the_bytes_of_all_records_are_measured_whatever_became_of_them(place, monkeypatch):
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        place.context.caps, "measured", lambda *numbers, **how: told.append((*numbers, *how.values()))
    )
    place.run([*GOOD[:5], *BAD], GOOD[5:])
    values = [*GOOD, *BAD]
    assert told == [("a", 0, len(values), sum(len(b"k" + value) for value in values), False, False)]


def test_the_more_partitions_a_topic_has_the_less_its_tasks_carry_along(place, monkeypatch):
    asked: list[arrow_task.TaskOrder] = []
    monkeypatch.setattr(arrow_lane, "task", asked.append)
    for partitions in (1, 64):
        source = place.context.frozen.contract.sources["a"].model_copy(update={"partitions": partitions})
        contract = place.context.frozen.contract.model_copy(update={"sources": {"a": source}})
        place.context.frozen = replace(place.context.frozen, contract=contract)
        ArrowLane(place.context, place.pages.append).frame(Raw([]))  # type: ignore[arg-type]
    assert [order.carried for order in asked] == [arrow_lane.CARRIED_BYTES, arrow_lane.CARRIED_BYTES // 64]


def test_bad_records_that_are_too_much_to_carry_along_are_written_where_they_are(place, monkeypatch):
    carried: list[int] = []
    whole = arrow_lane.reported

    def reported(rows: pa.Table) -> Any:
        carried.append(rows.num_rows - rows["report"].drop_null().length())
        return whole(rows)

    monkeypatch.setattr(arrow_lane, "reported", reported)
    monkeypatch.setattr(arrow_task, "_batch", lambda: len(carried))
    place.run(BAD)
    monkeypatch.setattr(arrow_lane, "CARRIED_BYTES", 10)
    place.run(BAD, batch_id=1)
    assert carried == [len(BAD), 0]
    assert place.rows("_quarantine", "value") == sorted([*BAD, *BAD])
