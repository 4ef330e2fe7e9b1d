"""Which rows of a table are of a replay's range: one choice, as a predicate of SQL and as one of Arrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from headgate.replays.model import Offsets
from headgate.replays.spans import Span

__all__ = ["Selection", "records_of", "windows_of"]


@dataclass(frozen=True, slots=True)
class Selection:
    predicate: str
    rows: Any  # pyarrow.compute.Expression


def records_of(columns: Mapping[str, str], begin: Offsets, end: Offsets, only: str = "") -> Selection:
    """Rows whose record is in the range, by the columns of `_topic` (where there is one), `_partition`,
    `_offset`. Without a column of the topic, offsets mean records of the topic `only` and of no other."""
    import pyarrow.compute as pc

    partition, offset = columns["_partition"], columns["_offset"]
    # What no row has: a range may hold nothing of this table's topic.
    texts, tests = [f'"{partition}" < 0'], [pc.field(partition) < 0]
    for topic, partitions in sorted(end.items()):
        for number, last in sorted(partitions.items()) if only in ("", topic) else ():
            first = begin[topic][number]
            if first >= last:
                continue
            text = f'"{partition}" = {number} AND "{offset}" >= {first} AND "{offset}" < {last}'
            test = (pc.field(partition) == number) & (pc.field(offset) >= first) & (pc.field(offset) < last)
            if "_topic" in columns:
                text = f"\"{columns['_topic']}\" = '{topic}' AND {text}"
                test = (pc.field(columns["_topic"]) == topic) & test
            texts.append(f"({text})")
            tests.append(test)
    return Selection(" OR ".join(texts), reduce(lambda left, right: left | right, tests))


def windows_of(column: str, spans: Sequence[Span]) -> Selection:
    """Rows whose time is in one of the spans."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = pa.timestamp("us", tz="UTC")
    texts, tests = [], []
    for low, high in spans:
        texts.append(f'("{column}" >= {_moment(low)} AND "{column}" <= {_moment(high)})')
        ends = [pa.scalar(bound, pa.int64()).cast(kind) for bound in (low, high)]
        tests.append((pc.field(column) >= ends[0]) & (pc.field(column) <= ends[1]))
    return Selection(" OR ".join(texts), reduce(lambda left, right: left | right, tests))


def _moment(micros: int) -> str:
    """As a number: it may lie where Python has no dates."""
    return f"arrow_cast(arrow_cast({micros}, 'Int64'), 'Timestamp(Microsecond, Some(\"UTC\"))')"
