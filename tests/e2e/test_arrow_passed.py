"""The good records of a stateful output in the Arrow lane are those of the JVM lane: every row and type, and
what Spark computes from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from contract_examples import contract_of
from hostile_records import COLUMNS, CORPUS, EVENT_TIME
from pyspark.sql import functions as F
from spark_batch import kafka_frame, spark_session
from two_lanes import frozen_of, lane_context

from headgate.arrow.passed import passed_plan, read_sources, unsupported_reason
from headgate.arrow.stretches import Stretch, cover, noted_stretches
from headgate.contract.compile import source_columns
from headgate.contract.frozen import FrozenContract, ResolvedOutput, freeze, with_lane
from headgate.contract.refusal import refusals
from spark.arrow_lane import ArrowLane
from spark.decode import raw_columns
from spark.failure import failure_of
from spark.passed import good_in_arrow
from spark.screen import screen
from spark.stateful import output_frame, with_watermark

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.e2e
__all__ = ["spark_session"]

RULES = [
    {"name": "small", "expect": "n < 1000000 OR n IS NULL"},
    {"name": "known", "expect": "s IS NULL OR s <> 'x'"},
    {"name": "never", "expect": "n <> 66 OR n IS NULL", "otherwise": "fail"},
    {"name": "dated", "expect": "t > timestamp'2000-01-01 00:00:00'", "otherwise": "warn"},
]
LATER = 1_900_000_000_000_000  # the time of the record query's first batch, in microseconds
EVERY = "SELECT * FROM a"
# Whatever Spark can compute over a stream: the lane has no part in it.
QUERIES = [
    "SELECT window.start AS w, s, count(*) AS c, avg(d) AS a, stddev(d) AS e, min(d) AS low, max(d) AS h "
    "FROM a GROUP BY window(at, '10 seconds'), s",
    "SELECT window.end AS w, n, b, sum(l) AS c, sum(f) AS f, count(day) AS e, min(s) AS l, max(ms) AS h "
    "FROM a WHERE n > 0 OR at > timestamp'2025-10-01 12:00:30' "
    "GROUP BY window(at, '1 minute', '20 seconds'), n, b",
    "SELECT window.start AS w, count(DISTINCT s) AS c, collect_list(n) AS n, percentile(d, 0.5) AS p "
    "FROM a GROUP BY window(at, '7 seconds', '7 seconds', '2 seconds') HAVING count(*) > 1",
    "SELECT session_window.start AS w, n, max(_offset) AS o, max(_arrival) AS r, min(_topic) AS topic "
    "FROM a GROUP BY session_window(at, '5 seconds'), n",
    "SELECT w, sum(c) AS c, first(c) AS f "
    "FROM (SELECT window.start AS w, n, count(*) AS c FROM a GROUP BY window(at, '1 second'), n) GROUP BY w",
    "SELECT DISTINCT n, d, at FROM a",
]


def frozen(sql: str, **source: Any) -> FrozenContract:
    base = {"topic": "t", "columns": COLUMNS, "event_time": EVENT_TIME, "rules": RULES}
    outputs = {"o": {"sql": sql, "to": [{"redis": "o"}], "lane": "arrow"}}
    return frozen_of({**base, **source}, outputs, {"o": {}}, stateful=True)


def spread(count: int) -> list[bytes]:
    """Records over some minutes, of which some are bad, and of some only Spark can say."""
    values = []
    for n in range(count):
        at = f"2025-10-01 12:{n // 60 % 5:02}:{n * 7 % 60:02}"
        if n % 31 == 0:
            at = at[:-3] if n % 2 else "soon"
        number = "-0" if n % 13 == 0 else f"{n % 50}.5"
        record = f'{{"at": "{at}", "l": {n}, "n": {n % 62}, "d": {number}, "f": {n % 7}, "s": "s{n % 4}"}}'
        values.append(record.encode()[: -1 if n % 97 == 0 else None])
    return values


def both(
    spark: SparkSession, contract: FrozenContract, values: Sequence[bytes | None]
) -> tuple[DataFrame, DataFrame]:
    def raw() -> DataFrame:
        return raw_columns(kafka_frame(spark, values).coalesce(2))

    return screen(raw(), contract.contract, "a").good(), good_in_arrow(raw(), contract, "o", "a")


def sorted_rows(frame: DataFrame) -> list[str]:
    # Through Arrow: rows of Python would take times into this process' zone.
    return sorted(repr(row) for row in frame.toArrow().to_pylist())


def test_every_record_of_the_hostile_corpus_is_good_in_both_lanes_or_in_none(spark_session):
    values = [*CORPUS, *spread(500)]
    jvm, arrow = both(spark_session, frozen(EVERY), values)
    assert jvm.columns == source_columns(frozen(EVERY).contract.sources["a"])
    assert jvm.schema == arrow.schema
    one, two = ({row["_offset"]: row for row in frame.toArrow().to_pylist()} for frame in (jvm, arrow))
    wrong = [
        (values[at], one.get(at), two.get(at))
        for at in {*one, *two}
        if repr(one.get(at)) != repr(two.get(at))
    ]
    assert not wrong, "\n".join(map(str, wrong[:20]))
    assert len(one) == jvm.count() > 300
    assert sorted_rows(jvm) == sorted_rows(arrow)


@pytest.mark.parametrize("sql", QUERIES)
def test_what_spark_computes_from_either_is_the_same(spark_session, sql):
    contract = frozen(sql)
    found = []
    for good in both(spark_session, contract, spread(3000)):
        timed = with_watermark(good, contract.contract.sources["a"])
        frame = output_frame(spark_session, contract.contract, "o", {"a": timed})
        found.append((frame.schema, sorted_rows(frame)))
    (jvm_schema, jvm), (arrow_schema, arrow) = found
    assert jvm_schema == arrow_schema
    assert jvm == arrow
    assert len(jvm) > 5


def test_a_join_reads_each_of_its_sources_in_arrow(spark_session):
    base = {"columns": COLUMNS, "event_time": EVENT_TIME}
    sql = "SELECT a.at, a.l, b.s AS other, b.d FROM a JOIN b ON a.n = b.n AND a.s <> b.s WHERE a.l % 7 = 0"
    model = contract_of(
        {"a": {**base, "topic": "t", "rules": RULES}, "b": {**base, "topic": "u"}},
        {"o": {"sql": sql, "to": [{"redis": "o"}], "lane": "arrow"}},
    )
    outputs = {"o": ResolvedOutput(True, {"type": "struct", "fields": []})}
    topics = {"a": "t", "b": "u"}
    contract = freeze(model, topics=topics, replication=1, outputs=outputs, env="local", headgate_version="0")
    assert read_sources(contract, "o") == ["a", "b"]
    assert unsupported_reason(contract, "o") is None

    def raw() -> DataFrame:
        return raw_columns(kafka_frame(spark_session, spread(400)))

    jvm = {name: screen(raw(), model, name).good() for name in topics}
    arrow = {name: good_in_arrow(raw(), contract, "o", name) for name in topics}
    one, two = (output_frame(spark_session, model, "o", frames) for frames in (jvm, arrow))
    assert one.schema == two.schema
    assert sorted_rows(one) == sorted_rows(two)
    assert one.count() > 50


def test_a_task_passes_on_no_more_columns_than_the_query_names():
    def names(sql: str) -> list[str]:
        return list(passed_plan(frozen(sql), "o", "a").columns)

    assert names(QUERIES[0]) == ["at", "d", "s"]
    assert names(QUERIES[3]) == ["at", "n", "_topic", "_offset", "_arrival"]


def test_a_batch_without_records_and_one_without_good_ones_are_empty_in_both_lanes(spark_session):
    for values in ([], [b"{", None, b'{"at": "soon"}']):
        jvm, arrow = both(spark_session, frozen(QUERIES[0]), values)
        assert jvm.count() == arrow.count() == 0


@pytest.mark.parametrize("lane", ["jvm", "arrow"])
@pytest.mark.parametrize("double", ["1.5", "-0"], ids=["sure", "left to Spark"])
def test_a_record_that_breaks_a_rule_of_fail_ends_the_query_with_its_place(spark_session, lane, double):
    """What a query that reads on its own leaves out, and commits, no later contract brings back."""
    breaking = f'{{"at": "2025-10-01 12:00:00", "l": 1, "n": 66, "d": {double}}}'.encode()
    contract = frozen(QUERIES[0])
    raw = raw_columns(kafka_frame(spark_session, [*spread(40), breaking]))
    if lane == "jvm":
        good = screen(raw, contract.contract, "a").good(refusals(contract.contract, "a", "t"))
    else:
        good = good_in_arrow(raw, contract, "o", "a")
    with pytest.raises(Exception, match="never") as raised:
        output_frame(spark_session, contract.contract, "o", {"a": good}).toArrow()
    failure = failure_of(raised.value)
    assert (failure.failure_class, failure.condition) == ("deterministic", "RuleFailedError")
    told = "a record of source a broke the rule never: topic t, partition 0, offset 40\n"
    assert failure.message.startswith(f"{told}  expected: n <> 66 OR n IS NULL")


class Noted:
    """What tasks have noted, for batches of the record query of the first and of the other half."""

    waited = False

    def __init__(self, folder: Path, cut: int, end: int) -> None:
        self._folder, self._ranges = folder, {0: (0, cut), 1: (cut, end)}

    def parts(self, batch_id: int) -> Sequence[Stretch]:
        stretches = noted_stretches(self._folder, "mark")
        found = cover(stretches, {0: self._ranges[batch_id]}, self.now(batch_id))
        assert not found.gaps
        return found.parts

    def now(self, batch_id: int) -> int:
        return LATER + batch_id


@pytest.mark.parametrize("cut", [1, 500])
def test_what_the_tasks_of_windows_note_is_what_the_record_query_finds_itself(spark_session, tmp_path, cut):
    values = spread(1200)
    contract = with_lane(frozen(QUERIES[0], rules=RULES), "arrow")
    raw = raw_columns(kafka_frame(spark_session, values))
    (tmp_path / "notes").mkdir()
    good_in_arrow(raw, contract, "o", "a", notes=(str(tmp_path / "notes"), "mark")).count()

    alone, shared = (lane_context(contract, tmp_path / name) for name in ("alone", "shared"))
    noted: Any = Noted(tmp_path / "notes", cut, len(values))
    found = []
    for batch, (first, behind) in enumerate([(0, cut), (cut, len(values))]):
        part = raw.where(F.col("_offset").between(first, behind - 1))
        own, other = [], []
        spark_session.sparkContext.setLocalProperty("streaming.sql.batchId", str(batch))
        lane = ArrowLane(alone, own.append)
        lane.commit(lane.frame(part), batch)
        never = part.mapInArrow(_refuse, part.schema)
        ArrowLane(shared, other.append, shared=noted).commit(never, batch)
        found.append((own[0].batch, other[0].batch))
    for mine, theirs in found:
        assert mine == replace(theirs, rules=mine.rules)
        assert dict(mine.rules) == dict(theirs.rules)
    tables = [
        spark_session.read.format("delta").load(str(context.quarantine_sink("a").path)).orderBy("offset")
        for context in (alone, shared)
    ]
    own_rows, other_rows = (table.toArrow().to_pylist() for table in tables)
    assert [without_now(row) for row in own_rows] == [without_now(row) for row in other_rows]
    assert len(own_rows) == sum(mine.quarantined for mine, _ in found) > 20
    assert sum(mine.warned for mine, _ in found) > 20
    told = {round(row["quarantined_at"].timestamp() * 1_000_000) for row in other_rows}
    assert told == {LATER, LATER + 1}, "the time of its own batch"


def _refuse(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    raise AssertionError("the tasks of the record query ran")
    yield from batches


def without_now(row: dict[str, Any]) -> dict[str, Any]:
    """Each plan of a batch has a time of its own here; in a stream it is the query's."""
    return {name: value for name, value in row.items() if name != "quarantined_at"}
