"""The ends of a replay: `headgate replay swap` and `discard`."""

from __future__ import annotations

import time
import uuid
from contextlib import closing
from typing import Annotated

import typer

from headgate.cli.output import confirm, out, print_json, progress, say
from headgate.cli.replay_state import DryRun, Id, Yes, await_state, ended, note_state, operation
from headgate.cli.replay_views import show_swap
from headgate.cli.streams import Json, await_running, own_owner, read_settings, supervisor_client
from headgate.errors import HeadgateError, RefusedError
from headgate.replays.model import Replay
from headgate.settings import Settings

__all__ = ["discard", "swap"]


def swap(  # noqa: PLR0917 - each is an option
    id: Id,
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Only this one; may be repeated.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Annotated[float, typer.Option("--wait", help="Seconds to wait until it is done.")] = 300.0,
    as_json: Json = False,
) -> None:
    """Put a replay's rows in the place of the live ones, for what lies wholly in its range.

    The live stream is stopped in order, each table is changed by one commit, and the stream goes on from its
    checkpoint; one that is stopped or parked is started. Exit codes: 0 done, 1 not swapped, 3 refused or not
    agreed to.
    """
    settings = read_settings()
    replay = ended(settings, id, ("done", "swapping", "swapped"))
    wanted = tuple(table or ())
    _agree(settings, replay, wanted, yes=yes, dry_run=dry_run, as_json=as_json)
    if dry_run:
        return
    _order_swap(settings, replay, wanted, wait)
    found = await_state(settings, replay, ("swapping",), wait)
    if found.state != "swapped":
        raise HeadgateError(
            f"replay {id} is {found.state}: {found.detail or 'its swap is not carried out yet'}",
            help=f"headgate replay status {id}; headgate events {replay.pipeline}",
        )
    say(f"{id}: swapped in; its own tables are kept until headgate replay discard {id}")


def _agree(
    settings: Settings, replay: Replay, tables: tuple[str, ...], *, yes: bool, dry_run: bool, as_json: bool
) -> None:
    from headgate.replays.planning import topics_changed
    from headgate.replays.swap import plan_swap
    from headgate.streams.store import StateStore

    with progress("counting what would be replaced"):
        plan = plan_swap(settings, replay.id, tables)
    with closing(StateStore(settings.store_url)) as store:
        changed = topics_changed(settings, store, replay)
    refusals = [*changed, *plan.refusals]
    if as_json:
        print_json({**plan.to_json(), "refusals": refusals})
    else:
        show_swap(plan)
        _tell_contract(settings, replay)
    if refusals:
        away = f"headgate replay discard {replay.id}, and a replay of the topics that are there now"
        raise RefusedError(
            f"replay {replay.id} is not swapped in: {'; '.join(refusals)}",
            expected="every table swapped exactly, or none",
            help="; ".join(filter(None, (away if changed else "", plan.help))),
        )
    if not dry_run:
        rows = sum(each.taken_out for each in plan.tables), sum(each.put_in for each in plan.tables)
        what = f"Take out {rows[0]} live rows of {replay.pipeline}, put in {rows[1]}"
        confirm(f"{what}, and {_what_starts(settings, replay)} the stream?", yes=yes)


def _what_starts(settings: Settings, replay: Replay) -> str:
    """Say what the order does to the stream beside the swap, for one that stands still does so for a reason;
    in a word, what that is."""
    from headgate.streams.model import Phase

    with supervisor_client(settings) as client:
        status = client.status(replay.pipeline)
    contract = f"contract {status.contract_hash[:12]}"
    if status.phase in (Phase.STOPPED, Phase.PARKED, Phase.RETIRED):
        why = f" ({status.reason})" if status.reason else ""
        say(f"the stream is {status.phase}{why} and will be STARTED with {contract}")
        return "start"
    say(f"the stream is {status.phase}, stops and goes on with {contract}")
    return "restart"


def _tell_contract(settings: Settings, replay: Replay) -> None:
    """Rows of two contracts beside one another are what was asked for, but said."""
    from headgate.topics.back import running_contract

    running = running_contract(settings, replay.pipeline)
    if running != replay.contract_hash:
        say(
            f"the replay ran contract {replay.contract_hash[:12]}, the live stream runs {running[:12]}: "
            "what the stream writes from now on is still of its own"
        )


def _order_swap(settings: Settings, replay: Replay, tables: tuple[str, ...], wait: float) -> None:
    from headgate.checkpoints.origin import Origin
    from headgate.replays.model import ReplayLayout, write_note

    with supervisor_client(settings) as client:
        before = client.status(replay.pipeline)
        # What a driver of a later generation notes is the answer to this order.
        layout = ReplayLayout(settings.state, replay.pipeline, replay.id)
        write_note(layout.ordered, {"after": before.generation})
        # Written down first: a command that is killed here is given once more.
        note_state(settings, replay, "swapping", f"asked for by {own_owner().label} at {time.time():.3f}")
        status = client.restart(
            replay.pipeline,
            actor=own_owner().label,
            reason=f"replay {replay.id} is swapped in",
            idempotency_key=f"cli-{uuid.uuid4()}",
            owner=own_owner(),
            origin=Origin("checkpoint", replay=replay.id, tables=tables),
        )
        await_running(client, status, wait)


def discard(id: Id, yes: Yes = False, as_json: Json = False) -> None:
    """End a replay, and remove its checkpoint and its tables. What was swapped in stays in the live tables.

    Exit codes: 0 discarded, 1 not yet, 3 refused or not agreed to.
    """
    from headgate.replays.model import ReplayLayout, read_replay, size_of

    settings = read_settings()
    replay = read_replay(settings.state, id)
    layout = ReplayLayout(settings.state, replay.pipeline, replay.id)
    before = operation(settings, replay)
    state = before.state if before is not None else "never ordered"
    if state == "swapping":
        raise RefusedError(f"replay {id} is being swapped in", help=f"headgate replay status {id}")
    if state != "discarded":
        say(f"{id} is {state}: {size_of(layout.folder):,} bytes below {layout.folder} would be removed")
        confirm(f"Discard replay {id}?", yes=yes)
        with supervisor_client(settings) as client:
            client.health()  # it ends the driver, and then removes
        note_state(settings, replay, "discarding", "")
        found = await_state(settings, replay, ("discarding",), 60.0)
        if found.state != "discarded":
            raise HeadgateError(f"replay {id} is still {found.state}", help="headgate logs supervisor")
    if as_json:
        print_json({"id": id, "state": "discarded"})
    else:
        out.print(f"{id}: discarded", markup=False)
