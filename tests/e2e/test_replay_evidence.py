"""What the driver of a replay looks up with Spark, without a broker."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from replay_world import contract
from spark_batch import spark_session

from headgate.replays.model import Replay
from headgate.replays.spans import MICROS, free_spans
from spark.evidence import merged
from spark.judged import event_times, note_judged

__all__ = ["spark_session"]

SECONDS = [-7, -6, 0, 1, 2, 5, 9, 10, 31, 31, 62, 63, 95, 200]
LIMITS = {"above": None, "closed": 300 * MICROS}


@pytest.mark.parametrize("length", [0, 1, 2, 3, 20, 31, 1000])
def test_seconds_are_put_together_only_where_no_row_fits_in_between(spark_session, length):
    rows = spark_session.createDataFrame([(n,) for n in (*SECONDS, None)], "second bigint")
    found = merged(rows, length * MICROS)
    each = [(second, second) for second in SECONDS]
    of = {**LIMITS, "length": length * MICROS}
    assert free_spans(found, **of) == free_spans(each, **of)
    gaps = [b - a - 1 for a, b in zip(sorted({*SECONDS}), sorted({*SECONDS})[1:], strict=False)]
    assert len(found) == 1 + sum(gap >= max(length, 1) for gap in gaps)


def test_no_seconds_are_no_pairs(spark_session):
    assert merged(spark_session.createDataFrame([], "second bigint"), MICROS) == []


QUARANTINE = (
    "topic string, partition int, offset long, timestamp timestamp, key binary, value binary, source string"
)
ARRIVED = datetime(2025, 10, 1, 1, tzinfo=UTC)


def test_event_times_are_read_from_the_bytes_in_both_quarantines(spark_session, tmp_path):
    frozen = contract(at={"zone": "Europe/Paris"}, beside="others")
    values = {
        20: {"at": "2025-10-01 02:00:00", "amount": "much"},
        21: {"at": "2025-10-01T00:00:01.5Z"},
        22: {"at": "never"},
        79: {"at": "2025-10-01 02:00:59"},
        80: {"at": "2025-10-01 02:01:00"},
        19: {"at": "2025-10-01 01:59:59"},
    }
    rows = [
        (topic, 0, offset, ARRIVED, None, bytearray(json.dumps(value).encode()), topic)
        for topic in ("orders", "others")
        for offset, value in values.items()
    ]
    rows.append(("orders", 0, 23, ARRIVED, None, bytearray(b"no JSON"), "orders"))
    tables = (tmp_path / "live", tmp_path / "side")
    for root, some in zip(tables, (rows, rows[:2]), strict=True):
        frame = spark_session.createDataFrame(some, QUARANTINE)
        frame.write.format("delta").save(str(root / "shop" / "_quarantine"))
    ranges = {"orders": {0: 20}, "others": {0: 79}}, {"orders": {0: 80}, "others": {0: 80}}
    replay = Replay("r1", "shop", frozen.hash, *ranges, {}, "", "", 1.0)
    start = int(datetime(2025, 10, 1, tzinfo=UTC).timestamp()) * MICROS
    for _ in range(2):
        note_judged(spark_session, tables, frozen, replay, tmp_path / "judged")
    found = spark_session.read.parquet(str(tmp_path / "judged")).collect()
    assert sorted((row["source"], row["offset"], row["at"]) for row in found if row["at"]) == [
        ("orders", 20, start),
        ("orders", 21, start + MICROS * 3 // 2),
        ("orders", 79, start + 59 * MICROS),
        ("others", 79, start + 59 * MICROS),
    ]
    assert {row["offset"] for row in found if row["at"] is None} == {22, 23}
    assert {(row["topic"], row["partition"]) for row in found} == {("orders", 0), ("others", 0)}


def test_a_source_without_an_event_time_has_none(spark_session):
    frozen = contract()
    bare = frozen.contract.sources["orders"].model_copy(update={"event_time": None})
    frozen.contract.sources["orders"] = bare
    row = ("orders", 0, 20, ARRIVED, None, bytearray(b"{}"), "orders")
    frame = spark_session.createDataFrame([row], QUARANTINE)
    replay = Replay("r1", "shop", "", {"orders": {0: 20}}, {"orders": {0: 80}}, {}, "", "", 1.0)
    assert [each["at"] for each in event_times(frame, frozen, "orders", replay).collect()] == [None]
