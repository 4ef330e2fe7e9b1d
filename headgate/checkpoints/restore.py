"""Going back to a snapshot without ever giving a batch id to other records.

Two ways. *Same batches*: the offset log that follows the snapshot is whole, so it is kept; state and
commits go back, and the driver runs each batch of it again with the very same ranges, which the sinks
recognise. *New lineage*: it is not whole, or another contract wrote it; a lineage of its own begins with
the snapshot's files, and each table that only grows is put back to the version that goes with them.

Each step can be cut off and done again; the last one is what makes it count.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headgate.checkpoints.copying import copy_file
from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.lineage import (
    Lineage,
    lineage_of,
    make_current,
    new_lineage,
    read_lineage,
    write_lineage,
)
from headgate.checkpoints.logs import batch_offsets, newest
from headgate.checkpoints.sinks import Sink, newest_batch
from headgate.checkpoints.snapshots import Snapshot, verify
from headgate.errors import RefusedError
from headgate.tables.delta import is_table, open_table
from headgate.tables.place import Place

__all__ = [
    "NEW_LINEAGE",
    "SAME_BATCHES",
    "Following",
    "Restore",
    "choose",
    "finish_swap",
    "following",
    "redo_folder",
    "restore_transaction",
]

SAME_BATCHES = "same batches"
NEW_LINEAGE = "new lineage"


@dataclass(frozen=True, slots=True)
class Following:
    """What a query has of batches after the snapshot. `last` is the newest whose offsets are whole and
    without a gap, `written` the newest that a table holds, `problem` what is wrong with the log."""

    snapshot: int
    last: int
    written: int
    problem: str = ""


def choose(snapshot: Snapshot, lineage: str | None, found: Mapping[str, Following]) -> tuple[str, str]:
    """The way, and why it is not the gentler one."""
    if lineage != snapshot.lineage:
        return NEW_LINEAGE, f"the snapshot is of lineage {snapshot.lineage}, {lineage or 'none'} runs"
    for query, each in sorted(found.items()):
        if each.problem:
            return NEW_LINEAGE, f"query {query}: {each.problem}"
        if each.written > each.last:
            return (
                NEW_LINEAGE,
                f"query {query}: a table holds batch {each.written}, its offsets end at {each.last}",
            )
    return SAME_BATCHES, ""


def following(
    layout: CheckpointLayout, snapshot: Snapshot, sinks: tuple[Sink, ...], tables: Place
) -> dict[str, Following]:
    """Look at the logs and tables of the snapshot's own lineage."""
    found = {}
    for query, batch in snapshot.queries.items():
        own = [sink for sink in sinks if sink.query == query]
        written = max(
            (newest_batch(sink, tables, snapshot.pipeline, snapshot.lineage) for sink in own), default=-1
        )
        last, problem = _last_whole(layout.query(snapshot.lineage, query), batch)
        found[query] = Following(batch, last, written, problem)
    return found


def _last_whole(query: Path, batch: int) -> tuple[int, str]:
    """The newest batch up to which the offset log goes on from `batch` without a gap or damage."""
    end = newest(query / "offsets")
    for number in range(batch + 1, (-1 if end is None else end) + 1):
        try:
            batch_offsets(query, number)
        except RefusedError as error:
            return number - 1, error.message
    return max(batch, -1 if end is None else end), ""


def redo_folder(lineage: Path, query: str) -> Path:
    """Offset files of batches that run again; the driver takes them one by one."""
    return lineage / "redo" / query


@dataclass(frozen=True, slots=True)
class Restore:
    """One restore, under the claim of a driver of `generation`."""

    layout: CheckpointLayout
    snapshot: Snapshot
    snapshots: Path
    tables: Place
    sinks: tuple[Sink, ...]
    generation: int
    note: dict[str, Any]  # the origin, as lineage.json keeps it
    at: float

    def run(self, way: str) -> Lineage:
        """Raises RefusedError when the announced way is not open, or the snapshot is damaged."""
        done = self._finish()
        if done is not None:
            return done
        problems = verify(self.snapshots, self.snapshot)
        if problems:
            raise RefusedError(
                f"the snapshot {self.snapshot.id} of {self.layout.pipeline} is damaged: {problems[0]}",
                help=f"headgate snapshot list {self.layout.pipeline}; headgate restart "
                f"{self.layout.pipeline} --from snapshot --snapshot ANOTHER",
            )
        found = following(self.layout, self.snapshot, self.sinks, self.tables)
        open_way, why = choose(self.snapshot, self.layout.current_lineage(), found)
        if way == SAME_BATCHES and open_way != way:
            raise RefusedError(
                f"{self.layout.pipeline} cannot run the batches after the snapshot again: {why}",
                expected="what the order was given for",
                help=f"headgate restart {self.layout.pipeline} --from snapshot --snapshot "
                f"{self.snapshot.id} --dry-run says what is possible now",
            )
        if way == "" and any(each.last > each.snapshot for each in found.values()):
            open_way = NEW_LINEAGE  # nobody vouches that the same contract wrote what follows
        if (way or open_way) == SAME_BATCHES:
            return self._same_batches(found)
        return self._new_lineage()

    # Same batches: <lineage>.restored-<generation> is made whole, then takes the place of the old one.

    def _same_batches(self, found: Mapping[str, Following]) -> Lineage:
        before = read_lineage(self.layout, self.snapshot.lineage)
        old, new = self.layout.lineage(before.id), self._made(before.id)
        draft = new.with_name(f"{new.name}.new")
        self._copy_into(draft)
        for query, each in found.items():
            for number in range(each.snapshot + 1, each.last + 1):
                source = old / "queries" / query / "offsets" / str(number)
                copy_file(source, redo_folder(draft, query) / str(number))
        write_lineage(draft, replace(before, generation=self.generation, origin=self._noted(before)))
        draft.rename(new)
        return self._swap(before.id)

    def _swap(self, lineage: str) -> Lineage:
        old, new = self.layout.lineage(lineage), self._made(lineage)
        if old.is_dir():
            old.rename(old.with_name(f"{lineage}.before-{self.generation}"))
        new.rename(old)
        return read_lineage(self.layout, lineage)

    def _made(self, lineage: str) -> Path:
        return self.layout.folder / f"{lineage}.restored-{self.generation}"

    # New lineage: its folder is made whole, the tables are put back, `current` names it.

    def _new_lineage(self) -> Lineage:
        begun = new_lineage(
            self.layout,
            contract_hash=self.snapshot.contract_hash,
            spark_version=self.snapshot.spark_version,
            at=self.at,
            generation=self.generation,
            origin=self._noted(self._lineage_before()),
        )
        draft = self.layout.folder / f"{begun.id}.new"
        self._copy_into(draft)
        write_lineage(draft, begun)
        draft.rename(self.layout.lineage(begun.id))
        return self._put_back(begun)

    def _put_back(self, lineage: Lineage) -> Lineage:
        for sink in self.sinks:
            if not sink.keyed and sink.table in self.snapshot.tables:
                name = restore_transaction(self.layout.pipeline, sink.table, lineage.id)
                path = sink.path(self.tables, self.layout.pipeline)
                _put_back(path, self.snapshot.tables[sink.table], name)
        make_current(self.layout, lineage.id)
        return lineage

    def _finish(self) -> Lineage | None:
        """What an earlier driver of this generation has begun, brought to its end."""
        begun = lineage_of(self.layout, self.generation)
        if begun is not None:
            if self.layout.current_lineage() == begun.id:
                return begun
            return self._put_back(begun)
        if self._made(self.snapshot.lineage).is_dir():
            return self._swap(self.snapshot.lineage)
        return None

    def _copy_into(self, draft: Path) -> None:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        source = self.snapshots / self.layout.pipeline / self.snapshot.id
        for name in self.snapshot.files:
            copy_file(source / name, draft / name)
        for query in self.snapshot.queries:  # which contract the copy ran under, as preflight reads it
            (draft / "queries" / f"{query}.contract").write_text(self.snapshot.contract_hash + "\n")

    def _lineage_before(self) -> Lineage | None:
        try:
            return read_lineage(self.layout, self.snapshot.lineage)
        except RefusedError:
            return None

    def _noted(self, before: Lineage | None) -> dict[str, Any]:
        """A query that had not begun begins where the lineage before would have let it."""
        known = (before.origin or {}) if before is not None else {}
        kept: dict[str, Any] = {name: known[name] for name in ("offsets", "queries") if name in known}
        return {**self.note, **kept}


def restore_transaction(pipeline: str, table: str, lineage: str) -> str:
    """Its number is the version of its commit: what was swapped into the table before is gone with it."""
    return f"headgate/{pipeline}/_restore/{table}/{lineage}"


def _put_back(path: Place, version: int, name: str) -> None:
    """Restore a table as a commit of its own, which carries a name so that it is made once."""
    from deltalake import CommitProperties, Transaction

    if not is_table(path):
        raise RefusedError(f"the table {path} is gone", help="headgate plan")
    table = open_table(path)
    if table.transaction_version(name) is not None or table.version() == version:
        return
    if table.version() < version:
        raise RefusedError(
            f"the table {path} is at version {table.version()}, the snapshot goes with version {version}",
            expected="the table that the snapshot was taken beside",
            help=f"restore {path} from a backup",
        )
    transaction = Transaction(name, table.version() + 1)
    table.restore(version, commit_properties=CommitProperties(app_transactions=[transaction]))


def finish_swap(layout: CheckpointLayout) -> None:
    """A driver that was killed while it put a restored lineage in its place left the place empty."""
    current = layout.current_lineage()
    if current is None or layout.lineage(current).exists():
        return
    made = [path for path in layout.folder.glob(f"{current}.restored-*") if path.suffix != ".new"]
    if made:
        max(made, key=lambda path: int(path.name.rpartition("-")[2])).rename(layout.lineage(current))
