"""Decodes and judges a batch of records, as `spark.decode` and `spark.screen` do, in columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headgate.arrow.convert import Converted
from headgate.arrow.kernels import Batch
from headgate.arrow.kinds import MOMENT
from headgate.arrow.plan import RecordPlan
from headgate.arrow.reading import Reading, reader_of
from headgate.contract.facts import event_time_name
from headgate.contract.model import seconds
from headgate.contract.refusal import RecordPlace
from headgate.formats.decoder import Writers

__all__ = ["BAD", "GOOD", "RAW", "READ", "WARNED", "ForOthers", "Judged", "Screen", "record_bytes"]

Mask = npt.NDArray[np.bool_]
Reasons = Sequence[tuple[str, Mask]]

# Records as they come, with the batch's own time; a source's records are all of one topic.
RAW = pa.schema(
    [
        ("_key", pa.binary()),
        ("_value", pa.binary()),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
        ("_arrival", MOMENT),
        ("_now", MOMENT),
    ]
)
# Counted beside reasons and rules, as `spark.record` names them.
READ, GOOD, BAD, WARNED = "_read", "_good", "_bad", "_warned"
_FAR = 2**62


@dataclass(frozen=True, slots=True)
class Judged:
    """`good`: what each output has of the good records. `bad`: RAW and `reasons`. `doubtful`: RAW alone;
    they are not counted here. `refused`: by rule that stops the stream, the first record that breaks it.
    `others`: what another query that reads the same records needs, too."""

    counts: Counter[str]
    good: Mapping[str, pa.Table]
    bad: pa.Table
    doubtful: pa.Table
    refused: Mapping[str, RecordPlace]
    others: ForOthers | None = None


@dataclass(frozen=True, slots=True)
class ForOthers:
    """`warned`: partition, offset and `reasons` of records that break a rule which only warns.

    `holds_from`: from which time of a batch on, in microseconds, all verdicts are these; None where an
    earlier or a later one may have others. Only what is ahead of its arrival depends on it."""

    warned: pa.Table
    holds_from: int | None


def record_bytes(records: pa.Table) -> int:
    """Of keys and values alone: a key or value that is null has none."""
    lengths = (pc.sum(pc.binary_length(records.column(name))).as_py() for name in ("_key", "_value"))
    return sum(length or 0 for length in lengths)


class Screen:
    """Judges the records of one topic."""

    def __init__(
        self, plan: RecordPlan, topic: str, writers: Writers | None = None, *, for_others: bool = False
    ) -> None:
        """`writers` finds the schemas of records that carry a registry's id."""
        self._plan = plan
        self._for_others = for_others
        self._topic = pa.scalar(topic)
        self._reader = reader_of(plan.source, writers)
        event_time = plan.source.event_time
        self._ahead = round(seconds(event_time.max_future) * 1_000_000) if event_time else 0
        self._event_time = None if event_time is None or event_time.arrival else event_time_name(plan.source)

    def judge(self, records: pa.Table) -> Judged:
        """`records` has the columns of RAW."""
        records = records.combine_chunks()
        read = self._reader.read(_column(records, "_value"), lambda: _bounds(records, self._ahead))
        doubts = [each.doubtful for each in read.columns.values() if each.doubtful is not None]
        sure = ~_any(doubts, len(read.rows))
        left = np.ones(records.num_rows, bool)
        left[read.rows[sure]] = False
        left[read.broken] = False
        judged = self._judge(records, read, sure)
        broken, doubtful = read.broken, np.flatnonzero(left)
        judged.counts.update({READ: len(broken), BAD: len(broken), "_parse": len(broken)})
        parse = pa.array([["_parse"]] * len(broken), pa.list_(pa.string()))
        more = records.take(pa.array(broken)).append_column("reasons", parse)
        bad = pa.concat_tables([judged.bad, more])
        others = judged.others
        if others is not None and self._event_time is not None:
            others = replace(others, holds_from=_holds_from(bad, others.holds_from))
        return replace(judged, bad=bad, doubtful=records.take(pa.array(doubtful)), others=others)

    def _judge(self, records: pa.Table, read: Reading, sure: Mask) -> Judged:
        own, rows = read.columns, read.rows
        if len(rows) < records.num_rows:
            records = records.take(pa.array(rows))
        batch = self._batch(records, own)
        decoding = self._decoding(records, own)
        undecoded = _any([found for _, found in decoding], len(rows))
        kinds: dict[str, list[tuple[str, Mask]]] = {"quarantine": list(decoding), "warn": [], "fail": []}
        for check in self._plan.checks:
            broken = check.broken(batch).to_numpy(zero_copy_only=False) & ~undecoded
            kinds[check.otherwise].append((check.name, broken))
        bad, failed, warned = (
            _any([found for _, found in kinds[kind]], len(rows)) & sure
            for kind in ("quarantine", "fail", "warn")
        )
        passed = sure & ~bad & ~failed
        good = batch if bool(passed.all()) else _filtered(batch, passed)
        counts = Counter(
            {READ: int(sure.sum()), GOOD: good.rows, BAD: int(bad.sum()), WARNED: int(warned.sum())}
        )
        for name, found in (each for kind in kinds.values() for each in kind):
            counts[name] += int((found & sure).sum())
        others = None
        if self._for_others:
            named = _with_reasons(records.select(["_partition", "_offset"]), kinds["warn"], warned)
            others = ForOthers(named, self._latest(own, passed))
        rows_of = {each.name: each.rows(good) for each in self._plan.outputs}
        refused = {
            name: _first(records, found & sure) for name, found in kinds["fail"] if (found & sure).any()
        }
        bad_ones = _with_reasons(records, kinds["quarantine"], bad)
        return Judged(counts, rows_of, bad_ones, RAW.empty_table(), refused, others)

    def _latest(self, own: Mapping[str, Converted], passed: Mask) -> int:
        """The earliest bound under which no good record is in its future."""
        if self._event_time is None:
            return 0
        at = pc.max(own[self._event_time].value.cast(pa.int64()).filter(pa.array(passed))).as_py()
        return 0 if at is None else max(0, int(at) - self._ahead)

    def _batch(self, records: pa.Table, own: Mapping[str, Converted]) -> Batch:
        columns = {name.lower(): found.value for name, found in own.items()}
        for name in ("_key", "_partition", "_offset", "_arrival"):
            columns[name] = _column(records, name)
        columns["_topic"] = pa.repeat(self._topic, records.num_rows)
        return Batch(columns, records.num_rows)

    def _decoding(self, records: pa.Table, own: Mapping[str, Converted]) -> list[tuple[str, Mask]]:
        """Why a record that was read cannot be used, in the order of `spark.decode`."""
        found: list[tuple[str, Mask]] = []
        for column in self._plan.source.columns:
            value, unreadable = own[column.name].value, own[column.name].unreadable
            absent = value.is_null().to_numpy(zero_copy_only=False)
            if column.name == self._event_time:
                found.append(("_no_event_time", absent))
                continue
            if unreadable is not None:
                found.append((f"_unreadable_{column.name}", unreadable))
                absent = absent & ~unreadable
            if column.required:
                found.append((f"_missing_{column.name}", absent))
        if self._event_time is not None:
            at = own[self._event_time].value.cast(pa.int64()).fill_null(-_FAR)
            found.append(("_future", at.to_numpy(zero_copy_only=False) > _bounds(records, self._ahead)))
        return found


def _bounds(records: pa.Table, ahead: int) -> npt.NDArray[np.int64]:
    """The last moment of each record that is not in its future, in microseconds."""
    moments = [_column(records, name).cast(pa.int64()) for name in ("_arrival", "_now")]
    earlier = pc.min_element_wise(*moments).fill_null(_FAR).to_numpy(zero_copy_only=False)
    bounds: npt.NDArray[np.int64] = np.minimum(earlier, _FAR) + ahead
    return bounds


def _holds_from(bad: pa.Table, latest: int | None) -> int | None:
    """A record that came before its batch's time is judged by when it came, in each later batch, too."""
    came, now = bad.column("_arrival").cast(pa.int64()), bad.column("_now").cast(pa.int64())
    if not bad.num_rows or latest is None:
        return latest
    if not pc.all(pc.less_equal(came, now).fill_null(False)).as_py():
        return None
    return max(latest, int(pc.max(came).as_py()))


def _first(records: pa.Table, found: Mask) -> RecordPlace:
    """Of those found: records are of one partition, in the order of their offsets."""
    row = int(np.argmax(found))
    return RecordPlace(records.column("_partition")[row].as_py(), records.column("_offset")[row].as_py())


def _with_reasons(records: pa.Table, reasons: Reasons, which: Mask) -> pa.Table:
    """Those records with the names of what they break."""
    rows = np.flatnonzero(which)
    names = pa.array([name for name, _ in reasons], pa.string())
    broken = np.array([found[rows] for _, found in reasons], bool).reshape(len(names), len(rows)).T
    ends = np.concatenate([[0], np.cumsum(broken.sum(axis=1))]).astype(np.int32)
    told = pa.ListArray.from_arrays(pa.array(ends), names.take(pa.array(np.nonzero(broken)[1])))
    return records.take(pa.array(rows)).append_column("reasons", told)


def _filtered(batch: Batch, mask: Mask) -> Batch:
    kept = pa.array(mask)
    return Batch({name: column.filter(kept) for name, column in batch.columns.items()}, int(mask.sum()))


def _any(masks: Sequence[Mask], rows: int) -> Mask:
    found = np.zeros(rows, bool)
    for mask in masks:
        found |= mask
    return found


def _column(table: pa.Table, name: str) -> pa.Array:
    found = table.column(name).combine_chunks()
    return found if isinstance(found, pa.Array) else pa.concat_arrays(found.chunks)
