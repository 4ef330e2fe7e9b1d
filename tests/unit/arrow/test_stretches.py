"""What is noted of judged records serves any other batches of them, or says that it does not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hostile_records import COLUMNS, CORPUS, EVENT_TIME
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from two_lanes import frozen_of

from headgate.arrow.kinds import MOMENT
from headgate.arrow.passed import passed_plan
from headgate.arrow.screen import BAD, GOOD, RAW, READ, WARNED, Screen
from headgate.arrow.stretches import Stretch, StretchNotes, cover, noted_stretches, read_rows, tally

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
SCREEN = Screen(passed_plan(FROZEN, "o", "a").records, "t", for_others=True)
NOW = round(ARRIVED.timestamp() * 1_000_000)
GOOD_RECORD = b'{"at": "2025-10-01 12:00:00", "l": 7}'
WARNED_OF = GOOD_RECORD[:-1] + b', "s": "w"}'
STOPS = GOOD_RECORD[:-1] + b', "n": 66}'
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
    notes = StretchNotes(folder, "mark")
    for batch in batches:
        notes.take(batch, SCREEN.judge(batch))
    notes.end()
    return sorted(noted_stretches(folder, "mark"), key=lambda stretch: stretch.first)


def spans(stretches: Sequence[Stretch]) -> list[tuple[int, int, int]]:
    return [(each.partition, each.first, each.behind) for each in stretches]


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
    covered = cover(stretches, {3: (first, behind)}, NOW)
    assert not covered.gaps
    found = covered.parts
    assert sum(part.behind - part.first for part in found) == behind - first
    rows = read_rows(found)
    alone = SCREEN.judge(pa.concat_tables(batches).slice(first, behind - first))
    others = alone.others
    assert others is not None
    own = [row for row in rows.to_pylist() if not row["warned"]]
    doubtful = [row["_offset"] for row in own if row["reasons"] is None]
    # How much of a batch is surely read is one thing, what is said of it another.
    unsure = {*doubtful, *alone.doubtful["_offset"].to_pylist()}
    if len(unsure) == len(doubtful) == alone.doubtful.num_rows:
        assert +tally(found, rows) == +alone.counts
    assert tally(found, rows)[READ] == behind - first - len(doubtful)

    def said(rows: list[dict[str, Any]]) -> dict[int, tuple[bytes | None, list[str]]]:
        return {
            row["_offset"]: (row.get("_value"), row["reasons"])
            for row in rows
            if row["_offset"] not in unsure
        }

    assert said(own) == said(alone.bad.to_pylist())
    assert said([row for row in rows.to_pylist() if row["warned"]]) == said(others.warned.to_pylist())


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
    assert (stretch.rows, +tally([stretch], read_rows([stretch]))) == (
        2,
        {READ: 2, GOOD: 1, BAD: 1, "small": 1},
    )


@pytest.mark.parametrize(
    "batch",
    [
        records([STOPS], 1),
        records([TOO_LARGE], 1, ahead=0.000001),
        pa.concat_tables([records([GOOD_RECORD], 1), records([GOOD_RECORD], 3)]),
        pa.concat_tables([records([GOOD_RECORD], 2), records([GOOD_RECORD], 1)]),
        pa.concat_tables([records([GOOD_RECORD], 1), records([GOOD_RECORD], 2, partition=4)]),
    ],
)
def test_what_is_the_other_querys_to_say_is_not_noted(tmp_path, batch):
    """A rule that stops the stream, a bad record ahead of the batch's time, offsets with gaps."""
    found = note(tmp_path, records([GOOD_RECORD]), batch, records([GOOD_RECORD], 9))
    assert spans(found) == [(3, 0, 1), (3, 9, 10)]


def test_a_rule_that_warns_is_noted_with_the_record_and_without_what_it_holds(tmp_path):
    found = note(tmp_path, records([GOOD_RECORD, WARNED_OF, GOOD_RECORD, WARNED_OF]))
    rows = read_rows(found)
    assert [(row["_offset"], row["_value"], row["reasons"]) for row in rows.to_pylist()] == [
        (1, None, ["named"]),
        (3, None, ["named"]),
    ]
    part = cover(found, {3: (0, 2)}, NOW).parts
    assert +tally(part, read_rows(part)) == {READ: 2, GOOD: 2, WARNED: 1, "named": 1}


def test_a_clock_that_is_ahead_costs_nothing_as_long_as_no_batch_would_judge_otherwise(tmp_path):
    """Good: no later than the limit of 10 minutes after the batch's time, whichever query's batch that is."""
    soon = (ARRIVED + timedelta(minutes=9)).strftime('{"at": "%Y-%m-%d %H:%M:%S", "l": 7}').encode()
    found = note(tmp_path, records([soon], ahead=3))
    assert spans(found) == [(3, 0, 1)]
    minute = 60_000_000
    assert cover(found, {3: (0, 1)}, NOW - minute).parts
    assert not cover(found, {3: (0, 1)}, NOW - minute - 1).parts
    assert cover(found, {3: (0, 1)}, NOW - minute - 1).missing == 1


def test_a_bad_record_counts_for_no_batch_that_is_older_than_it(tmp_path):
    found = note(tmp_path, records([TOO_LARGE]))
    assert cover(found, {3: (0, 1)}, NOW).parts
    assert not cover(found, {3: (0, 1)}, NOW - 1).parts


def test_many_bad_records_are_noted_in_several_stretches(tmp_path, monkeypatch):
    monkeypatch.setattr("headgate.arrow.stretches.NOTE_BYTES", 200)
    found = note(tmp_path, *(records([TOO_LARGE] * 3, first) for first in range(0, 12, 3)))
    assert len(found) > 1
    assert read_rows(found)["_offset"].to_pylist() == list(range(12))


def test_what_is_missing_anywhere_is_missing(tmp_path):
    def stretch(partition: int, first: int, behind: int) -> Stretch:
        return Stretch(tmp_path / "x", partition, first, behind, 100 * (behind - first), 0, 0, 0)

    some = [stretch(0, 0, 5), stretch(0, 5, 9), stretch(0, 3, 12), stretch(0, 15, 18), stretch(1, 4, 6)]
    whole = cover(some, {0: (1, 11), 1: (4, 5)}, 0)
    assert spans(whole.parts) == [(0, 1, 5), (0, 5, 11), (1, 4, 5)]
    assert [part.record_bytes for part in whole.parts] == [400, 600, 100]
    assert (whole.gaps, whole.missing) == ((), 0)

    def gaps(wanted: dict[int, tuple[int, int]]) -> list[tuple[int, int, int]]:
        found = cover(some, wanted, 0)
        assert found.missing + sum(part.behind - part.first for part in found.parts) == sum(
            behind - first for first, behind in wanted.values()
        )
        return [(gap.partition, gap.first, gap.behind) for gap in found.gaps]

    assert gaps({0: (1, 13)}) == [(0, 12, 13)]
    assert gaps({0: (8, 20)}) == [(0, 12, 15), (0, 18, 20)]
    assert gaps({1: (3, 5)}) == [(1, 3, 4)]
    assert gaps({2: (0, 1)}) == [(2, 0, 1)]
    assert gaps({}) == []


def test_a_note_that_goes_away_while_it_is_looked_for_is_none(tmp_path, monkeypatch):
    (stretch,) = note(tmp_path, records([TOO_LARGE]))
    glob = Path.glob

    def vanishing(self: Path, pattern: str) -> list[Path]:
        found = list(glob(self, pattern))
        stretch.path.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "glob", vanishing)
    assert noted_stretches(tmp_path, "mark") == []


def test_a_note_that_fails_leaves_no_draft(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        note(tmp_path, records([TOO_LARGE]))
    assert list(tmp_path.iterdir()) == []


def test_notes_of_other_drivers_and_those_that_are_not_whole_are_left_alone(tmp_path):
    (tmp_path / "mark.0123.draft").write_bytes(b"half")
    (tmp_path / "other.3.0.5.0.0.0.arrow").write_bytes(b"")
    assert noted_stretches(tmp_path, "mark") == []
