"""What is committed: Spark's logs and the books, read from disk, whether or not a driver lives."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from headgate.checkpoints.books import Page, last_page, read_page
from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.lineage import read_lineage
from headgate.checkpoints.logs import CommittedOffsets, committed_offsets
from headgate.checkpoints.snapshots import find_snapshots
from headgate.contract.frozen import FrozenContract
from headgate.errors import HeadgateError, RefusedError
from monitoring.readings import AppliedContract, CheckpointReading, QueryCheckpoint
from monitoring.snapshot import Rows
from monitoring.watch import Reading

__all__ = ["read_checkpoint", "read_checkpoints"]

RATE_SECONDS = 30.0  # long enough to even out batches, short enough to follow what a person does


def read_checkpoints(
    root: Path,
    contracts: Callable[[], Mapping[str, AppliedContract]],
    snapshots: Path,
    every: float,
) -> Reading[Mapping[str, CheckpointReading]]:
    """Every applied pipeline's checkpoints; one that cannot be read is left out and named. `snapshots` is
    their folder and `every` their schedule, 0 for none."""
    found, problems = {}, []
    for name, applied in contracts().items():
        layout = CheckpointLayout(root, name)
        try:
            reading = read_checkpoint(layout, applied.frozen, time.time())
            found[name] = replace(
                reading,
                snapshot_at=_snapshot_at(layout, reading.lineage, snapshots),
                snapshot_every=every or None,
            )
        except (HeadgateError, OSError, ValueError, KeyError) as error:
            problems.append(f"{name}: {error}")
    return Reading(found, tuple(problems))


def read_checkpoint(layout: CheckpointLayout, frozen: FrozenContract, now: float) -> CheckpointReading:
    """The newest committed batch of each query, and the books of the record query's."""
    lineage = layout.current_lineage()
    if lineage is None:
        return CheckpointReading()
    queries = {}
    rows = None
    for query in (RECORDS, *frozen.stateful_outputs):
        folder = layout.query(lineage, query)
        committed = committed_offsets(folder)
        if committed is None:
            continue
        difference = None
        if query == RECORDS:
            books = layout.books(lineage)
            rows = _rows(books, committed.batch_id, now)
            difference = _difference(folder, committed, read_page(books, committed.batch_id), frozen)
        at = _modified(folder / "commits" / str(committed.batch_id))
        queries[query] = QueryCheckpoint(query, committed.batch_id, at, difference)
    return CheckpointReading(lineage, queries, rows)


def _snapshot_at(layout: CheckpointLayout, lineage: str | None, snapshots: Path) -> float | None:
    """From when on the age of the snapshots counts, as their schedule does; None before a first lineage."""
    if lineage is None:
        return None
    try:
        begun = read_lineage(layout, lineage).begun_at
    except RefusedError:
        return None  # preflight says so; what can be read is shown
    changed = _modified(snapshots / layout.pipeline)
    newest = _newest_snapshot(snapshots, layout.pipeline, changed) if changed is not None else None
    return max(begun, newest or 0.0)


@lru_cache(maxsize=256)
def _newest_snapshot(snapshots: Path, pipeline: str, changed: float) -> float | None:
    """Read anew only when one came or went: each names all of its files."""
    del changed
    newest = next(iter(find_snapshots(snapshots, pipeline)), None)
    return newest.taken_at if newest is not None else None


def _rows(books: Path, batch_id: int, now: float) -> Rows | None:
    page = last_page(books, batch_id)
    if page is None:
        return None
    total = page.total
    return Rows(
        read=total.read,
        good=total.good,
        quarantined=total.quarantined,
        warned=total.warned,
        per_second=_rate(books, page, now),
        rules=dict(total.rules),
    )


def _rate(books: Path, newest: Page, now: float) -> float:
    """Records per second over the last half minute, from the pages and when they were written."""
    since, first = now, None
    for batch_id in range(newest.batch_id, -1, -1):
        written = _modified(books / f"{batch_id}.json")
        if written is None:
            break
        first, since = batch_id, written
        if now - written > RATE_SECONDS:
            break
    before = read_page(books, first) if first is not None else None
    if before is None or before.batch_id == newest.batch_id or now <= since:
        return 0.0  # nothing within the window, or the first batch only: no rate yet
    return (newest.total.read - before.total.read) / (now - since)


def _difference(
    folder: Path, committed: CommittedOffsets, page: Page | None, frozen: FrozenContract
) -> int | None:
    """Records between the lineage's first offsets and the committed ones, minus those in the books.

    None where it cannot be told: no page yet, or a compacted topic, whose offsets have holes.
    """
    compacted = any(
        "compact" in str(s.config.get("cleanup.policy")) for s in frozen.contract.sources.values()
    )
    first = _first_offsets(folder)
    if page is None or compacted or not set(committed.offsets) <= set(first):
        return None
    read = sum(
        # A partition that was added later is read from its beginning.
        offset - first[topic].get(str(partition), 0)
        for topic, partitions in committed.offsets.items()
        for partition, offset in partitions.items()
    )
    return read - page.total.good - page.total.quarantined


def _first_offsets(folder: Path) -> dict[str, dict[str, int]]:
    """The offsets at which the lineage began, which Spark wrote once into `sources/<source>/0`."""
    found: dict[str, dict[str, int]] = {}
    for file in sorted(folder.glob("sources/*/0")):
        text = file.read_text(encoding="utf-8", errors="replace")
        found |= json.loads(text[text.index("{") :])  # after a marker byte and the line `v1`
    return found


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None
