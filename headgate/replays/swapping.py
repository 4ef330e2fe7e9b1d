"""A replay takes the place of its range in the live tables: one commit per table, which is made once.

Carried out by the live stream's next driver, under its claim and before Spark starts: nothing else writes
then. All tables are looked at before the first is changed. Each commit carries a transaction id with the
replay's own, so a driver that comes after a kill goes on with the tables that lack it. A swap that is not
possible any more is noted, and the stream goes on from its checkpoint without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate.checkpoints.owner import FencedError
from headgate.delta_rows import delta_rows
from headgate.errors import HeadgateError
from headgate.replays.model import Replay, ReplayLayout, read_note, read_replay, write_note
from headgate.replays.select import Selection
from headgate.replays.swap import SwapPlan, plan_swap, selections, served_from, swap_transaction
from headgate.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

__all__ = ["carry_out", "replace_rows"]

_log = logging.getLogger("headgate.driver")


def carry_out(
    settings: Settings,
    id: str,
    tables: Sequence[str],
    *,
    generation: int,
    at: float,
    check: Callable[[], None],
) -> None:
    """Swap, unless it was done or given up in this generation. Raises FencedError alone: a stream does not
    stay down for a swap that cannot be made, it goes on without it and the note says why."""
    try:
        replay = read_replay(settings.state, id)
        note = ReplayLayout(settings.state, replay.pipeline, replay.id).swap
        before = read_note(note) or {}
        if before.get("generation") == generation:
            return
        told = _attempt(settings, replay, tables, check)
    except FencedError:
        raise
    except (HeadgateError, OSError) as error:
        _log.error("replay %s is not swapped in: %s", id, error)
        return
    told["swapped"] = sorted({*before.get("swapped", ()), *told["swapped"]})
    write_note(note, {**told, "generation": generation, "at": at})
    _log.info("replay %s, its swap: %s %s", id, told["state"], "; ".join(told["refusals"]))


def _attempt(
    settings: Settings, replay: Replay, tables: Sequence[str], check: Callable[[], None]
) -> dict[str, Any]:
    """What became of it, as swap.json keeps it: `swapped` are the tables that have the replay now."""
    from deltalake.exceptions import DeltaError

    own = ReplayLayout(settings.state, replay.pipeline, replay.id)
    done: list[str] = []
    try:
        plan = plan_swap(settings, replay.id, tables)
        done = [each.table for each in plan.tables if each.done]
        if plan.refusals:
            return _told("partial" if done else "refused", done, plan.refusals)
        # After its commit the counts of a table could not be told any more.
        counts = {
            each.table: {**asdict(each), "lineage": plan.lineage} for each in plan.tables if not each.done
        }
        write_note(own.counts, {**(read_note(own.counts) or {}), **counts})
        _swap(settings, replay, plan, check, done)
    except (DeltaError, OSError, ValueError) as error:
        return _told("partial" if done else "failed", done, [str(error).partition("\n")[0]])
    return _told("done", done, [])


def _told(state: str, swapped: Sequence[str], refusals: Sequence[str]) -> dict[str, Any]:
    return {"state": state, "swapped": list(swapped), "refusals": list(refusals)}


def _swap(
    settings: Settings, replay: Replay, plan: SwapPlan, check: Callable[[], None], done: list[str]
) -> None:
    own = ReplayLayout(settings.state, replay.pipeline, replay.id)
    found = selections(settings, replay, plan.lineage, served_from(settings, replay))
    chosen = {each.way.table: each.rows for each in found}
    for each in plan.tables:
        selected = chosen[each.table]
        if each.done or selected is None:
            continue
        check()
        live = settings.tables / replay.pipeline / each.table
        side = own.tables / replay.pipeline / each.table
        replace_rows(live, side, selected, swap_transaction(replay.pipeline, each.table, replay.id))
        done.append(each.table)


def replace_rows(live: Path, side: Path, chosen: Selection, name: str) -> None:
    """The chosen rows of `live` by those of `side`, as one commit under this name; made once."""
    from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, write_deltalake

    table = DeltaTable(str(live))
    if table.transaction_version(name) is not None:
        return
    # Version and commit are of one handle: a commit from elsewhere in between makes this one conflict.
    write_deltalake(
        table,
        _rows(DeltaTable(str(side)), chosen, [field.name for field in table.schema().fields]),
        mode="overwrite",
        predicate=chosen.predicate,
        commit_properties=CommitProperties(app_transactions=[Transaction(name, 0)], max_commit_retries=0),
        post_commithook_properties=PostCommitHookProperties(
            create_checkpoint=False, cleanup_expired_logs=False
        ),
    )


def _rows(side: DeltaTable, chosen: Selection, columns: Sequence[str]) -> pa.RecordBatchReader:
    scanner = delta_rows(side).scanner(columns=list(columns), filter=chosen.rows)
    return scanner.to_reader()
