"""Records of which the Arrow lane cannot be sure: they are judged by the JVM lane's own code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import functions as F

from headgate.arrow.screen import BAD, GOOD, RAW, READ, WARNED
from headgate.contract.refusal import RecordPlace
from spark.screen import Screened, screen
from spark.stateful import output_frame

if TYPE_CHECKING:
    from pyspark.sql import Column, SparkSession

    from headgate.contract.frozen import FrozenContract
    from headgate.formats.decoder import Writers

__all__ = ["Settled", "settle"]


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of doubtful records: counts, rows by output, and the bad ones with their `reasons`."""

    counts: Counter[str]
    good: Mapping[str, pa.Table]
    bad: pa.Table
    refused: Mapping[str, RecordPlace]  # the first record that breaks each of these rules


def settle(
    spark: SparkSession,
    frozen: FrozenContract,
    source: str,
    records: pa.Table,
    writers: Writers | None = None,
) -> Settled:
    """`records` has the columns of RAW and fits in memory: so does what becomes of it. `writers` are those of
    `spark.screen`."""
    topics = pa.repeat(pa.scalar(frozen.topics[source]), records.num_rows)
    frame = spark.createDataFrame(records.append_column("_topic", topics))
    one = screen(frame, frozen.contract, source, writers)
    judged = one.frame.select(*RAW.names, *(column.alias(name) for name, column in _verdict(one).items()))
    rows: pa.Table = judged.toArrow()
    counts = Counter({READ: rows.num_rows})
    for name, column in {GOOD: "passed", BAD: "bad", WARNED: "warned", **_numbered(one)}.items():
        counts[name] = pc.sum(rows.column(column)).as_py() or 0
    good = {}
    if counts[GOOD]:
        for output in frozen.record_outputs:
            good[output] = output_frame(spark, frozen.contract, output, {source: one.good()}).toArrow()
    bad = rows.filter(rows.column("bad")).select([*RAW.names, "reasons"])
    return Settled(counts, good, bad, _refused(one, rows))


def _refused(one: Screened, rows: pa.Table) -> dict[str, RecordPlace]:
    columns = _numbered(one)
    found = {name: rows.filter(rows.column(columns[name])) for name, _ in one.fail}
    return {name: min(_places(broken)) for name, broken in found.items() if broken.num_rows}


def _places(rows: pa.Table) -> list[RecordPlace]:
    numbers = (rows.column(name).to_pylist() for name in ("_partition", "_offset"))
    return [RecordPlace(*place) for place in zip(*numbers, strict=True)]


def _verdict(one: Screened) -> dict[str, Column]:
    conditions = [*one.quarantine, *one.warn, *one.fail]
    return {
        "passed": one.passed,
        "bad": one.bad,
        "warned": one.warned,
        "reasons": F.coalesce(one.reasons(), F.array().cast("array<string>")),
        **{f"c{number}": condition for number, (_, condition) in enumerate(conditions)},
    }


def _numbered(one: Screened) -> dict[str, str]:
    """Each reason and rule, and the column that says who broke it."""
    conditions = [*one.quarantine, *one.warn, *one.fail]
    return {name: f"c{number}" for number, (name, _) in enumerate(conditions)}
