"""What `headgate replay` shows to people."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headgate.cli.output import out, print_table

if TYPE_CHECKING:
    from headgate.replays.compare import Comparison
    from headgate.replays.planning import ReplayPlan
    from headgate.replays.state import ReplayState
    from headgate.replays.swap import SwapPlan

__all__ = ["show_comparison", "show_list", "show_plan", "show_state", "show_swap"]


def show_plan(plan: ReplayPlan) -> None:
    columns = ("TOPIC", "PARTITION", "FROM", "TO", "RECORDS", "FIRST THERE", "ENDS AT")
    rows = [(r.topic, r.partition, r.first, r.last, r.records, r.low, r.end) for r in plan.ranges]
    print_table(columns, rows)
    lines = [
        f"{plan.records} records, {plan.replay.told}, by contract {plan.replay.contract_hash[:12]}",
        f"into {plan.folder}: {', '.join(plan.tables)}",
        *plan.notes,
    ]
    for line in lines:
        out.print(f"· {line}", markup=False)


def show_list(found: Sequence[ReplayState]) -> None:
    columns = ("REPLAY", "PIPELINE", "STATE", "RANGE", "RECORDS", "READ", "ASKED", "BY", "DETAIL")
    rows = [
        (
            each.replay.id,
            each.replay.pipeline,
            each.state,
            each.replay.told,
            each.replay.records,
            f"{each.share:.0%}",
            _when(each.replay.asked_at),
            each.replay.asked_by,
            each.detail,
        )
        for each in found
    ]
    print_table(columns, rows)


def show_state(found: ReplayState) -> None:
    replay = found.replay
    told = f"{replay.id} of {replay.pipeline}: {found.state}, {found.share:.0%} read"
    out.print(told + (f"; {found.detail}" if found.detail else ""), markup=False)
    out.print(
        f"{replay.records} records, {replay.told}, by contract {replay.contract_hash[:12]}", markup=False
    )
    out.print(f"driver: {found.driver}; its log: {found.log}", markup=False)
    print_table(
        ("QUERY", "READ", "OF", "LATE GROUPS"), [(q.query, q.read, q.of, q.late) for q in found.queries]
    )
    for line in found.evidence:
        out.print(f"· {line}", markup=False)
    if found.swap:
        out.print(f"· swap: {found.swap}", markup=False)


def show_comparison(found: Sequence[Comparison]) -> None:
    columns = ("TABLE", "BY", "LIVE", "REPLAY", "SAME", "ONLY LIVE", "ONLY REPLAY", "DIFFER", "NOT WHOLE")
    rows = []
    for each in found:
        counts = each.difference
        told = (counts.same, counts.only_live, counts.only_replay, counts.differing, each.kept)
        shown = ("",) * 5 if each.why else told
        rows.append((each.table, each.how, each.live_rows or "", each.replay_rows, *shown))
    print_table(columns, rows)
    for each in found:
        if each.why:
            out.print(f"! {each.table} is not compared: {each.why}", markup=False)
        for example in each.difference.examples:
            out.print(f"  {each.table}, {example}", markup=False)


def show_swap(plan: SwapPlan) -> None:
    columns = ("TABLE", "BY", "LIVE ROWS OUT", "REPLAYED ROWS IN", "NOT WHOLE, LEFT OUT")
    rows = [
        (t.table, t.how, *(("",) * 3 if t.why or t.done else (t.taken_out, t.put_in, t.kept)))
        for t in plan.tables
    ]
    print_table(columns, rows)
    for each in plan.tables:
        if each.done:
            out.print(f"· table {each.table}: this replay is in it already", markup=False)
        elif each.why:
            out.print(f"! table {each.table}: {each.why}", markup=False)
    if plan.judged:
        told = "records of the range are good on one side and quarantined on the other"
        out.print(f"· {plan.judged} {told}", markup=False)
    for problem in plan.problems:
        out.print(f"! {problem.text}", markup=False)
    out.print(
        "· the stream stops in order, the tables are changed, and it goes on from its checkpoint; a reader "
        "that streams from one of them sees a change that is no append",
        markup=False,
    )


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))
