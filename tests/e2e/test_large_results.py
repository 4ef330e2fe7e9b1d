"""Results of a stateful batch that are too large to collect: by Spark's own writes, and once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field
from pyspark.sql import functions as F
from spark_batch import spark_session

from serving.results import ResultRow
from spark import rows, window
from spark.delta import DeltaSink
from spark.window import KeyNotUniqueError, StatefulQuery

pytestmark = pytest.mark.e2e
__all__ = ["spark_session"]

SCHEMA = pa.schema([("at", pa.timestamp("us", tz="UTC")), ("shop", pa.string()), ("orders", pa.int64())])
BOUND, SERVED = 5, 3


class Context:
    """What a stateful query needs of its driver."""

    def __init__(self, table: Path, mode: str) -> None:
        self.path = table
        self.published: list[tuple[int, Sequence[ResultRow]]] = []
        key = ("at", "shop") if mode == "update" else ()
        to = [SimpleNamespace(delta="t", redis=None, partition_by=()), SimpleNamespace(delta=None, redis="k")]
        output = SimpleNamespace(mode=mode, key=key, to=to)
        self.frozen = SimpleNamespace(
            contract=SimpleNamespace(outputs={"o": output}),
            outputs={"o": SimpleNamespace(event_time="at")},
        )

    def sink(self, output: str, query: str) -> DeltaSink:
        return DeltaSink(self.path, f"{query}/{output}")

    def before_batch(self) -> None: ...

    def before_write(self) -> None: ...

    def publish(self, _output: str, found: Sequence[ResultRow], batch_id: int, _watermark: object) -> None:
        self.published.append((batch_id, found))

    def query(self) -> StatefulQuery:
        return StatefulQuery(self, "o", lambda _batch: None)  # type: ignore[arg-type]

    def content(self) -> dict[tuple[int, str], int]:
        found = DeltaTable(str(self.path)).to_pyarrow_table().to_pylist()
        content = {(int(row["at"].timestamp()), row["shop"]): row["orders"] for row in found}
        assert len(content) == len(found), "a key is in the table twice"
        return content


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "COLLECT_ROWS", BOUND)
    monkeypatch.setattr(rows, "REDIS_ROWS", SERVED)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    DeltaTable.create(str(tmp_path / "t"), schema=SCHEMA)
    return tmp_path / "t"


def frame(session: Any, values: Sequence[tuple[int | None, str, int]]) -> Any:
    read = session.createDataFrame(list(values), "at long, shop string, orders long")
    return read.selectExpr("timestamp_seconds(at) AS at", "shop", "orders")


def many(first: int, orders: int, count: int = 8) -> list[tuple[int | None, str, int]]:
    return [(first + n, "north", orders) for n in range(count)]


def test_a_large_upsert_replaces_by_key_and_the_newest_event_times_are_served(spark_session, table):
    context = Context(table, "update")
    query = context.query()
    query(frame(spark_session, many(0, 1, count=3)), 0)  # small: through the driver
    DeltaTable(str(table)).alter.add_columns([Field("note", "string")])  # `apply` of a newer contract
    query(frame(spark_session, many(0, 2)), 1)
    query(frame(spark_session, [*many(4, 3), (None, "north", 3)]), 2)
    expected = {(n, "north"): 2 for n in range(4)} | {(n, "north"): 3 for n in range(4, 12)}
    found = DeltaTable(str(table)).to_pyarrow_table().to_pylist()
    assert {row["orders"] for row in found if row["at"] is None} == {3}
    assert {(int(r["at"].timestamp()), r["shop"]): r["orders"] for r in found if r["at"]} == expected
    assert len(found) == 13
    served = [(batch, [row.body["at"][-3:-1] for row in found]) for batch, found in context.published]
    assert served == [(0, ["00", "01", "02"]), (1, ["07", "06", "05"]), (2, ["11", "10", "09"])]
    # Again, as after a lost commit: the table has it, Redis is told again.
    version = DeltaTable(str(table)).version()
    query(frame(spark_session, many(4, 3)), 2)
    assert DeltaTable(str(table)).version() == version
    assert len(context.published) == 4


def test_a_large_result_with_a_key_that_is_not_unique_is_refused(spark_session, table):
    with pytest.raises(KeyNotUniqueError, match="16 rows and 8 different"):
        Context(table, "update").query()(frame(spark_session, many(0, 1) * 2), 0)
    assert DeltaTable(str(table)).version() == 0


def test_a_window_that_closes_with_many_keys_is_appended_and_its_state_is_drained_once(
    spark_session, table, tmp_path
):
    source = tmp_path / "in"
    source.mkdir()
    for number, at in enumerate((10, 20, 100)):
        lines = [json.dumps({"at": at, "shop": f"shop {n}"}) for n in range(20 if at < 100 else 1)]
        (source / f"{number}.json").write_text("\n".join(lines))
    context = Context(table, "append")
    query = context.query()
    reader = spark_session.readStream.name("readings").schema("at long, shop string")
    read = reader.option("maxFilesPerTrigger", 1).json(str(source))
    windows = (
        read.selectExpr("timestamp_seconds(at) AS moment", "shop")
        .withWatermark("moment", "1 second")
        .groupBy(F.window("moment", "1 minute"), "shop")
        .count()
        .selectExpr("window.start AS at", "shop", "count AS orders")
    )
    running = (
        windows.writeStream.foreachBatch(query)
        .outputMode("append")
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(availableNow=True)
        .start()
    )
    assert running.awaitTermination(300)
    assert running.exception() is None
    assert context.content() == {(0, f"shop {n}"): 2 for n in range(20)}
    large = [found for _, found in context.published if found]
    assert [len(found) for found in large] == [SERVED]
    removed = sum(op["numRowsRemoved"] for p in running.recentProgress for op in p["stateOperators"])
    assert removed == 20
