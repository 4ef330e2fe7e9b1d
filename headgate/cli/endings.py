"""The ends of a stream that take more than a stop: `stop --drain` and `retire`."""

from __future__ import annotations

import getpass
import time
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.output import confirm, out, print_json, progress, say
from headgate.errors import HeadgateError
from headgate.settings import Settings, load_settings

if TYPE_CHECKING:
    from headgate.streams.client import SupervisorClient
    from headgate.streams.model import StreamStatus

__all__ = ["drain_and_stop", "retire"]

_POLL_SECONDS = 0.5
_TELL_SECONDS = 5.0
# What the running batch and the processes may take after the last commit that was waited for.
_STOP_SECONDS = 60.0
_SLACK_SECONDS = 60.0


def drain_and_stop(
    client: SupervisorClient, pipeline: str, actor: str, reason: str, *, seconds: float
) -> StreamStatus:
    """Order a drain and follow it to its end. Raises HeadgateError when it does not come to a stop."""
    from headgate.streams.model import Desired, Phase

    status = client.drain(
        pipeline, actor=actor, reason=reason, deadline_seconds=seconds, stop_seconds=_STOP_SECONDS
    )
    ordered, told = status.generation, 0.0
    limit = time.monotonic() + seconds + _STOP_SECONDS + _SLACK_SECONDS
    while status.phase is not Phase.STOPPED and time.monotonic() < limit:
        draining = status.draining
        if draining is not None and draining["given_up"]:
            raise _given_up(pipeline, draining["given_up"])
        replaced = draining is None and status.desired is Desired.RUNNING
        if status.phase is Phase.PARKED:
            raise HeadgateError(
                f"{pipeline} is parked, so nothing drains: {status.reason}",
                help=f"headgate preflight {pipeline}; headgate events {pipeline}",
            )
        if status.generation != ordered or replaced:
            raise HeadgateError(
                f"{pipeline} was given another order while it was being drained",
                help=f"headgate events {pipeline}",
            )
        if draining is not None and time.monotonic() - told >= _TELL_SECONDS:
            told = time.monotonic()
            say(_progress(status))
        time.sleep(_POLL_SECONDS)
        status = client.status(pipeline)
    if status.phase is not Phase.STOPPED:
        raise HeadgateError(
            f"{pipeline} is drained and still {status.phase}: {status.reason}",
            help=f"headgate stop {pipeline} --kill",
        )
    return status


def _given_up(pipeline: str, what: str) -> HeadgateError:
    return HeadgateError(
        f"{pipeline} was not drained by the deadline: {what}; it was not stopped",
        expected="everything that the topics held at the order committed by every query",
        help=f"headgate status {pipeline} shows whether it moves; headgate stop {pipeline} --drain "
        f"--deadline SECONDS waits longer; headgate stop {pipeline} leaves the rest to the next start",
    )


def _progress(status: StreamStatus) -> str:
    left = status.draining["left"] if status.draining else None
    many = "what is left is not known yet" if left is None else f"{left} records left"
    trouble = f"; the stream is {status.phase}: {status.reason}" if status.phase != "running" else ""
    return f"draining {status.stream}: {many}{trouble}"


def retire(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="The pipeline's name.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the event log.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    deadline: Annotated[float, typer.Option("--deadline", help="Seconds for the batch to finish.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """End a stream for good. Its topics, tables, checkpoints and history stay; nothing runs or is scheduled.

    Brought back by `headgate apply`, then `headgate start`: it goes on from its checkpoint.

    Exit codes: 0 retired, 1 not yet, 3 not confirmed, 4 no such stream, 69 the supervisor does not answer.
    """
    from headgate.streams.client import client_from
    from headgate.streams.model import Phase

    settings = load_settings()[0]
    with client_from(settings) as client:
        status = client.status(pipeline)
        if status.phase is not Phase.RETIRED:
            for line in _what_ends(settings, status):
                say(line)
            confirm(f"retire {pipeline}?", yes=yes)
            actor = f"cli:{getpass.getuser()}"
            status = client.retire(pipeline, actor=actor, reason=reason, deadline_seconds=deadline)
            status = _await_retired(client, status, deadline + _SLACK_SECONDS)
    if as_json:
        print_json(status.to_json())
    else:
        out.print(f"{pipeline}: {status.phase}", markup=False)
    if status.phase is not Phase.RETIRED:
        raise HeadgateError(
            f"{pipeline} is still {status.phase}: {status.reason}",
            expected="the supervisor goes on retiring it",
            help=f"headgate status {pipeline}",
        )


def _await_retired(client: SupervisorClient, status: StreamStatus, seconds: float) -> StreamStatus:
    from headgate.streams.model import Desired, Phase

    limit = time.monotonic() + seconds
    with progress(f"retiring {status.stream}"):
        while status.phase is not Phase.RETIRED and time.monotonic() < limit:
            time.sleep(_POLL_SECONDS)
            status = client.status(status.stream)
            if status.desired is not Desired.RETIRED:
                break
    return status


def _what_ends(settings: Settings, status: StreamStatus) -> list[str]:
    pipeline = status.pipeline
    driver = f"its driver (epoch {status.epoch}) ends after its batch" if status.driver_alive else "no driver"
    held = f"; {status.owner.label} holds it, and its task ends as well" if status.owner else ""
    return [
        f"{pipeline} is {status.phase}: {driver}{held}",
        f"  ends: starts and restarts of every kind, and the DAG stream.{pipeline}, until it is applied anew",
        f"  stays: its topics, {settings.tables / pipeline}, {settings.checkpoints / pipeline}, "
        "its contracts and events",
    ]
