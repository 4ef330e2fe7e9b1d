"""A replay takes the place of its range in the live tables: one commit per table, which is made once.

Carried out by the live stream's next driver, under its claim and before Spark starts: nothing else writes
then. All tables are looked at before the first is changed. What is begun is noted first, and brought to its
end by whichever driver comes next, of this order or of another, ahead of anything that this may do to the
checkpoint: each commit carries a transaction with the replay's own name, so it goes on with the tables that
lack it. A swap that is not possible is noted, and the stream goes on from its checkpoint without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.owner import FencedError
from headgate.checkpoints.restore import finish_swap
from headgate.delta_rows import delta_rows
from headgate.errors import HeadgateError, RefusedError
from headgate.replays.ground import changed_topics
from headgate.replays.model import BEGUN, ReplayLayout, read_note, read_replay, write_note
from headgate.replays.select import Selection
from headgate.replays.swap import SwapPlan, prepare_swap
from headgate.replays.traces import swapped_into
from headgate.settings import Settings
from headgate.tables.place import on_disk

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

__all__ = ["Swapping", "half_done", "replace_rows"]

_log = logging.getLogger("headgate.driver")
_ATTEMPTS = 2
_REPLACED = "another order came before it was carried out"


def half_done(settings: Settings, pipeline: str, id: str) -> bool:
    """Whether a table holds the replay."""
    return any(each["replay"] == id for found in swapped_into(settings, pipeline).values() for each in found)


@dataclass(frozen=True, slots=True)
class Swapping:
    """The swaps of one driver of a live stream. `check` looks at its claim before each table.

    Raises FencedError alone: a stream does not stay down for a swap, it goes on without it and the note
    says why.
    """

    settings: Settings
    pipeline: str
    generation: int
    at: float
    check: Callable[[], None]

    def finish(self, besides: str = "") -> None:
        """What an earlier order has begun, but for the replay that this one names itself."""
        for own, note in [each for each in self._begun() if each[0].id != besides]:
            try:
                finish_swap(CheckpointLayout(self.settings.checkpoints, self.pipeline))
                half = half_done(self.settings, self.pipeline, own.id)
            except Exception as error:  # noqa: BLE001 - as below: it is told, and the stream goes on
                _log.exception("the swap of replay %s cannot be finished", own.id)
                self._write(own, _told("failed", [], [_text(error)]))
                continue
            if half:
                self._run(own, note.get("tables", ()), note)
            else:
                self._write(own, _told("refused", [], [_REPLACED]))

    def carry_out(self, id: str, tables: Sequence[str]) -> None:
        """What the order asks for, unless this generation has done it or given it up."""
        own = ReplayLayout(self.settings.state, self.pipeline, id)
        if self._of_another(id):
            _log.error("replay %s is not of pipeline %s: nothing is swapped in", id, self.pipeline)
            return
        before = self._note(own)
        if before.get("state") == BEGUN:
            self._run(own, tables, before)
        elif before.get("generation") != self.generation:
            self._run(own, tables, {})

    def _run(self, own: ReplayLayout, tables: Sequence[str], before: Mapping[str, Any]) -> None:
        """`before` is the note of an attempt that never came to its end: its driver was killed in it, or died
        of it."""
        attempts = before.get("attempts", 0) + 1
        if attempts > _ATTEMPTS:
            told = self._given_up(own)
        else:
            begun = {**_told(BEGUN, [], []), "tables": list(tables), "attempts": attempts}
            if not self._write(own, begun):
                return
            told = self._attempt(own, tables)
        self._write(own, told)

    def _attempt(self, own: ReplayLayout, tables: Sequence[str]) -> dict[str, Any]:
        """What became of it: `swapped` are the tables that have the replay now."""
        done: list[str] = []
        try:
            replay = read_replay(self.settings.state, own.id)
            plan, rows = prepare_swap(self.settings, own.id, tables)
            done += [each.table for each in plan.tables if each.done]
            refusals = [*changed_topics(self.settings, replay), *plan.refusals]
            if refusals:
                return _told("partial" if done else "refused", done, refusals)
            self._replace(own, plan, rows, done)
        except FencedError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a swap fails of, the stream must not
            _log.exception("replay %s is not swapped in", own.id)
            return _told("partial" if done else "failed", done, [_text(error)])
        return _told("done", done, [])

    def _replace(
        self, own: ReplayLayout, plan: SwapPlan, rows: Mapping[str, Selection], done: list[str]
    ) -> None:
        left = [each for each in plan.tables if not each.done]
        # After its commit the counts of a table could not be told any more.
        counts = {each.table: {**asdict(each), "lineage": plan.lineage} for each in left}
        write_note(own.counts, {**(read_note(own.counts) or {}), **counts})
        for each in left:
            self.check()
            live, side = (
                root / self.pipeline / each.table
                for root in (on_disk(self.settings.tables, "a replay"), own.tables)
            )
            replace_rows(live, side, rows[each.table], each.transaction)
            done.append(each.table)

    def _given_up(self, own: ReplayLayout) -> dict[str, Any]:
        why = f"{_ATTEMPTS} drivers died while they swapped it in: headgate logs {self.pipeline}"
        try:
            found = swapped_into(self.settings, self.pipeline)
        except Exception as error:  # noqa: BLE001 - as above
            return _told("failed", [], [why, _text(error)])
        done = [table for table, swaps in found.items() if any(each["replay"] == own.id for each in swaps)]
        return _told("partial" if done else "failed", done, [why])

    def _begun(self) -> Iterator[tuple[ReplayLayout, dict[str, Any]]]:
        for path in sorted((self.settings.state / "replays" / self.pipeline).glob("*/swap.json")):
            own = ReplayLayout(self.settings.state, self.pipeline, path.parent.name)
            note = self._note(own)
            if note.get("state") == BEGUN:
                yield own, note

    def _of_another(self, id: str) -> bool:
        try:
            return read_replay(self.settings.state, id).pipeline != self.pipeline
        except HeadgateError:
            return False  # what is wrong with it is noted in its folder

    def _note(self, own: ReplayLayout) -> dict[str, Any]:
        try:
            return read_note(own.swap) or {}
        except RefusedError as error:
            _log.error("%s", error.message)
            return {}

    def _write(self, own: ReplayLayout, told: Mapping[str, Any]) -> bool:
        try:
            write_note(own.swap, {**told, "generation": self.generation, "at": self.at})
        except OSError as error:
            _log.error("the swap of replay %s cannot be noted, and nothing more is done: %s", own.id, error)
            return False
        _log.info("replay %s, its swap: %s %s", own.id, told["state"], "; ".join(told["refusals"]))
        return True


def _told(state: str, swapped: Sequence[str], refusals: Sequence[str]) -> dict[str, Any]:
    return {"state": state, "swapped": sorted({*swapped}), "refusals": list(refusals)}


def _text(error: Exception) -> str:
    told = error.message if isinstance(error, HeadgateError) else f"{type(error).__name__}: {error}"
    return told.partition("\n")[0]


def replace_rows(live: Path, side: Path, chosen: Selection, name: str) -> None:
    """The chosen rows of `live` by those of `side`, as one commit under this name; made once."""
    from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, write_deltalake

    table = DeltaTable(str(live))
    if table.transaction_version(name) is not None:
        return
    # Version and commit are of one handle: a commit from elsewhere in between makes this one conflict, so
    # the number of the transaction is the version that it makes.
    transaction = Transaction(name, table.version() + 1)
    write_deltalake(
        table,
        _rows(DeltaTable(str(side)), chosen, [field.name for field in table.schema().fields]),
        mode="overwrite",
        predicate=chosen.predicate,
        commit_properties=CommitProperties(app_transactions=[transaction], max_commit_retries=0),
        post_commithook_properties=PostCommitHookProperties(
            create_checkpoint=False, cleanup_expired_logs=False
        ),
    )


def _rows(side: DeltaTable, chosen: Selection, columns: Sequence[str]) -> pa.RecordBatchReader:
    scanner = delta_rows(side).scanner(columns=list(columns), filter=chosen.rows)
    return scanner.to_reader()
