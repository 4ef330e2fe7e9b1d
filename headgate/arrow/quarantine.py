"""Bad records as rows of the quarantine, as `spark.quarantine` has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headgate.arrow.kinds import MOMENT

__all__ = ["QUARANTINE", "newest", "quarantine_rows"]

QUARANTINE = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", MOMENT),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("source", pa.string()),
        ("stage", pa.string()),
        ("rules", pa.list_(pa.field("element", pa.string()))),
        ("contract_version", pa.int32()),
        ("contract_hash", pa.string()),
        ("generation", pa.int64()),
        ("epoch", pa.int64()),
        ("batch_id", pa.int64()),
        ("lineage", pa.string()),
        ("quarantined_at", MOMENT),
    ]
)


def newest(records: pa.Table) -> list[tuple[int, int]]:
    """Offset and partition of the last of these records, as an example for people; nothing of none."""
    if not records.num_rows:
        return []
    offsets = records.column("_offset")
    row = pc.index(offsets, pc.max(offsets)).as_py()
    return [(offsets[row].as_py(), records.column("_partition")[row].as_py())]


def quarantine_rows(
    bad: pa.Table, topic: str, source: str, shared: Mapping[str, tuple[Any, str]]
) -> pa.Table:
    """`bad` has a record's columns as they came and its `reasons`; `shared` is what all of a batch have."""
    reasons = bad.column("reasons").combine_chunks().cast(QUARANTINE.field("rules").type)
    own = {
        "partition": bad.column("_partition"),
        "offset": bad.column("_offset"),
        "timestamp": bad.column("_arrival"),
        "key": bad.column("_key"),
        "value": bad.column("_value"),
        "stage": _stages(reasons),
        "rules": reasons,
        "quarantined_at": bad.column("_now"),
    }
    same = {"topic": topic, "source": source, **{name: value for name, (value, _) in shared.items()}}
    columns = [
        own[field.name]
        if field.name in own
        else pa.repeat(pa.scalar(same[field.name], field.type), bad.num_rows)
        for field in QUARANTINE
    ]
    return pa.table(columns, schema=QUARANTINE)


def _stages(reasons: pa.Array) -> pa.Array:
    """`_parse` is the first of the reasons where it is one."""
    first = pc.list_element(reasons, 0) if len(reasons) else pa.array([], pa.string())
    return pc.if_else(pc.equal(first, "_parse"), "parse", "rule")
