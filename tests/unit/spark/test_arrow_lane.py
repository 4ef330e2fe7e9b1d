"""The driver's side of the Arrow lane, with its tasks run here: what is committed, once, and what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from two_lanes import frozen_of, lane_context

from headgate.arrow.screen import RAW
from headgate.checkpoints.books import Page
from headgate.checkpoints.owner import FencedError
from headgate.errors import HeadgateError
from spark import arrow_lane, arrow_task
from spark.arrow_lane import ArrowLane
from spark.arrow_task import ROWS
from spark.record import RecordQuery, RuleFailedError

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
BAD = [b'{"n": -1}', b"{", b'{"n": "x"}']
Task = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


class Raw:
    """Stands for Spark's frame of records: `mapInArrow` runs its function when the rows are asked for."""

    def __init__(self, *tasks: list[bytes]) -> None:
        self._tasks = tasks
        self._function: Task | None = None
        self.sparkSession = SimpleNamespace(conf=SimpleNamespace(set=lambda *_: None))

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


def test_a_batch_that_runs_again_writes_nothing_twice_and_leaves_no_file(place):
    place.run([*GOOD, *BAD])
    files = place.files()
    place.run([*GOOD, *BAD])
    assert place.files() == files
    assert place.pages[0] == place.pages[1]
    assert place.rows("all_of", "n") == list(range(1, 11))
    assert len(place.rows("_quarantine", "offset")) == 3


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


def test_a_driver_that_was_replaced_while_its_tasks_ran_commits_nothing(place, monkeypatch):
    lane = ArrowLane(place.context, place.pages.append)
    frame: Any = lane.frame(Raw([*GOOD, *BAD]))  # type: ignore[arg-type]

    def replaced() -> None:
        raise FencedError("a newer epoch")

    monkeypatch.setattr(place.context, "before_write", replaced)
    with pytest.raises(FencedError):
        lane.commit(frame, 0)
    assert (place.rows("all_of", "n"), place.rows("_quarantine", "offset"), place.pages) == ([], [], [])


def test_a_rule_that_stops_the_stream_does_so_before_any_commit_and_leaves_no_file(place):
    with pytest.raises(RuleFailedError, match="never"):
        place.run([*GOOD, b'{"n": 666}'])
    assert place.files() == set()
    assert place.pages == []


@pytest.mark.parametrize("lost", ["all", "quarantine"])
def test_rows_that_are_lost_on_the_way_to_the_driver_are_noticed(place, monkeypatch, lost):
    whole = arrow_lane._reported

    def losing(rows: pa.Table) -> Any:
        found = whole(rows)
        if lost == "all":
            found.outputs["all"].pop()
        else:
            found.bad.pop()
        return found

    monkeypatch.setattr(arrow_lane, "_reported", losing)
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
