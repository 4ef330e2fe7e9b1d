"""What is noted of judged records serves any other batches of them, or says that it does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hostile_records import COLUMNS, CORPUS, EVENT_TIME
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from two_lanes import frozen_of

from headgate.arrow.kinds import MOMENT
from headgate.arrow.passed import passed_plan
from headgate.arrow.screen import BAD, GOOD, RAW, READ, Screen
from headgate.arrow.stretches import Stretch, StretchNotes, covering, noted_stretches, read_rows, tally

ARRIVED = datetime(2026, 1, 1, tzinfo=UTC)
RULES = [
    {"name": "small", "expect": "n < 100 OR n IS NULL"},
    {"name": "named", "expect": "s <> 'w' OR s IS NULL", "otherwise": "warn"},
    {"name": "never", "expect": "n <> 66 OR n IS NULL", "otherwise": "fail"},
]
FROZEN = frozen_of(
    {"topic": "t", "columns": COLUMNS, "event_time": EVENT_TIME, "rules": RULES},
    {"o": {"sql": "SELECT count(*) AS c FROM a", "to": [{"redis": "o"}], "lane": "arrow"}},
    {"o": {}},
    stateful=True,
)
SCREEN = Screen(passed_plan(FROZEN, "o", "a").records, "t")
GOOD_RECORD = b'{"at": "2025-10-01 12:00:00", "l": 7}'
DOUBTFUL = b'{"at": "2025-10-01 12:00", "l": 7}'
TOO_LARGE = b'{"at": "2025-10-01 12:00:00", "l": 7, "n": 100}'


def records(values: list[bytes | None], first: int = 0, partition: int = 3, ahead: float = 0) -> pa.Table:
    count = len(values)
    columns = [
        pa.array([b"k"] * count, pa.binary()),
        pa.array(values, pa.binary()),
        pa.array([partition] * count, pa.int32()),
        pa.array(range(first, first + count), pa.int64()),
        pa.array([ARRIVED + timedelta(seconds=ahead)] * count, MOMENT),
        pa.array([ARRIVED] * count, MOMENT),
    ]
    return pa.table(columns, schema=RAW)


def note(folder: Path, *batches: pa.Table) -> list[Stretch]:
    """As one task does."""
    notes = StretchNotes(folder, "mark", ["named", "never"])
    for batch in batches:
        notes.take(batch, SCREEN.judge(batch))
    notes.end()
    return sorted(noted_stretches(folder, "mark"), key=lambda stretch: stretch.first)


def spans(stretches: list[Stretch] | None) -> list[tuple[int, int, int]] | None:
    return stretches and [(each.partition, each.first, each.behind) for each in stretches]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_part_of_what_was_noted_says_what_a_screening_of_that_part_says(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("notes")
    bodies = data.draw(
        st.lists(st.lists(st.sampled_from(CORPUS), min_size=1, max_size=12), min_size=1, max_size=5)
    )
    place = 0
    batches = []
    for body in bodies:
        batches.append(records(body, place))
        place += len(body)
    stretches = note(folder, *batches)
    first = data.draw(st.integers(0, place - 1))
    behind = data.draw(st.integers(first + 1, place))
    found = covering(stretches, {3: (first, behind)})
    assert found is not None
    assert sum(part.behind - part.first for part in found) == behind - first
    rows = read_rows(found)
    alone = SCREEN.judge(pa.concat_tables(batches).slice(first, behind - first))
    assert +tally(found, rows) == +alone.counts
    judged = {row["_offset"]: row for row in rows.to_pylist()}
    assert {at: row for at, row in judged.items() if row["reasons"]} == {
        row["_offset"]: row for row in alone.bad.to_pylist()
    }
    assert [at for at, row in sorted(judged.items()) if row["reasons"] is None] == alone.doubtful[
        "_offset"
    ].to_pylist()


def test_batches_that_follow_one_another_are_one_stretch_and_a_gap_ends_it(tmp_path):
    good = [GOOD_RECORD] * 3
    found = note(
        tmp_path, records(good), records(good, 3), records(good, 7), records([], 10), records(good, 10)
    )
    assert spans(found) == [(3, 0, 6), (3, 7, 13)]
    assert [each.size for each in found] == [0, 0]
    assert [each.record_bytes for each in found] == [6 * (1 + len(GOOD_RECORD))] * 2


def test_a_task_that_is_repeated_notes_the_same_again(tmp_path):
    values = [GOOD_RECORD, TOO_LARGE, DOUBTFUL]
    assert note(tmp_path, records(values)) == note(tmp_path, records(values))
    (stretch,) = noted_stretches(tmp_path, "mark")
    assert (stretch.rows, tally([stretch], read_rows([stretch]))) == (
        2,
        {READ: 2, GOOD: 1, BAD: 1, "small": 1},
    )


@pytest.mark.parametrize(
    "batch",
    [
        records([GOOD_RECORD[:-1] + b', "s": "w"}'], 1),
        records([GOOD_RECORD[:-1] + b', "n": 66}'], 1),
        records([GOOD_RECORD], 1, ahead=0.000001),
        pa.concat_tables([records([GOOD_RECORD], 1), records([GOOD_RECORD], 3)]),
        pa.concat_tables([records([GOOD_RECORD], 2), records([GOOD_RECORD], 1)]),
        pa.concat_tables([records([GOOD_RECORD], 1), records([GOOD_RECORD], 2, partition=4)]),
    ],
)
def test_what_is_the_other_querys_to_say_is_not_noted(tmp_path, batch):
    """A rule that warns or stops the stream, a record ahead of the batch's time, offsets with gaps."""
    found = note(tmp_path, records([GOOD_RECORD]), batch, records([GOOD_RECORD], 9))
    assert spans(found) == [(3, 0, 1), (3, 9, 10)]


def test_many_bad_records_are_noted_in_several_stretches(tmp_path, monkeypatch):
    monkeypatch.setattr("headgate.arrow.stretches.NOTE_BYTES", 200)
    found = note(tmp_path, *(records([TOO_LARGE] * 3, first) for first in range(0, 12, 3)))
    assert len(found) > 1
    assert read_rows(found)["_offset"].to_pylist() == list(range(12))


def test_what_is_missing_anywhere_is_missing(tmp_path):
    def stretch(partition: int, first: int, behind: int) -> Stretch:
        return Stretch(tmp_path / "x", partition, first, behind, 100 * (behind - first), 0, 0)

    some = [stretch(0, 0, 5), stretch(0, 5, 9), stretch(0, 3, 12), stretch(1, 4, 6)]
    assert spans(covering(some, {0: (1, 11), 1: (4, 5)})) == [(0, 1, 5), (0, 5, 11), (1, 4, 5)]
    assert [part.record_bytes for part in covering(some, {0: (1, 11), 1: (4, 5)}) or []] == [400, 600, 100]
    assert covering(some, {0: (1, 13)}) is None
    assert covering(some, {1: (3, 5)}) is None
    assert covering(some, {2: (0, 1)}) is None
    assert covering(some, {}) == []


def test_notes_of_other_drivers_and_those_that_are_not_whole_are_left_alone(tmp_path):
    (tmp_path / ".0123").write_bytes(b"half")
    (tmp_path / "other.3.0.5.0.0.arrow").write_bytes(b"")
    assert noted_stretches(tmp_path, "mark") == []
