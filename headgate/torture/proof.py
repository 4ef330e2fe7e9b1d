"""The proofs after a tortured run: every sink against what the contract says of what the topics hold."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from headgate.checkpoints.books import Totals, last_page
from headgate.checkpoints.layout import CheckpointLayout, quarantine_table, table_path
from headgate.checkpoints.logs import batch_watermark, committed_offsets
from headgate.contract.frozen import FrozenContract
from headgate.delta_rows import delta_rows
from headgate.errors import ServiceError
from headgate.same_rows import difference
from headgate.tables.place import on_disk
from headgate.torture.feeder import Feed
from headgate.torture.place import Place

__all__ = ["Proof", "Sizes", "prove"]

EXPECT_SECONDS = 600
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Proof:
    """One thing that had to hold; `problem` is "" when it does."""

    what: str
    problem: str

    @property
    def holds(self) -> bool:
        return not self.problem


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much was proved on: a run in which no rule was broken has proved little of the quarantine."""

    read: int
    good: int
    quarantined: int
    rules: Mapping[str, int]


def prove(own: Place, feeds: Sequence[Feed]) -> tuple[Sizes, list[Proof]]:
    """Compute what should be there, then compare all that is. The stream has stopped."""
    folder = _expected(own)
    topics = {source: _parquet(folder / "topics" / f"{source}.parquet") for source in own.frozen.topics}
    total = _books(own)
    proofs = [*_delivered(own.frozen, feeds, topics), *_counted(own, total, topics)]
    proofs.append(_quarantine(own, _parquet(folder / "bad.parquet")))
    for name in own.frozen.outputs:
        rows = _parquet(folder / "outputs" / f"{name}.parquet")
        proofs += _output(own, name, rows)
    return Sizes(total.read, total.good, total.quarantined, total.rules), proofs


def _expected(own: Place) -> Path:
    folder = own.settings.state / "expected"
    log = own.settings.state / "log" / "expect.log"
    command = [sys.executable, "-m", "spark.expect", "--contract", own.frozen.hash, "--to", str(folder)]
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(
            command,
            env=own.supervisor.environ,
            cwd=own.settings.home,
            stdout=stream,
            stderr=stream,
            timeout=EXPECT_SECONDS,
            check=False,
        )
    if done.returncode != 0:
        raise ServiceError(
            f"what is expected could not be computed, exit {done.returncode}", help=f"read {log}"
        )
    return folder


def _books(own: Place) -> Totals:
    layout = CheckpointLayout(own.settings.checkpoints, own.stream)
    page = last_page(layout.books(str(layout.current_lineage())), own.committed())
    return page.total if page is not None else Totals()


def _delivered(frozen: FrozenContract, feeds: Sequence[Feed], topics: Mapping[str, Rows]) -> Iterator[Proof]:
    sources = {topic: name for name, topic in frozen.topics.items()}
    for feed in feeds:
        held = Counter(row["value"] for row in topics[sources[feed.topic]])
        lacking = sum((Counter(feed.sent) - held).values())
        problem = f"{lacking} of {len(feed.sent)} acknowledged records are not there" if lacking else ""
        yield Proof(f"topic {feed.topic} holds what was acknowledged", problem)


def _counted(own: Place, total: Totals, topics: Mapping[str, Rows]) -> Iterator[Proof]:
    there = sum(map(len, topics.values()))
    problem = "" if total.read == there else f"{there} are in the topics, {total.read} in the books"
    yield Proof("every record was read once", problem)
    left = total.read - total.good - total.quarantined
    rows = len(_delta(quarantine_table(_tables(own), own.stream)))
    problem = f"{left} records are neither good nor quarantined" if left else ""
    if rows != total.quarantined:
        problem = f"{total.quarantined} were quarantined, the table has {rows} rows"
    yield Proof("read = good + quarantined", problem)


def _quarantine(own: Place, expected: Rows) -> Proof:
    columns = ("topic", "partition", "offset", "value")
    found = _delta(quarantine_table(_tables(own), own.stream))
    mine = [{name: row[name] for name in columns} for row in found]
    return Proof("the quarantine holds the bad records, once, with their bytes", difference(mine, expected))


def _output(own: Place, name: str, rows: Rows) -> Iterator[Proof]:
    spec = own.frozen.contract.outputs[name]
    if own.frozen.outputs[name].stateful and spec.mode == "append":
        rows = _closed(own, name, rows)
    for target in spec.to:
        if target.delta is not None:
            found = _delta(table_path(_tables(own), own.stream, target.delta))
            yield Proof(f"output {name}: the Delta table {target.delta}", difference(found, rows))
        else:
            yield Proof(f"output {name}: Redis", _redis(own, name, rows))


def _closed(own: Place, name: str, rows: Rows) -> Rows:
    """An append output emits a window once no record can change it: those that the watermark of its last
    batch has passed."""
    resolved = own.frozen.outputs[name]
    folder = own.query(name)
    committed = committed_offsets(folder) if folder is not None else None
    watermark = batch_watermark(folder, committed.batch_id) if folder and committed else None
    if resolved.event_time is None:
        return rows
    length = resolved.window_seconds or 0.0
    return [row for row in rows if row[resolved.event_time].timestamp() + length <= (watermark or 0)]


def _redis(own: Place, name: str, rows: Rows) -> str:
    """The newest event times, each with its rows. What a stateless output publishes depends on how its
    records fell into batches: there, nothing may be published that is not in the output."""
    import pyarrow as pa

    from serving.results import ResultStore
    from spark.rows import result_rows

    spec, resolved = own.frozen.contract.outputs[name], own.frozen.outputs[name]
    expected: dict[int | None, list[Mapping[str, Any]]] = {}
    if rows:
        for row in result_rows(pa.Table.from_pylist(rows), spec.key, resolved.event_time, 0):
            expected.setdefault(row.event_time_ms, []).append(row.body)
    store = ResultStore.from_settings(own.settings)
    try:
        found = store.history(own.stream, name, spec.keep)
    finally:
        store.close()
    if not resolved.stateful or resolved.event_time is None:
        every = Counter(str(sorted(body.items())) for bodies in expected.values() for body in bodies)
        shown = Counter(str(sorted(body.items())) for one in found for body in one["rows"])
        foreign = sum(1 for body in shown if body not in every)
        return f"{foreign} rows are not of the output" if foreign else "" if found or not rows else "nothing"
    times = sorted((time for time in expected if time is not None), reverse=True)[: spec.keep]
    return difference(
        [body for one in found for body in one["rows"]], [body for time in times for body in expected[time]]
    )


def _parquet(path: Path) -> Rows:
    import pyarrow.parquet as pq

    found: Rows = pq.read_table(path).to_pylist()
    return found


def _tables(own: Place) -> Path:
    return on_disk(own.settings.tables, "a torture installation")


def _delta(path: Path) -> Rows:
    found: Rows = delta_rows(DeltaTable(str(path))).to_table().to_pylist()
    return found
