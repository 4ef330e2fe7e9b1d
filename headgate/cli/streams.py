"""supervisor, start, stop, retire, events: a person's hand on the streams."""

from __future__ import annotations

import getpass
import time
import uuid
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.output import out, print_json, print_table, progress, say
from headgate.errors import HeadgateError, NotFoundError, UsageError
from headgate.settings import Settings, load_settings

if TYPE_CHECKING:
    from headgate.streams.client import SupervisorClient
    from headgate.streams.model import Event, Owner, StreamStatus

__all__ = [
    "applied_hash",
    "await_running",
    "own_owner",
    "read_settings",
    "register",
    "show_status",
    "supervisor_client",
]

Pipeline = Annotated[str, typer.Argument(metavar="PIPELINE", help="The pipeline's name.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the event log.")]
_POLL_SECONDS = 0.5


def register(app: typer.Typer) -> None:
    """Add this part's verbs."""
    from headgate.cli.endings import retire

    for verb in (start, stop, retire, events, supervisor):
        app.command()(verb)


def supervisor() -> None:
    """Run the supervisor in the foreground; its end leaves the streams running."""
    from headgate.streams.server import serve

    serve(read_settings())


def start(
    pipeline: Pipeline,
    wait: Annotated[float, typer.Option("--wait", help="Seconds to wait until it runs; 0: do not.")] = 120.0,
    as_json: Json = False,
) -> None:
    """Start a stream from its checkpoint, with the applied contract; one that runs is left as it is."""
    settings = read_settings()
    contract = applied_hash(settings, pipeline)
    with supervisor_client(settings) as client:
        wanted = _already_wanted(client, pipeline)
        if wanted is not None:
            holder = wanted.owner.label if wanted.owner else "nobody"
            say(f"{pipeline} is wanted already, held by {holder}.")
            say(f"To stop it and start it from its checkpoint: headgate restart {pipeline}")
            show_status(wanted, as_json)
            return
        status = client.ensure(
            pipeline,
            pipeline=pipeline,
            contract_hash=contract,
            owner=own_owner(),
            idempotency_key=f"cli-{uuid.uuid4()}",
        )
        status = await_running(client, status, wait)
    show_status(status, as_json)


def stop(
    pipeline: Pipeline,
    *,
    deadline: Annotated[
        float | None,
        typer.Option("--deadline", help="Seconds for the batch to finish (60), or for the drain (600)."),
    ] = None,
    drain: Annotated[
        bool,
        typer.Option("--drain", help="First run on until what the topics hold now is committed."),
    ] = False,
    kill: Annotated[bool, typer.Option("--kill", help="Kill at once; the batch runs again later.")] = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Stop a stream: the running batch commits, or the driver is killed at the deadline.

    With --drain the supervisor waits for the commits, whether this command does or not; past its deadline
    the stream runs on, and the exit code is 1.
    """
    from headgate.cli.endings import drain_and_stop
    from headgate.streams.model import Desired, Phase

    settings = read_settings()
    if drain and kill:
        raise UsageError("--drain waits for commits and --kill does not", expected="one of both")
    if drain:
        with supervisor_client(settings) as client:
            drained = drain_and_stop(client, pipeline, own_owner().label, reason, seconds=deadline or 600.0)
        show_status(drained, as_json)
        return
    deadline = 60.0 if deadline is None else deadline
    with supervisor_client(settings) as client:
        status = client.stop(
            pipeline,
            actor=own_owner().label,
            reason=reason,
            mode="kill" if kill else "graceful",
            deadline_seconds=deadline,
        )
        limit = time.monotonic() + deadline + 60
        with progress(f"stopping {pipeline}"):
            while status.phase is not Phase.STOPPED and time.monotonic() < limit:
                time.sleep(_POLL_SECONDS)
                status = client.status(pipeline)
                if status.desired is Desired.RUNNING:
                    raise HeadgateError(
                        f"{pipeline} was ordered to run again while it was being stopped",
                        help=f"headgate events {pipeline}",
                    )
    show_status(status, as_json)
    if status.phase is not Phase.STOPPED:
        raise HeadgateError(
            f"{pipeline} is still {status.phase}: {status.reason}", help=f"headgate stop {pipeline} --kill"
        )


def events(
    pipeline: Annotated[str | None, typer.Argument(help="One pipeline; all without it.")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=1000, help="The newest so many.")] = 50,
    as_json: Json = False,
) -> None:
    """What happened to a stream: orders, changes of phase, adoptions, conditions."""
    from dataclasses import asdict

    with supervisor_client(read_settings()) as client:
        streams = [pipeline] if pipeline is not None else [each.stream for each in client.streams()]
        each = []
        for stream in streams:
            with suppress(NotFoundError) if pipeline is None else nullcontext():  # one may go meanwhile
                each.append(client.events(stream, after=-1, limit=limit))
    found = sorted(chain.from_iterable(each), key=lambda event: (event.at, event.id))[-limit:]
    if as_json:
        print_json([asdict(event) for event in found])
        return
    columns: tuple[str, ...] = ("AT", "WHAT", "PHASE", "GEN", "EPOCH", "BY", "DETAIL")
    rows = [_event_row(event) for event in found]
    if pipeline is None:
        columns = ("STREAM", *columns)
        rows = [(event.stream, *row) for event, row in zip(found, rows, strict=True)]
    print_table(columns, rows)


def _already_wanted(client: SupervisorClient, pipeline: str) -> StreamStatus | None:
    """The stream, if an order to run it stands: another one would take it from who holds it."""
    from headgate.streams.model import Desired, Phase

    try:
        status = client.status(pipeline)
    except NotFoundError:
        return None
    stands = status.desired is Desired.RUNNING and status.phase not in (Phase.PARKED, Phase.RETIRED)
    return status if stands else None


def await_running(client: SupervisorClient, status: StreamStatus, seconds: float) -> StreamStatus:
    """Wait for the driver of the ordered generation to run; a parked stream is an error with its reason."""
    from headgate.streams.model import Desired, Phase

    ordered, limit = status.generation, time.monotonic() + seconds
    if seconds > 0:
        with progress(f"starting {status.stream}, generation {ordered}"):
            while not status.runs(ordered) and time.monotonic() < limit:
                time.sleep(_POLL_SECONDS)
                status = client.status(status.stream)
                over = status.desired is Desired.STOPPED or status.generation != ordered
                if over or status.phase is Phase.PARKED:
                    break
    if status.phase is Phase.PARKED:
        raise HeadgateError(
            f"{status.stream} is parked: {status.reason}",
            help=f"headgate logs {status.stream}; when the cause is gone, headgate restart {status.stream}",
        )
    stands = status.generation == ordered and status.desired is Desired.RUNNING
    if seconds > 0 and stands and not status.runs(ordered):
        say(f"generation {ordered} does not run yet, after {seconds:g} s: headgate events {status.stream}")
    return status


def show_status(status: StreamStatus, as_json: bool) -> None:
    if as_json:
        print_json(status.to_json())
        return
    line = f"{status.stream}: {status.phase}, generation {status.generation}, epoch {status.epoch}"
    out.print(line, markup=False)
    if status.stopped_how:
        say(f"  {_STOPS.get(status.stopped_how, status.stopped_how)}")
    elif status.reason:
        say(f"  {status.reason}")
    for name, text in status.conditions.items():
        say(f"  {name}: {text}")


_STOPS = {
    "committed": "the running batch was committed",
    "killed": "the driver was killed; the batch under way runs again at the next start",
    "interrupted": "the driver ended without committing; a batch under way runs again at the next start",
    "never started": "no driver had been started",
    "nothing ran": "no driver was running",
}


def _event_row(event: Event) -> tuple[object, ...]:
    at = datetime.fromtimestamp(event.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    moved = event.from_phase != event.to_phase
    phase = f"{event.from_phase} → {event.to_phase}" if moved else event.to_phase
    what = event.cause if event.kind == "transition" else event.kind
    return at, what, phase, event.generation, event.epoch, event.actor, event.detail


def read_settings() -> Settings:
    return load_settings()[0]


def supervisor_client(settings: Settings) -> SupervisorClient:
    from headgate.streams.client import client_from

    return client_from(settings)


def applied_hash(settings: Settings, pipeline: str) -> str:
    """The hash of the applied contract. Raises NotFoundError."""
    from headgate.contract.frozen import ContractStore

    return ContractStore(settings.state).current(pipeline).hash


def own_owner() -> Owner:
    from headgate.streams.model import Owner

    return Owner(kind="cli", user=getpass.getuser())
