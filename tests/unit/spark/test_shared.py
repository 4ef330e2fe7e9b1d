"""When the record query takes what tasks of a stateful output have judged, waits for it, or does without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from spark_checkpoint import batch, begin_query, commit
from two_lanes import frozen_of

from headgate.arrow.passed import passed_plan
from headgate.arrow.screen import RAW
from headgate.batches.caps import BatchCaps
from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.owner import FencedError
from headgate.contract.frozen import FrozenContract, with_lane
from headgate.errors import HeadgateError
from spark.passed_task import PassedOrder, pass_on
from spark.shared import SharedScreening, shared_screening
from spark.stop import StopRequestedError

MOMENT = 1_800_000_000_000_000  # when the records came, and the time of the batches
SOURCE = {
    "topic": "t",
    "columns": [{"name": "at", "type": "timestamp"}, {"name": "n", "type": "int", "required": True}],
    "event_time": {"column": "at"},
}
WINDOWS = {"sql": "SELECT count(n) AS c FROM a GROUP BY window(at, '1 minute')", "to": [{"redis": "o"}]}


def frozen(lane: str | None = "arrow", **more: Any) -> FrozenContract:
    outputs = {"o": {**WINDOWS, **({"lane": lane} if lane else {})}, **more}
    return with_lane(frozen_of(SOURCE, outputs, {name: {} for name in outputs}, stateful=True), "arrow")


class Gate:
    """A gate at which something happens while a batch waits."""

    def __init__(self) -> None:
        self.waited = 0
        self.meanwhile: Callable[[], None] = lambda: None

    def wait(self, _seconds: float) -> bool:
        self.waited += 1
        self.meanwhile()
        return False


class World:
    """A driver's folders, and the two queries as far as they have come."""

    def __init__(self, folder: Path, contract: FrozenContract | None = None) -> None:
        self.contract = contract or frozen()
        layout = CheckpointLayout(folder / "checkpoints", "example")
        self.records, self.other = layout.query("l1", RECORDS), layout.query("l1", "o")
        self.gate, self.folder = Gate(), folder / "streams" / self.contract.pipeline / "screened"
        self.stopped = self.fenced = False
        self.context: Any = SimpleNamespace(
            frozen=self.contract,
            settings=SimpleNamespace(state=folder, spark=SimpleNamespace(master="local")),
            layout=layout,
            lineage=SimpleNamespace(id="l1"),
            epoch=3,
            gate=self.gate,
            before_batch=self._before_batch,
            before_write=self._before_write,
            caps=BatchCaps(self.contract),
        )
        for query in (self.records, self.other):
            begin_query(query)

    def begin(self) -> SharedScreening:
        shared = shared_screening(self.context)
        assert shared is not None
        self.shared = shared
        return shared

    def _before_batch(self) -> None:
        if self.stopped:
            raise StopRequestedError

    def _before_write(self) -> None:
        if self.fenced:
            raise FencedError("a newer driver has claimed the checkpoint")

    def planned(self, number: int, end: int) -> None:
        """A batch of the record query."""
        batch(self.records, number, end, at_ms=MOMENT // 1000)

    def committed(self, number: int, end: int) -> None:
        """A batch of the other query."""
        batch(self.other, number, end)
        commit(self.other, number)

    def judged(self, first: int, behind: int) -> None:
        """As a task of the other query does it; every third record is bad."""
        order = PassedOrder(str_of(self.contract), "o", "a", "t", self.shared.notes_of("o"))
        values = [
            b'{"at": "2025-10-01 12:00:00", "n": %d}' % n if n % 3 else b"{" for n in range(first, behind)
        ]
        moments = pa.array([MOMENT] * len(values), RAW.field("_now").type)
        columns = [
            pa.nulls(len(values), pa.binary()),
            pa.array(values, pa.binary()),
            pa.array([0] * len(values), pa.int32()),
            pa.array(range(first, behind), pa.int64()),
            moments,
            moments,
        ]
        rows = pa.table(columns, schema=RAW).to_batches(max_chunksize=4)
        for _ in pass_on(order)(iter(rows)):
            pass  # what is passed on is the other query's

    def spans(self, number: int) -> list[tuple[int, int]] | None:
        parts = self.shared.parts(number)
        return None if parts is None else [(part.first, part.behind) for part in parts]


def str_of(contract: FrozenContract) -> str:
    import json

    return json.dumps(contract.to_json())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_batch_is_made_of_what_was_judged_wherever_its_bounds_are(world):
    world.begin()
    world.planned(0, 5)
    world.planned(1, 9)
    world.judged(0, 7)
    world.judged(7, 20)
    world.committed(0, 20)
    assert world.spans(0) is None, "no log says where the first batch begins"
    assert world.spans(1) == [(5, 7), (7, 9)]
    world.planned(2, 20)
    assert world.spans(2) == [(9, 20)]
    assert world.gate.waited == 0


def noted(world: World) -> list[tuple[int, int]]:
    names = [path.name.split(".") for path in world.folder.iterdir()]
    return sorted((int(first), int(behind)) for _, _, first, behind, *_ in names)


def test_what_the_record_query_is_past_is_removed_also_where_it_has_nothing_to_do(world, monkeypatch):
    monkeypatch.setattr("spark.shared._TIDY_SECONDS", 0.0)
    world.begin()
    world.judged(0, 7)
    world.judged(7, 20)
    world.shared.tidy()
    assert noted(world) == [(0, 7), (7, 20)]
    world.planned(0, 8)
    commit(world.records, 0)
    world.shared.tidy()
    assert noted(world) == [(7, 20)]


@pytest.mark.parametrize(("bound", "most"), [("KEPT_FILES", 2), ("KEPT_BYTES", 20_000)])
def test_of_more_notes_than_may_be_kept_the_farthest_are_removed(world, monkeypatch, bound, most):
    monkeypatch.setattr("spark.shared._TIDY_SECONDS", 0.0)
    monkeypatch.setattr(f"spark.shared.{bound}", most)
    world.begin()
    for first in (40, 0, 20, 60):
        world.judged(first, first + 20)
    world.shared.tidy()
    found = noted(world)
    assert found == [(0, 20), (20, 40), (40, 60), (60, 80)][: len(found)]
    assert 0 < len(found) < 4


def test_tidying_takes_its_time(world):
    world.begin()
    world.judged(0, 7)
    world.planned(0, 8)
    commit(world.records, 0)
    world.shared.tidy()
    assert noted(world) == [(0, 7)]


def test_it_waits_while_the_other_query_comes_on(world):
    world.begin()
    world.planned(0, 5)
    world.planned(1, 9)
    world.committed(0, 5)
    world.judged(0, 5)
    world.gate.meanwhile = lambda: world.judged(4 + world.gate.waited, 5 + world.gate.waited)
    signs: list[int] = []
    world.shared.came_on = lambda: signs.append(world.gate.waited)
    assert world.spans(1) == [(5, 6), (6, 7), (7, 8), (8, 9)]
    assert signs == [1, 2, 3], "a batch that waits for tasks that end is no stall"
    assert world.shared.waited


@pytest.mark.parametrize("committed", [9, 6])
def test_it_does_not_wait_for_what_was_committed_and_not_noted(world, committed):
    """Nor for the rest of a batch of which that is known."""
    world.begin()
    world.planned(0, 5)
    world.planned(1, 9)
    world.committed(0, 5)
    world.judged(0, 5)
    world.judged(7, 9)
    world.gate.meanwhile = lambda: world.committed(1, committed)
    assert world.spans(1) is None
    assert world.gate.waited == 1
    assert world.shared.waited
    assert world.spans(1) is None
    assert world.gate.waited == 1, "a hole is never filled"
    assert not world.shared.waited


def test_it_does_not_wait_for_a_query_that_was_not_heard_of_or_is_far_behind(world):
    world.begin()
    world.planned(0, 5)
    world.planned(1, 9)
    assert world.spans(1) is None
    world.judged(0, 3)
    world.committed(0, 3)
    world.planned(1, 4 + world.context.caps.of("o")["a"])
    world.planned(2, 5 + world.context.caps.of("o")["a"])
    assert world.spans(2) is None
    assert world.gate.waited == 0


def test_how_far_is_far_follows_the_batches_of_the_other_query(world):
    world.begin()
    world.planned(0, 100)
    world.planned(1, 110)
    world.judged(0, 3)
    world.committed(0, 3)
    world.gate.meanwhile = lambda: world.judged(100, 110)
    world.context.caps.take("o", {"a": 96}, "r")
    assert world.spans(1) is None
    world.context.caps.take("o", {"a": 97}, "r")
    assert world.spans(1) == [(100, 110)]


def test_the_first_batch_of_the_other_query_is_waited_for_where_it_is_about_these_records(world):
    world.begin()
    world.planned(0, 5)
    world.planned(1, 9)
    world.judged(0, 3)
    assert world.spans(1) is None, "it has no batch yet"
    batch(world.other, 0, 20)
    world.gate.meanwhile = lambda: world.judged(3, 20)
    assert world.spans(1) == [(5, 9)]


def test_what_is_noted_of_a_later_time_is_nothing_for_a_batch_of_an_earlier_one(world):
    world.begin()
    world.planned(0, 5)
    batch(world.records, 1, 9, at_ms=MOMENT // 1000 - 1)
    world.judged(0, 9)
    world.committed(0, 9)
    assert world.spans(1) is None
    batch(world.records, 1, 9, at_ms=MOMENT // 1000)
    assert world.spans(1) == [(5, 9)]
    assert world.shared.now(1) == MOMENT


def test_it_gives_up_when_nothing_is_heard(world, monkeypatch):
    world.begin()
    world.planned(0, 5)
    world.planned(1, 9)
    world.judged(0, 5)
    world.committed(0, 5)
    monkeypatch.setattr("spark.shared._SILENCE", 0.0)
    assert world.spans(1) is None


def test_a_stop_ends_the_wait_and_the_batch_runs_again(world):
    world.begin()
    world.planned(0, 5)
    world.planned(1, 9)
    world.judged(0, 5)
    world.committed(0, 5)

    def stop() -> None:
        world.stopped = True

    world.gate.meanwhile = stop
    with pytest.raises(StopRequestedError):
        world.spans(1)


def test_too_much_that_is_bad_is_left_to_the_tasks_of_the_record_query(world, monkeypatch):
    world.begin()
    world.planned(0, 5)
    world.planned(1, 9)
    world.judged(0, 9)
    monkeypatch.setattr("spark.shared.MOST_BYTES", 10)
    assert world.spans(1) is None


def test_a_partition_that_is_new_is_left_to_them_too(world):
    world.begin()
    world.planned(0, 5)
    world.planned(1, 9)
    entry = world.records / "offsets" / "1"
    entry.write_text(entry.read_text().replace('"0":9', '"0":9,"1":2'))
    world.judged(0, 9)
    assert world.spans(1) is None


@pytest.mark.parametrize("lane", ["arrow", "jvm"])
def test_a_driver_takes_nothing_from_the_one_before_it_and_removes_it(world, lane):
    world.begin()
    world.judged(0, 9)
    (world.folder / "part-epoch3-0123.0.0.9.0.0.0.draft").touch()
    world.context.frozen = frozen(lane)
    assert (shared_screening(world.context) is None) is (lane == "jvm")
    assert list(world.folder.iterdir()) == []


def test_a_driver_that_was_replaced_removes_nothing_of_its_successor(world):
    world.begin()
    world.judged(0, 9)
    world.context.epoch = 2
    assert shared_screening(world.context) is not None
    assert noted(world) == [(0, 9)]
    world.context.epoch, world.fenced = 4, True
    with pytest.raises(FencedError):
        shared_screening(world.context)
    assert noted(world) == [(0, 9)]


def test_a_driver_that_ends_leaves_nothing_of_its_own(world):
    world.begin()
    world.judged(0, 9)
    (world.folder / "part-epoch4-0123.0.0.9.0.0.0.arrow").touch()
    world.shared.close()
    assert [path.name for path in world.folder.iterdir()] == ["part-epoch4-0123.0.0.9.0.0.0.arrow"]


def test_nobody_else_reads_what_is_noted(world):
    world.begin()
    assert world.folder.stat().st_mode & 0o777 == 0o700


def test_a_note_that_cannot_be_written_is_no_reason_to_fail(world, capfd):
    world.begin()
    world.folder.rmdir()
    world.judged(0, 9)
    assert "is not noted for the record query" in capfd.readouterr().err


@pytest.mark.parametrize("lane", [None, "jvm", "auto"])
def test_no_output_judges_for_the_record_query_unless_its_records_are_read_in_arrow(tmp_path, lane):
    assert shared_screening(World(tmp_path, frozen(lane)).context) is None


def test_workers_elsewhere_do_not_judge_for_it(world):
    world.context.settings.spark.master = "spark://host:7077"
    assert shared_screening(world.context) is None


def test_one_output_judges_where_there_are_several(tmp_path):
    shared = World(tmp_path, frozen(p={**WINDOWS, "lane": "arrow", "to": [{"redis": "p"}]})).begin()
    assert shared.output == "o"
    assert shared.notes_of("o") is not None
    assert shared.notes_of("p") is None


def test_a_plan_for_the_tasks_has_the_checks_of_the_record_query():
    """Or their verdicts would be of another kind."""
    from headgate.arrow.plan import plan_records

    own, other = plan_records(frozen()), passed_plan(frozen(), "o", "a").records
    assert [(check.name, check.otherwise) for check in own.checks] == [
        (check.name, check.otherwise) for check in other.checks
    ]
    assert own.source == other.source


def test_a_task_that_is_to_leave_nothing_to_spark_fails_where_it_would():
    order = PassedOrder(str_of(frozen()), "o", "a", "t", sure=True)
    moment = pa.array([MOMENT], pa.timestamp("us", tz="UTC"))
    for value, left in (
        (b'{"at": "2025-10-01 12:00:00", "n": 1}', 0),
        (b'{"at": "2025-10-01 12:00", "n": 1}', 1),
    ):
        columns = [pa.nulls(1, pa.binary()), [value], [0], [0], moment, moment]
        rows = pa.table(columns, schema=RAW).to_batches()
        if left:
            with pytest.raises(HeadgateError, match="1 records of source a are left to Spark"):
                list(pass_on(order)(iter(rows)))
        else:
            assert sum(batch.num_rows for batch in pass_on(order)(iter(rows))) == 1
