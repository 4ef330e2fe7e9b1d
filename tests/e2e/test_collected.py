"""Rows of a batch come into the driver's memory as they are, or not at all where they are too many."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import functions as F
from spark_batch import spark_session

from spark.collected import few_rows

pytestmark = pytest.mark.e2e
__all__ = ["spark_session"]

ALL_KINDS = """
    id AS `a.b`, cast(id AS int) AS small, id / 3 AS ratio, cast(id / 7 AS decimal(20, 6)) AS exact,
    concat('text ', id) AS words, cast(concat('bytes ', id) AS binary) AS raw, id % 2 = 0 AS even,
    timestamp_micros(id * 1000003) AS at, date_add(DATE '2026-01-01', cast(id AS int)) AS day,
    array(id, id + 1) AS both, map('k', id) AS named, named_struct('x', id, 'y', 'z') AS inner,
    id AS __number, 'a' AS __FITS,
    CASE WHEN id % 3 = 0 THEN 'here' END AS sometimes, cast(NULL AS string) AS never
"""


def rows(table: Any) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=lambda row: row["a.b"])


@pytest.mark.parametrize(("count", "partitions"), [(0, 1), (1, 3), (500, 4), (40, 1)])
def test_few_rows_are_those_of_the_frame(spark_session: Any, count: int, partitions: int) -> None:
    spark_session.range(0, count, 1, partitions).createOrReplaceTempView("numbers")
    frame = spark_session.sql(f"SELECT {ALL_KINDS} FROM numbers")
    found = few_rows(frame, rows=1_000, size=1 << 20)
    assert found is not None
    plain = frame.toArrow()
    assert found.schema.names == plain.schema.names
    assert found.schema.types == plain.schema.types
    assert rows(found) == rows(plain)


def test_a_partition_with_one_row_too_many_gives_none(spark_session: Any) -> None:
    shuffled = int(spark_session.conf.get("spark.sql.shuffle.partitions"))
    full = spark_session.range(0, 50, 1, 1).selectExpr("id")
    assert few_rows(full, rows=50 * shuffled, size=1 << 20) is not None
    assert few_rows(full, rows=49 * shuffled, size=1 << 20) is None


def test_one_long_text_gives_none_and_does_not_come_along(spark_session: Any) -> None:
    frame = spark_session.range(0, 10, 1, 2).select(
        "id", F.when(F.col("id") == 7, F.repeat(F.lit("x"), 100_000)).alias("text")
    )
    assert few_rows(frame, rows=100, size=1 << 16) is None
    assert few_rows(frame.where("id <> 7"), rows=100, size=1 << 16) is not None


def test_every_partition_is_computed_to_its_end(spark_session: Any) -> None:
    seen = spark_session.sparkContext.accumulator(0)

    def counted(rows: Any) -> Any:
        for row in rows:
            seen.add(1)
            yield row

    rdd = spark_session.range(0, 5_000, 1, 2).rdd.mapPartitions(counted)
    frame = rdd.toDF("id long")
    assert few_rows(frame, rows=10, size=1 << 20) is None
    assert seen.value == 5_000
