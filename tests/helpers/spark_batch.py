"""The driver's own session for tests that need Spark and no broker, and records as Kafka hands them over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headgate.contract.model import Contract, Job
from headgate.settings import Settings, load_settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["ARRIVED", "Judged", "judge", "kafka_frame", "spark_session"]

CHECKOUT = Path(__file__).resolve().parents[2]
ARRIVED = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def spark_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    from spark.session import build_session

    state = tmp_path_factory.mktemp("spark")
    environ = {
        "HEADGATE_HOME": str(CHECKOUT),
        "HEADGATE_ROOTS_STATE": str(state),
        "HEADGATE_SPARK_UI": "false",
    }
    settings: Settings = load_settings(environ=environ)[0]
    session = build_session(settings, Job(cores=1, memory="1g"), "headgate tests")
    yield session
    session.stop()


@dataclass(frozen=True)
class Judged:
    """What screening made of one record."""

    value: bytes | None
    good: bool
    reasons: tuple[str, ...]
    warned: tuple[str, ...]
    failing: tuple[str, ...]
    row: Mapping[str, Any]


def kafka_frame(
    spark: SparkSession, values: Sequence[bytes | None], *, arrived: datetime = ARRIVED
) -> DataFrame:
    """Records in the columns of Kafka's source; the offset is the place in `values`."""
    schema = "key binary, value binary, topic string, partition int, offset long, timestamp timestamp"
    rows = [
        (b"k", None if value is None else bytearray(value), "t", 0, number, arrived)
        for number, value in enumerate(values)
    ]
    return spark.createDataFrame(rows, schema)


def judge(
    spark: SparkSession,
    contract: Contract,
    source: str,
    values: Sequence[bytes | None],
    *,
    arrived: datetime = ARRIVED,
) -> list[Judged]:
    """Screen records of one source, and check that each came out once, with the bytes that it came with."""
    from pyspark.sql import functions as F

    from spark.decode import raw_columns
    from spark.screen import screen

    screened = screen(raw_columns(kafka_frame(spark, values, arrived=arrived)), contract, source)
    named = {
        "_warned": F.array_compact(F.array(*(F.when(c, F.lit(n)) for n, c in screened.warn))),
        "_failing": F.array_compact(F.array(*(F.when(c, F.lit(n)) for n, c in screened.fail))),
        "_reasons": screened.reasons(),
        "_bad": screened.bad,
    }
    frame = screened.frame.select("*", *(column.alias(name) for name, column in named.items())).cache()
    try:
        rows = sorted(frame.collect(), key=lambda row: int(row["_offset"]))
        good = {row["_offset"] for row in screened.good().select("_offset").collect()}
    finally:
        frame.unpersist()
    assert [row["_offset"] for row in rows] == list(range(len(values)))
    assert [None if r["_value"] is None else bytes(r["_value"]) for r in rows] == list(values)
    assert good == {row["_offset"] for row in rows if not row["_bad"] and not row["_failing"]}
    assert all(bool(row["_reasons"]) == row["_bad"] for row in rows)
    return [
        Judged(
            value=values[row["_offset"]],
            good=row["_offset"] in good,
            reasons=tuple(row["_reasons"]),
            warned=tuple(row["_warned"] or ()),
            failing=tuple(row["_failing"] or ()),
            row={name: _plain(row[name]) for name in screened.columns},
        )
        for row in rows
    ]


def _plain(value: Any) -> Any:
    """Collected times are naive in this process' own zone."""
    return value.astimezone(UTC) if isinstance(value, datetime) else value
