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
from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.contract.frozen import FrozenContract, with_lane
from spark.passed_task import PassedOrder, pass_on
from spark.shared import SharedScreening, shared_screening
from spark.stop import StopRequestedError

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
        self.stopped = False
        self.context: Any = SimpleNamespace(
            frozen=self.contract,
            settings=SimpleNamespace(state=folder, spark=SimpleNamespace(master="local")),
            layout=layout,
            lineage=SimpleNamespace(id="l1"),
            epoch=3,
            gate=self.gate,
            before_batch=self._before_batch,
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

    def planned(self, number: int, end: int) -> None:
        """A batch of the record query."""
        batch(self.records, number, end)

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
        moments = pa.array([1_800_000_000_000_000] * len(values), RAW.field("_now").type)
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
    assert world.spans(0) is None, "no log says where the first batch begins"
    assert world.spans(1) == [(5, 7), (7, 9)]
    world.planned(2, 20)
    assert world.spans(2) == [(9, 20)]
    # What lies before a batch is committed, and nobody needs it.
    assert [path.name.split(".")[2:4] for path in world.folder.iterdir()] == [["7", "20"]]
    assert world.gate.waited == 0


def test_it_waits_while_the_other_query_comes_on(world):
    world.begin()
    world.planned(0, 5)
    world.planned(1, 9)
    world.committed(0, 5)
    world.judged(0, 5)
    world.gate.meanwhile = lambda: world.judged(3 + world.gate.waited, 4 + world.gate.waited)
    signs: list[int] = []
    world.shared.came_on = lambda: signs.append(world.gate.waited)
    assert world.spans(1) == [(5, 6), (6, 7), (7, 8), (8, 9)]
    assert signs == [0, 1, 2, 3, 4], "a batch that waits for tasks that end is no stall"


def test_it_does_not_wait_for_what_was_committed_and_not_noted(world):
    world.begin()
    world.planned(0, 5)
    world.planned(1, 9)
    world.judged(0, 5)
    world.judged(7, 9)
    world.gate.meanwhile = lambda: world.committed(0, 9)
    assert world.spans(1) is None
    assert world.gate.waited == 1


def test_it_does_not_wait_for_a_query_that_was_not_heard_of_or_is_far_behind(world):
    world.begin()
    world.planned(0, 5)
    world.planned(1, 9)
    assert world.spans(1) is None
    world.judged(0, 3)
    world.committed(0, 3)
    far = 4 + world.contract.contract.job.max_records_per_batch
    world.planned(1, far)
    world.planned(2, far + 1)
    assert world.spans(2) is None
    assert world.gate.waited == 0


def test_it_gives_up_when_nothing_is_heard(world, monkeypatch):
    world.begin()
    world.planned(0, 5)
    world.planned(1, 9)
    world.judged(0, 5)
    monkeypatch.setattr("spark.shared._SILENCE", 0.0)
    assert world.spans(1) is None


def test_a_stop_ends_the_wait_and_the_batch_runs_again(world):
    world.begin()
    world.planned(0, 5)
    world.planned(1, 9)
    world.judged(0, 5)

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


def test_a_driver_takes_nothing_from_the_one_before_it(world):
    world.begin()
    world.judged(0, 9)
    world.begin()
    assert list(world.folder.iterdir()) == []


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
    assert own.read_as == other.read_as
