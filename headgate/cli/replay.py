"""`headgate replay`: a past range, read again beside the live stream, compared, swapped in or discarded."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.output import confirm, print_json, progress, say
from headgate.cli.replay_ends import discard, swap
from headgate.cli.replay_state import DryRun, Id, Yes, await_state, ended, note_state
from headgate.cli.replay_views import show_comparison, show_list, show_plan, show_state
from headgate.cli.streams import Json, Pipeline, own_owner, read_settings, supervisor_client
from headgate.errors import HeadgateError, RefusedError
from headgate.settings import Settings

if TYPE_CHECKING:
    from headgate.replays.model import Replay

__all__ = ["register"]

_DIFFERENT = 2


def register(app: typer.Typer) -> None:
    """Add this part's verbs."""
    group = typer.Typer(help="Past records, read again beside the live stream.", no_args_is_help=True)
    group.command("start")(_start)
    group.command("list")(_list)
    group.command("status")(_status)
    group.command("compare")(_compare)
    group.command("swap")(swap)
    group.command("discard")(discard)
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
    `{"TOPIC": {"0": 12}}`. Exit codes: 0 ordered, or done where it is waited for, 1 it failed or is not done
    in that time, 3 refused or not agreed to.
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
            help=plan.help,
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
    note_state(settings, replay, "requested", f"{replay.records} records, {replay.told}")


def _await_end(settings: Settings, replay: Replay, seconds: float) -> None:
    found = await_state(settings, replay, ("requested", "running"), seconds)
    if found.state != "done":
        told = f"replay {replay.id} is {found.state}" + (f": {found.detail}" if found.detail else "")
        if found.state in ("requested", "running"):
            told += f"; it was not done in {seconds:g} s, and goes on"
        raise HeadgateError(told, help=f"headgate replay status {replay.id}")
    say(f"{replay.id}: {found.state}")


def _list(
    pipeline: Annotated[
        str, typer.Argument(metavar="PIPELINE", help="One pipeline's alone.", show_default=False)
    ] = "*",
    as_json: Json = False,
) -> None:
    """The replays that there are, the newest first."""
    from headgate.replays.model import damaged_replays, find_replays
    from headgate.replays.state import state_of
    from headgate.streams.store import StateStore

    settings = read_settings()
    with closing(StateStore(settings.store_url)) as store:
        found = [state_of(settings, store, each) for each in find_replays(settings.state, pipeline)]
    for folder, error in damaged_replays(settings.state, pipeline):
        say(f"replay {folder.name} of {folder.parent.name} is damaged: {error}")
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
    replay = ended(settings, id, ("done", "swapped"))
    with progress("reading both sides"):
        found = compare(settings, replay)
    if as_json:
        print_json([each.to_json() for each in found])
    else:
        show_comparison(found)
    if not all(each.agrees for each in found):
        raise typer.Exit(_DIFFERENT)
