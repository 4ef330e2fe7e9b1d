"""A replay's operation, as the commands of `headgate replay` read it, move it on and wait for it."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.output import progress
from headgate.cli.streams import own_owner
from headgate.errors import NotFoundError, RefusedError
from headgate.settings import Settings

if TYPE_CHECKING:
    from headgate.replays.model import Replay
    from headgate.streams.operations import Operation

__all__ = ["DryRun", "Id", "Yes", "await_state", "ended", "note_state", "operation"]

Id = Annotated[str, typer.Argument(metavar="REPLAY", help="Its id, from `headgate replay list`.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would do; do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_POLL_SECONDS = 0.5


def ended(settings: Settings, id: str, states: tuple[str, ...]) -> Replay:
    from headgate.replays.model import read_replay

    replay = read_replay(settings.state, id)
    found = operation(settings, replay)
    if found is None or found.state not in states:
        state = found.state if found is not None else "never ordered"
        raise RefusedError(
            f"replay {id} is {state}", expected=" or ".join(states), help=f"headgate replay status {id}"
        )
    return replay


def operation(settings: Settings, replay: Replay) -> Operation | None:
    from headgate.replays.model import KIND
    from headgate.streams.operations import operation_of
    from headgate.streams.store import StateStore

    with closing(StateStore(settings.store_url)) as store:
        return operation_of(store, replay.pipeline, KIND, replay.id)


def note_state(settings: Settings, replay: Replay, state: str, detail: str) -> None:
    from headgate.replays.model import KIND
    from headgate.streams.operations import note
    from headgate.streams.store import StateStore

    with closing(StateStore(settings.store_url)) as store:
        actor, at = own_owner().label, time.time()
        note(store, replay.pipeline, KIND, replay.id, state, actor=actor, at=at, detail=detail)


def await_state(settings: Settings, replay: Replay, states: tuple[str, ...], seconds: float) -> Operation:
    """The operation once it is in none of these states, or when the time is over."""
    limit = time.monotonic() + seconds
    with progress(f"waiting for replay {replay.id}"):
        while True:
            found = operation(settings, replay)
            if found is None:
                raise NotFoundError(f"replay {replay.id} was never ordered", help="headgate replay list")
            if found.state not in states or time.monotonic() >= limit:
                return found
            time.sleep(_POLL_SECONDS)
