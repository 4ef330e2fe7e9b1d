"""Both lanes over the same records: every row, type, NULL, time, reason and count is the same."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from hostile_records import COLUMNS, CORPUS, EVENT_TIME
from spark_batch import ARRIVED, kafka_frame, spark_session
from two_lanes import Outcome, frozen_of, lane_context, run_batch, run_both

from headgate.checkpoints.owner import FencedError
from headgate.contract.frozen import FrozenContract
from headgate.contract.refusal import RuleFailedError
from headgate.errors import HeadgateError
from spark import arrow_lane
from spark.decode import raw_columns

pytestmark = pytest.mark.e2e
__all__ = ["spark_session"]

RULES = [
    {"name": "small", "expect": "n < 1000000 OR n IS NULL"},
    {"name": "ratio", "expect": "n IS NULL OR d IS NULL OR n / d < 1000"},
    {"name": "short", "expect": "s IS NULL OR length(s) BETWEEN 1 AND 100"},
    {"name": "known", "expect": "s IS NULL OR s NOT IN ('x', '1') AND NOT s LIKE '%}%'"},
    {"name": "next", "expect": "l + 1 > l"},
    {"name": "dated", "expect": "t > timestamp'2000-01-01 00:00:00'", "otherwise": "warn"},
    {"name": "yes", "expect": "b", "otherwise": "warn"},
]
NAMES = [column["name"] for column in COLUMNS]
KINDS = {column["name"]: column["type"] for column in COLUMNS}
OUTPUTS = {
    "all": {"sql": f"SELECT {', '.join(NAMES)}, _offset, _arrival FROM a", "to": [{"delta": "all_of"}]},
    "some": {
        "sql": "SELECT r.n + 1 AS n, coalesce(r.s, 'none') AS s, r.n % 2 = 0 AS even FROM a r WHERE r.n > 0",
        "to": [{"delta": "some_of"}],
    },
}
TYPES = {
    "all": {**KINDS, "_offset": "long", "_arrival": "timestamp"},
    "some": {"n": "int", "s": "string", "even": "boolean"},
}


def contract(**source: Any) -> FrozenContract:
    base = {"topic": "t", "columns": COLUMNS, "event_time": EVENT_TIME, "rules": RULES}
    return frozen_of({**base, **source}, OUTPUTS, TYPES)


def same(jvm: Outcome, arrow: Outcome) -> None:
    """All differences at once, by table."""
    assert jvm.types == arrow.types
    wrong = []
    for table, rows in jvm.rows.items():
        key = "offset" if table == "_quarantine" else "_offset" if table == "all" else None
        if key is None:
            wrong += [
                (table, *pair) for pair in zip(rows, arrow.rows[table], strict=False) if pair[0] != pair[1]
            ]
            continue
        one, two = ({row[key]: row for row in each} for each in (rows, arrow.rows[table]))
        wrong += [
            (table, one.get(at), two.get(at))
            for at in sorted({*one, *two})
            if repr(one.get(at)) != repr(two.get(at))
        ]
        assert len(one) == len(rows)
        assert len(two) == len(arrow.rows[table])
    shown = "\n".join(str(each)[:900] for each in wrong[:20])
    assert not wrong, f"{len(wrong)} differences\n{shown}"
    assert jvm.batch == replace(arrow.batch, rules=dict(sorted(arrow.batch.rules.items())))
    assert jvm == arrow


def records(count: int, every: int, bad: Sequence[bytes]) -> list[bytes | None]:
    return [
        bad[n // every % len(bad)]
        if every and n % every == every // 2
        else b'{"at": "2025-10-01 12:00:00", "l": %d, "n": %d, "s": "s%d", "d": %d.5}'
        % (n, n % 900, n % 90, n)
        for n in range(count)
    ]


# Surely broken; broken by a rule; and of which only Spark can say.
BAD = [
    b'{"at": "2025-10-01 12:00:00", "l": 1',
    b'{"at": "2025-10-01 12:00:00", "l": "x"}',
    b'{"at": "2025-10-01 12:00:00", "l": 1, "s": "x"}',
    b'{"at": "2025-10-01 12:00:00", "l": 1, "day": "2025-02-30"}',
    b'{"at": "2025-10-01 12:00", "l": 1, "s": 17}',
]


@pytest.mark.parametrize("every", [0, 10_000, 100, 10, 1])
def test_any_share_of_bad_records_comes_out_the_same(spark_session, tmp_path, every):
    jvm, arrow = run_both(spark_session, contract(), tmp_path, records(12_000, every, BAD), partitions=2)
    same(jvm, arrow)
    assert jvm.batch.read == 12_000
    assert arrow.example == jvm.example
    assert bool(arrow.example) == bool(arrow.batch.quarantined)
    assert not list((tmp_path / "arrow").glob("**/_doubtful/*.parquet"))


def test_a_topic_of_which_only_spark_can_say_is_told_so(spark_session, tmp_path):
    told: list[bool] = []
    lane = arrow_lane.ArrowLane(
        lane_context(contract(), tmp_path), lambda _: None, lambda doubts: told.append(doubts.most)
    )
    for batch, doubtful in enumerate([0, 2000, 500]):
        values = [*records(500, 0, BAD), *records(doubtful, 1, BAD[-1:])]
        spark_session.sparkContext.setLocalProperty("streaming.sql.batchId", str(batch))
        lane.commit(lane.frame(raw_columns(kafka_frame(spark_session, values, arrived=ARRIVED))), batch)
    assert told == [True]


def test_a_lane_goes_on_where_the_other_ended_and_a_batch_that_runs_again_is_the_same(
    spark_session, tmp_path
):
    context = lane_context(contract(), tmp_path)
    total = []
    for batch, lane in enumerate(["jvm", "arrow", "arrow", "jvm", "arrow"]):
        found = run_batch(spark_session, context, lane, records(300, 10, BAD), batch)
        writers = {context.sink(name, "records").noted_writer for name in ("all", "some")}
        # A table that no lane has changed yet notes nothing.
        assert writers == {None if batch == 0 else {"arrow": "deltalake", "jvm": "delta-spark"}[lane]}
        files = sorted((tmp_path / "example").glob("*/*.parquet"))
        for again in ("arrow", "jvm"):
            repeated = run_batch(spark_session, context, again, records(300, 10, BAD), batch)
            assert repeated == found
            wanted = {"arrow": "deltalake", "jvm": "delta-spark"}[again]
            assert context.sink("all", "records").noted_writer == wanted
        # What the repetition wrote, no commit names, and it is gone again.
        assert sorted((tmp_path / "example").glob("*/*.parquet")) == files
        total.append(found)
    assert [len(each.rows["all"]) for each in total] == [len(total[0].rows["all"]) * n for n in range(1, 6)]
    assert {row["batch_id"] for row in total[-1].rows["_quarantine"]} == set(range(5))


def test_a_rule_of_fail_stops_the_batch_before_anything_is_committed_and_leaves_no_file(
    spark_session, tmp_path
):
    rules = [*RULES, {"name": "never", "expect": "n <> 666 OR n IS NULL", "otherwise": "fail"}]
    frozen = contract(rules=rules)
    context = lane_context(frozen, tmp_path)
    values = [*records(50, 10, BAD), b'{"at": "2025-10-01 12:00:00", "l": 1, "n": 666}']
    with pytest.raises(RuleFailedError, match="never"):
        run_batch(spark_session, context, "arrow", values)
    assert not list((tmp_path / "example").glob("*/*.parquet"))
    same(*run_both(spark_session, frozen, tmp_path / "both", records(50, 10, BAD)))


def test_rows_that_are_lost_on_the_way_to_the_driver_stop_the_batch_before_anything_is_committed(
    spark_session, tmp_path, monkeypatch
):
    whole = arrow_lane.reported

    def losing(rows: Any) -> Any:
        found = whole(rows)
        found.outputs["all"].pop()
        return found

    monkeypatch.setattr(arrow_lane, "reported", losing)
    context = lane_context(contract(), tmp_path)
    with pytest.raises(HeadgateError, match="counted for the output all, 1 written"):
        run_batch(spark_session, context, "arrow", records(50, 10, BAD))
    assert not any(context.sink(name, "records").has(0) for name in ("all", "some"))
    assert not context.quarantine_sink("a").has(0)


@pytest.mark.parametrize("number", range(1, 13))
def test_a_driver_that_was_replaced_writes_nothing_after_its_next_look(spark_session, tmp_path, number):
    context = lane_context(contract(), tmp_path)
    sinks = [context.sink("all", "records"), context.sink("some", "records"), context.quarantine_sink("a")]
    seen: list[int] = []

    def commits() -> int:
        versions = [DeltaTable(sink.path).version() for sink in sinks]
        return sum(versions) + Path(context.books).exists()

    def replaced() -> None:
        seen.append(commits())
        if len(seen) == number:
            raise FencedError("a newer epoch")

    context.before_write = replaced
    with pytest.raises(FencedError):
        run_batch(spark_session, context, "arrow", records(50, 10, BAD))
    # Between two looks there is one write at most, and after the last one none.
    assert max(after - before for before, after in pairwise([0, *seen])) <= 1
    assert commits() == seen[-1]


def test_the_hostile_corpus_comes_out_the_same(spark_session, tmp_path):
    jvm, arrow = run_both(spark_session, contract(), tmp_path, CORPUS)
    same(jvm, arrow)
    assert jvm.batch.read == len(CORPUS)
    assert jvm.batch.good > 500
    assert jvm.batch.quarantined > 500
    for table in ("all_of", "some_of"):
        one, two = (
            spark_session.read.format("delta").load(str(tmp_path / lane / "example" / table))
            for lane in ("jvm", "arrow")
        )
        assert one.schema == two.schema
        assert one.exceptAll(two).isEmpty()
        assert two.exceptAll(one).isEmpty()


def test_the_corpus_in_any_order_and_among_good_records_comes_out_the_same(spark_session, tmp_path):
    good = [b'{"at": "2025-10-01 12:00:00", "l": %d, "s": "ok", "n": %d}' % (n, n) for n in range(4000)]
    mixed = [*good, *CORPUS]
    random.Random(5).shuffle(mixed)
    same(*run_both(spark_session, contract(), tmp_path, mixed))


def test_records_of_a_pipeline_that_has_windows_alone_are_screened_and_counted_the_same(
    spark_session, tmp_path
):
    source = {"topic": "t", "columns": COLUMNS, "event_time": EVENT_TIME, "rules": RULES}
    per_minute = "SELECT window.start AS minute, count(*) AS records FROM a GROUP BY window(at, '1 minute')"
    frozen = frozen_of(
        source,
        {"per_minute": {"sql": per_minute, "to": [{"delta": "per_minute"}]}},
        {"per_minute": {"minute": "timestamp", "records": "long"}},
        stateful=True,
    )
    jvm, arrow = run_both(spark_session, frozen, tmp_path, [*CORPUS[::2], *records(500, 10, BAD)])
    same(jvm, arrow)
    assert list(arrow.rows) == ["_quarantine"]
    assert min(arrow.batch.good, arrow.batch.quarantined) > 100


def test_an_event_time_by_arrival_and_required_columns_come_out_the_same(spark_session, tmp_path):
    required = [{**column, "required": True} for column in COLUMNS]
    frozen = contract(columns=required, event_time={"arrival": True})
    same(*run_both(spark_session, frozen, tmp_path, CORPUS[::3]))
