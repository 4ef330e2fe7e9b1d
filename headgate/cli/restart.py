"""`headgate restart`: from the checkpoint, or from somewhere else after saying what that repeats or loses."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from headgate.cli.output import confirm, out, print_json, print_table, progress, say
from headgate.cli.streams import (
    Json,
    Pipeline,
    Reason,
    applied_hash,
    await_running,
    own_owner,
    read_settings,
    show_status,
    supervisor_client,
)
from headgate.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from headgate.checkpoints.choices import OriginPlan, Span
    from headgate.checkpoints.origin import Origin
    from headgate.settings import Settings
    from headgate.streams.model import StreamStatus

__all__ = ["register"]

From = Literal["checkpoint", "snapshot", "earliest", "latest", "timestamp", "offsets"]


def register(app: typer.Typer) -> None:
    """Add this part's verbs."""
    app.command()(restart)


def restart(  # noqa: PLR0917 - each is an option
    pipeline: Pipeline,
    from_: Annotated[From, typer.Option("--from", help="Where it begins.")] = "checkpoint",
    timestamp: Annotated[str | None, typer.Option(metavar="ISO", help="For --from timestamp.")] = None,
    offsets: Annotated[
        Path | None, typer.Option(metavar="FILE", help='For --from offsets: {"topic": {"0": 12}}.')
    ] = None,
    snapshot: Annotated[
        str | None, typer.Option(metavar="ID", help="For --from snapshot; without it the newest good one.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do; do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    reason: Reason = "",
    wait: Annotated[float, typer.Option("--wait", help="Seconds to wait until it runs; 0: do not.")] = 180.0,
    as_json: Json = False,
) -> None:
    """Stop a stream and start it with the applied contract; its owner stays.

    From its checkpoint it goes on where it was. Anything else is told first, in records and tables, and
    asked for; without a terminal it needs --yes. Exit codes: 0 done, 3 refused or not agreed to.
    """
    settings = read_settings()
    contract = applied_hash(settings, pipeline)
    _check_options(from_, timestamp, offsets, snapshot)
    plan = None
    if from_ != "checkpoint":
        with progress("comparing the checkpoint with the topics"):
            place = _Place(from_, timestamp or "", offsets, snapshot)
            plan = _plan(settings, pipeline, place)
        _agree(plan, pipeline, yes=yes, dry_run=dry_run, as_json=as_json)
    if dry_run:
        if plan is None:
            say(f"{pipeline} would go on from its checkpoint: nothing is repeated, nothing is lost")
        return
    status = _order(
        settings, pipeline, contract, reason=reason, origin=plan.origin if plan else None, wait=wait
    )
    show_status(status, as_json)


@dataclass(frozen=True, slots=True)
class _Place:
    kind: str
    timestamp: str
    offsets: Path | None
    snapshot: str | None


def _check_options(from_: str, timestamp: str | None, offsets: Path | None, snapshot: str | None) -> None:
    for kind, value in (("timestamp", timestamp), ("offsets", offsets)):
        if (from_ == kind) != (value is not None):
            raise UsageError(f"`--{kind}` and `--from {kind}` go together")
    if snapshot is not None and from_ != "snapshot":
        raise UsageError("`--snapshot` goes with `--from snapshot`")


def _plan(settings: Settings, pipeline: str, place: _Place) -> OriginPlan:
    from headgate.contract.frozen import ContractStore
    from headgate.topics.back import plan_restore
    from headgate.topics.begin import plan_origin

    frozen = ContractStore(settings.state).current(pipeline)
    if place.kind == "snapshot":
        return plan_restore(settings, frozen, place.snapshot)
    return plan_origin(settings, frozen, place.kind, timestamp=place.timestamp, offsets=place.offsets)


def _agree(plan: OriginPlan, pipeline: str, *, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Show the plan; raises RefusedError for one that cannot be carried out."""
    if as_json and dry_run:
        print_json(plan.to_json())
    elif not as_json:
        show_plan(plan)
    if plan.problems:
        raise RefusedError(
            f"{pipeline} cannot begin there: " + "; ".join(plan.problems),
            help=f"headgate restart {pipeline} --from earliest --dry-run",
        )
    if not dry_run:
        what = f"{plan.repeats} records read again, {plan.loses} skipped"
        confirm(f"Restart {pipeline} from {plan.origin.told}: {what}?", yes=yes)


def show_plan(plan: OriginPlan) -> None:
    columns = ("TOPIC", "PARTITION", "QUERY", "COMMITTED", "BEGINS AT", "ENDS AT", "AGAIN", "SKIPPED")
    print_table(columns, [_row(span) for span in plan.spans])
    for effect in plan.effects:
        out.print(f"{'!' if effect.doubles else '·'} table {effect.table}: {effect.text}", markup=False)
    for note in plan.notes:
        out.print(f"· {note}", markup=False)


def _row(span: Span) -> tuple[object, ...]:
    again = f"{span.repeats} ({span.again[0]} to {span.again[1] - 1})" if span.again else ""
    skipped = f"{span.loses} ({span.skipped[0]} to {span.skipped[1] - 1})" if span.skipped else ""
    committed = "not known" if span.committed is None else span.committed
    return span.topic, span.partition, span.query, committed, span.begin, span.end, again, skipped


def _order(
    settings: Settings, pipeline: str, contract: str, *, reason: str, origin: Origin | None, wait: float
) -> StreamStatus:
    with supervisor_client(settings) as client:
        status = client.restart(
            pipeline,
            actor=own_owner().label,
            reason=reason,
            idempotency_key=f"cli-{uuid.uuid4()}",
            owner=own_owner(),
            contract_hash=contract,
            origin=origin,
        )
        if origin is not None and origin.offsets:
            _accept_topics(settings, pipeline)
        return await_running(client, status, wait)


def _accept_topics(settings: Settings, pipeline: str) -> None:
    """A topic that was made anew has been agreed to: its offsets were shown."""
    from headgate.contract.frozen import ContractStore
    from headgate.topics.begin import accept_topics

    accept_topics(settings, ContractStore(settings.state).current(pipeline))
