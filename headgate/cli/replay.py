"""`headgate replay`: a past range, read again beside the live stream, compared, swapped in or discarded."""

from __future__ import annotations

import time
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.output import confirm, out, print_json, progress, say
from headgate.cli.replay_views import show_comparison, show_list, show_plan, show_state, show_swap
from headgate.cli.streams import Json, Pipeline, await_running, own_owner, read_settings, supervisor_client
from headgate.errors import HeadgateError, NotFoundError, RefusedError
from headgate.settings import Settings

if TYPE_CHECKING:
    from headgate.replays.model import Replay
    from headgate.streams.operations import Operation

__all__ = ["register"]

Id = Annotated[str, typer.Argument(metavar="REPLAY", help="Its id, from `headgate replay list`.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would do; do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_POLL_SECONDS = 0.5
_DIFFERENT = 2


def register(app: typer.Typer) -> None:
    """Add this part's verbs."""
    group = typer.Typer(help="Past records, read again beside the live stream.", no_args_is_help=True)
    verbs = {
        "start": _start,
        "list": _list,
        "status": _status,
        "compare": _compare,
        "swap": _swap,
        "discard": _discard,
    }
    for name, verb in verbs.items():
        group.command(name)(verb)
    app.add_typer(group, name="replay")


def _start(  # noqa: PLR0917 - each is an option
    pipeline: Pipeline,
    from_: Annotated[
        str, typer.Option("--from", metavar="PLACE", help="earliest, timestamp=ISO or offsets=FILE.")
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="PLACE", help="now, timestamp=ISO or offsets=FILE.")
    ] = "now",
    contract: Annotated[
        str, typer.Option("--contract", metavar="HASH", help="One that was applied once.")
    ] = "applied",
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Annotated[float, typer.Option("--wait", help="Seconds to wait for its end; 0: do not.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Read a past range of a pipeline's topics into tables of its own, while the live stream runs.

    It ends by itself at the end of the range; the supervisor starts it again after a crash. FILE is
    `{"TOPIC": {"0": 12}}`. Exit codes: 0 done, 1 it failed, 3 refused or not agreed to.
    """
    from headgate.replays.planning import plan_replay
    from headgate.replays.ranges import parse_from, parse_to

    settings = read_settings()
    begin, end = parse_from(from_), parse_to(to)
    with progress("comparing the range with the topics"):
        plan = plan_replay(settings, pipeline, begin, end, contract=contract, by=own_owner().label)
    if as_json:
        print_json(plan.to_json())
    else:
        show_plan(plan)
    if plan.problems:
        raise RefusedError(
            f"{pipeline} cannot be replayed so: {'; '.join(plan.problems)}",
            help=f"headgate replay start {pipeline} --from earliest --dry-run",
        )
    if dry_run:
        return
    confirm(f"Replay {plan.records} records of {pipeline}?", yes=yes)
    _order(settings, plan.replay)
    say(f"headgate replay status {plan.replay.id}")
    if wait > 0:
        _await_end(settings, plan.replay, wait)


def _order(settings: Settings, replay: Replay) -> None:
    from headgate.contract.frozen import ContractStore
    from headgate.replays.model import ReplayLayout, write_note
    from headgate.replays.planning import make_tables

    with supervisor_client(settings) as client:
        client.health()  # without a supervisor nothing would run
    layout = ReplayLayout(settings.state, replay.pipeline, replay.id)
    write_note(layout.manifest, replay.to_json())
    make_tables(layout, ContractStore(settings.state).get(replay.contract_hash))
    _note(settings, replay, "requested", f"{replay.records} records, {replay.told}")


def _await_end(settings: Settings, replay: Replay, seconds: float) -> None:
    found = _await(settings, replay, ("requested", "running"), seconds)
    if found.state == "failed":
        raise HeadgateError(
            f"replay {replay.id} has failed: {found.detail}", help=f"headgate replay status {replay.id}"
        )
    say(f"{replay.id}: {found.state}")


def _list(
    pipeline: Annotated[str, typer.Argument(metavar="[PIPELINE]", help="One pipeline's alone.")] = "*",
    as_json: Json = False,
) -> None:
    """The replays that there are, the newest first."""
    from headgate.replays.model import find_replays
    from headgate.replays.state import state_of
    from headgate.streams.store import StateStore

    settings = read_settings()
    with closing(StateStore(settings.store_url)) as store:
        found = [state_of(settings, store, each) for each in find_replays(settings.state, pipeline)]
    if as_json:
        print_json([each.to_json() for each in found])
    elif found:
        show_list(found)
    else:
        say("there is no replay: headgate replay start PIPELINE --from earliest --dry-run")


def _status(id: Id, as_json: Json = False) -> None:
    """How far a replay has come. Exit codes: 0, 4 there is none."""
    from headgate.replays.model import read_replay
    from headgate.replays.state import state_of
    from headgate.streams.store import StateStore

    settings = read_settings()
    with closing(StateStore(settings.store_url)) as store:
        found = state_of(settings, store, read_replay(settings.state, id))
    if as_json:
        print_json(found.to_json())
    else:
        show_state(found)


def _compare(id: Id, as_json: Json = False) -> None:
    """A replay's tables beside the live ones, over the records and windows that lie wholly in its range.

    Exit codes: 0 they agree, 2 they differ or a table could not be compared, 3 the replay has not ended.
    """
    from headgate.replays.compare import compare

    settings = read_settings()
    replay = _ended(settings, id, ("done", "swapped"))
    with progress("reading both sides"):
        found = compare(settings, replay)
    if as_json:
        print_json([each.to_json() for each in found])
    else:
        show_comparison(found)
    if not all(each.agrees for each in found):
        raise typer.Exit(_DIFFERENT)


def _swap(  # noqa: PLR0917 - each is an option
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
    checkpoint; one that is stopped is started. Exit codes: 0 done, 1 not swapped, 3 refused or not agreed to.
    """
    settings = read_settings()
    replay = _ended(settings, id, ("done", "swapping", "swapped"))
    wanted = tuple(table or ())
    _agree(settings, replay, wanted, yes=yes, dry_run=dry_run, as_json=as_json)
    if dry_run:
        return
    _order_swap(settings, replay, wanted, wait)
    found = _await(settings, replay, ("swapping",), wait)
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
        refusals = [*topics_changed(settings, store, replay), *plan.refusals]
    if as_json:
        print_json({**plan.to_json(), "refusals": refusals})
    else:
        show_swap(plan)
    if refusals:
        raise RefusedError(
            f"replay {replay.id} is not swapped in: {'; '.join(refusals)}",
            expected="every table swapped exactly, or none",
            help=f"headgate replay swap {replay.id} --table NAME takes those that can be",
        )
    if not dry_run:
        rows = sum(each.taken_out for each in plan.tables), sum(each.put_in for each in plan.tables)
        confirm(f"Take out {rows[0]} live rows of {replay.pipeline} and put in {rows[1]}?", yes=yes)


def _order_swap(settings: Settings, replay: Replay, tables: tuple[str, ...], wait: float) -> None:
    from headgate.checkpoints.origin import Origin

    with supervisor_client(settings) as client:
        client.status(replay.pipeline)
        # Written down first: a command that is killed here is given once more.
        _note(settings, replay, "swapping", f"asked for by {own_owner().label} at {time.time():.3f}")
        status = client.restart(
            replay.pipeline,
            actor=own_owner().label,
            reason=f"replay {replay.id} is swapped in",
            idempotency_key=f"cli-{uuid.uuid4()}",
            owner=own_owner(),
            origin=Origin("checkpoint", replay=replay.id, tables=tables),
        )
        await_running(client, status, wait)


def _discard(id: Id, yes: Yes = False, as_json: Json = False) -> None:
    """End a replay, and remove its checkpoint and its tables. What was swapped in stays in the live tables.

    Exit codes: 0 discarded, 1 not yet, 3 refused or not agreed to.
    """
    from headgate.replays.model import ReplayLayout, read_replay
    from headgate.replays.state import size_of

    settings = read_settings()
    replay = read_replay(settings.state, id)
    layout = ReplayLayout(settings.state, replay.pipeline, replay.id)
    before = _operation(settings, replay)
    state = before.state if before is not None else "never ordered"
    if state == "swapping":
        raise RefusedError(f"replay {id} is being swapped in", help=f"headgate replay status {id}")
    if state != "discarded":
        say(f"{id} is {state}: {size_of(layout.folder):,} bytes below {layout.folder} would be removed")
        confirm(f"Discard replay {id}?", yes=yes)
        with supervisor_client(settings) as client:
            client.health()  # it ends the driver, and then removes
        _note(settings, replay, "discarding", "")
        found = _await(settings, replay, ("discarding",), 60.0)
        if found.state != "discarded":
            raise HeadgateError(f"replay {id} is still {found.state}", help="headgate logs supervisor")
    if as_json:
        print_json({"id": id, "state": "discarded"})
    else:
        out.print(f"{id}: discarded", markup=False)


def _ended(settings: Settings, id: str, states: tuple[str, ...]) -> Replay:
    from headgate.replays.model import read_replay

    replay = read_replay(settings.state, id)
    found = _operation(settings, replay)
    if found is None or found.state not in states:
        state = found.state if found is not None else "never ordered"
        raise RefusedError(
            f"replay {id} is {state}", expected=" or ".join(states), help=f"headgate replay status {id}"
        )
    return replay


def _operation(settings: Settings, replay: Replay) -> Operation | None:
    from headgate.replays.model import KIND
    from headgate.streams.operations import operation_of
    from headgate.streams.store import StateStore

    with closing(StateStore(settings.store_url)) as store:
        return operation_of(store, replay.pipeline, KIND, replay.id)


def _note(settings: Settings, replay: Replay, state: str, detail: str) -> None:
    from headgate.replays.model import KIND
    from headgate.streams.operations import note
    from headgate.streams.store import StateStore

    with closing(StateStore(settings.store_url)) as store:
        actor, at = own_owner().label, time.time()
        note(store, replay.pipeline, KIND, replay.id, state, actor=actor, at=at, detail=detail)


def _await(settings: Settings, replay: Replay, states: tuple[str, ...], seconds: float) -> Operation:
    """The operation once it is in none of these states, or when the time is over."""
    limit = time.monotonic() + seconds
    with progress(f"waiting for replay {replay.id}"):
        while True:
            found = _operation(settings, replay)
            if found is None:
                raise NotFoundError(f"replay {replay.id} was never ordered", help="headgate replay list")
            if found.state not in states or time.monotonic() >= limit:
                return found
            time.sleep(_POLL_SECONDS)
