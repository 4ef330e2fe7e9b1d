"""The quarantine of a batch: what was bad, with its original bytes and its reasons.

The few bad records of a healthy stream come along with the counts, in the pass that writes the good
ones. Where there are more, or large ones, the batch is read again for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyspark.sql import Observation
from pyspark.sql import functions as F

from headgate.checkpoints.layout import RECORDS
from headgate.contract.refusal import RecordPlace
from headgate.errors import HeadgateError
from headgate.failpoints import hit
from spark.context import DriverContext
from spark.delta import DeltaSink
from spark.screen import Screened

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column

__all__ = ["BAD", "BAD_BYTES", "Counted", "Quarantine", "batch_values", "carried", "example", "record_bytes"]

BAD, BAD_BYTES = "_bad", "_bad_bytes"
# What counting carries along at most: every task holds so many rows of so many bytes.
CARRIED_ROWS = 2_000
CARRIED_BYTES = 4_096
# Up to here the bad records of a batch go through the driver, whose commit takes 20 ms; more than that are
# written by Spark. Records of up to a megabyte must fit, so bytes are bounded too.
COLLECT_ROWS = 20_000
COLLECT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Counted:
    """What one pass over a source's records has counted, and the bad records that came along. `refused`: by
    rule that stops the stream, the first record that breaks it."""

    numbers: Mapping[str, int]
    carried: Sequence[Any]
    refused: Mapping[str, RecordPlace] = field(default_factory=dict)


def carried(one: Screened) -> Column:
    """An aggregate that brings bad records along: as many as there are, or only some of them."""
    record = F.struct(
        "_topic",
        "_partition",
        "_offset",
        # As numbers: Python would turn moments into its own zone.
        F.unix_micros("_arrival").alias("arrival"),
        F.unix_micros("_now").alias("now"),
        "_key",
        "_value",
        F.array(*one.words).alias("words"),
    )
    comes = one.bad & (record_bytes() <= CARRIED_BYTES)
    # Not even made of a good record, of which there are thousands for each bad one.
    record = F.when(comes, record)
    return F.call_function("max_by", record, F.when(comes, F.col("_offset")), F.lit(CARRIED_ROWS))


def record_bytes() -> Column:
    """Of a record's key and value, as they came."""
    return F.coalesce(F.octet_length("_key"), F.lit(0)) + F.coalesce(F.octet_length("_value"), F.lit(0))


def example(counts: Counted) -> str:
    """Where one of the bad records that came along stands; empty where none did."""
    if not counts.carried:
        return ""
    row = counts.carried[0]
    return f"topic {row['_topic']}, partition {row['_partition']}, offset {row['_offset']}"


def _by_reason(reasons: pa.ChunkedArray) -> Mapping[str, int]:
    return Counter(name for names in reasons.to_pylist() for name in names)


def _counters(reasons: Column, one: Screened) -> list[Column]:
    return [F.count_if(F.array_contains(reasons, F.lit(name))).alias(name) for name, _ in one.quarantine]


def _again(one: Screened, counts: Counted) -> Mapping[str, int]:
    """The same, of a batch whose quarantine was written before it was lost."""
    if len(counts.carried) == counts.numbers[BAD]:
        return Counter(name for row in counts.carried for name in one.reasons_of(row["words"]))
    columns = [F.count_if(condition).alias(name) for name, condition in one.quarantine]
    found: dict[str, int] = one.frame.agg(*columns).collect()[0].asDict()
    return found


class Quarantine:
    """Writes bad records to the pipeline's table, under a transaction id for each source."""

    def __init__(self, context: DriverContext) -> None:
        self._context = context

    def write(self, one: Screened, source: str, counts: Counted, batch_id: int) -> Mapping[str, int]:
        """Write them, once; how many there are for each reason."""
        sink = self._context.quarantine_sink(source)
        if sink.has(batch_id):
            return _again(one, counts)
        broken = self._append(sink, one, source, counts, batch_id)
        hit("records.after_quarantine")
        self._context.before_write()
        sink.upkeep(batch_id, behind=self._context.caps.behind(RECORDS))
        return broken

    def _append(
        self, sink: DeltaSink, one: Screened, source: str, counts: Counted, batch_id: int
    ) -> Mapping[str, int]:
        number = counts.numbers[BAD]
        if len(counts.carried) == number:
            rows = self._rows(one, source, counts.carried, batch_id)
            self._before_write()
            sink.append_rows(rows, batch_id)
            return _by_reason(rows["rules"])
        frame = one.frame.where(one.bad).select(*self._columns(one, source, batch_id))
        if number <= COLLECT_ROWS and counts.numbers[BAD_BYTES] <= COLLECT_BYTES:
            rows = frame.toArrow()
            if rows.num_rows != number:
                raise HeadgateError(
                    f"batch {batch_id}: {number} bad records counted, {rows.num_rows} read back"
                )
            self._before_write()
            sink.append_rows(rows, batch_id)
            return _by_reason(rows["rules"])
        seen = Observation(f"{sink.transaction}-{batch_id}")
        self._before_write()
        sink.append_frame(frame.observe(seen, *_counters(frame["rules"], one)), batch_id)
        found: dict[str, int] = seen.get
        return found

    def _before_write(self) -> None:
        self._context.before_write()
        hit("records.before_quarantine")

    def _columns(self, one: Screened, source: str, batch_id: int) -> list[Column]:
        reasons = one.reasons()
        own: dict[str, Column] = {
            "topic": F.col("_topic"),
            "partition": F.col("_partition"),
            "offset": F.col("_offset"),
            "timestamp": F.col("_arrival"),
            "key": F.col("_key"),
            "value": F.col("_value"),
            "source": F.lit(source),
            "stage": F.when(F.array_contains(reasons, F.lit("_parse")), "parse").otherwise("rule"),
            "rules": reasons,
        }
        for name, (value, kind) in batch_values(self._context, batch_id).items():
            own[name] = F.lit(value).cast(kind)
        own["quarantined_at"] = F.col("_now")
        return [column.alias(name) for name, column in own.items()]

    def _rows(self, one: Screened, source: str, carried: Sequence[Any], batch_id: int) -> pa.Table:
        import pyarrow as pa

        reasons = [one.reasons_of(row["words"]) for row in carried]
        moment = pa.timestamp("us", tz="UTC")
        own: dict[str, pa.Array] = {
            "topic": pa.array([row["_topic"] for row in carried], pa.string()),
            "partition": pa.array([row["_partition"] for row in carried], pa.int32()),
            "offset": pa.array([row["_offset"] for row in carried], pa.int64()),
            "timestamp": pa.array([row["arrival"] for row in carried], moment),
            "key": pa.array([row["_key"] for row in carried], pa.binary()),
            "value": pa.array([row["_value"] for row in carried], pa.binary()),
            "source": pa.array([source] * len(carried), pa.string()),
            "stage": pa.array(["parse" if "_parse" in names else "rule" for names in reasons], pa.string()),
            "rules": pa.array(reasons, pa.list_(pa.string())),
        }
        types = {"int": pa.int32(), "bigint": pa.int64(), "string": pa.string()}
        for name, (value, kind) in batch_values(self._context, batch_id).items():
            own[name] = pa.array([value] * len(carried), types[kind])
        own["quarantined_at"] = pa.array([row["now"] for row in carried], moment)
        return pa.table(own)


def batch_values(context: DriverContext, batch_id: int) -> dict[str, tuple[Any, str]]:
    """What all records of a batch share in the quarantine: value and type."""
    frozen = context.frozen
    return {
        "contract_version": (frozen.contract.version, "int"),
        "contract_hash": (frozen.hash, "string"),
        "generation": (context.generation, "bigint"),
        "epoch": (context.epoch, "bigint"),
        "batch_id": (batch_id, "bigint"),
        "lineage": (context.lineage.id, "string"),
    }
