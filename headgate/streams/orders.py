"""What an order does to a stream's record: who may give it, and what it changes. No I/O.

An order only changes what is wanted; the machine moves the phase. `ensure` and `restart` are new
generations, `stop` is not: it ends the generation that is there.
"""

from __future__ import annotations

import re
from dataclasses import replace

from headgate.checkpoints.origin import Origin
from headgate.contract.model import PIPELINE
from headgate.errors import NotFoundError, RefusedError, UsageError
from headgate.streams import upgrade
from headgate.streams.model import Desired, Event, Owner, Phase
from headgate.streams.record import Drain, StopCause, StopOrder, StreamRecord, event

__all__ = ["drain", "ensure", "holds", "restart", "retire", "stop"]


def ensure(
    record: StreamRecord | None,
    *,
    stream: str,
    pipeline: str,
    contract_hash: str,
    owner: Owner,
    now: float,
    applied: bool = False,
) -> tuple[StreamRecord, Event]:
    """A new generation that `owner` holds from now on. `applied`: the pipeline's contract is applied."""
    for name in (stream, pipeline):  # both become folders
        if not re.fullmatch(PIPELINE, name):
            raise UsageError(f"{name!r} is not a stream's name", expected=f"a name that matches {PIPELINE}")
    before = record or StreamRecord(stream, pipeline, contract_hash)
    _not_retired(before, applied)
    ordered = replace(_run(before, owner.label), pipeline=pipeline, contract_hash=contract_hash, owner=owner)
    ordered = upgrade.ordered_contract(before, ordered, now)
    return ordered, event(ordered, "order", now, owner.label, "start")


def restart(
    record: StreamRecord | None,
    *,
    stream: str,
    actor: str,
    reason: str,
    owner: Owner,
    contract_hash: str | None,
    now: float,
    applied: bool = False,
    origin: Origin | None = None,
) -> tuple[StreamRecord, Event]:
    """A new generation; the owner stays, unless nobody waits for the stream any more.

    A stream that is stopped or parked has lost its Airflow task (skipped or failed): were that task to
    stay the owner, the reconcile DAG would stop the stream again as an orphan. Then `owner` takes it.
    """
    known = _known(record, stream)
    _not_retired(known, applied)
    waits = known.desired is Desired.RUNNING and known.phase is not Phase.PARKED
    kept = known.owner if known.owner is not None and waits else owner
    ordered = replace(
        _run(known, actor), owner=kept, contract_hash=contract_hash or known.contract_hash, origin=origin
    )
    ordered = upgrade.ordered_contract(known, ordered, now)
    what = f"restart from {origin.told}" if origin else "restart"
    return ordered, event(ordered, "order", now, actor, f"{what}: {reason}" if reason else what)


def stop(
    record: StreamRecord | None,
    *,
    stream: str,
    actor: str,
    reason: str,
    owner: Owner | None,
    generation: int | None,
    kill: bool,
    deadline_seconds: float,
    now: float,
) -> tuple[StreamRecord, Event | None]:
    """Ends what runs. Asked again it changes nothing, but a sooner deadline or a kill is taken over."""
    known = _known(record, stream)
    _fence(known, owner, generation)
    deadline = now if kill else now + deadline_seconds
    why = reason or "stop ordered"
    if known.desired is not Desired.RUNNING:
        if known.stop is None or (known.stop.deadline_at <= deadline and known.stop.kill >= kill):
            return known, None
        sooner = replace(
            known.stop, deadline_at=min(known.stop.deadline_at, deadline), kill=kill or known.stop.kill
        )
        hurried = replace(known, stop=sooner)
        return hurried, event(hurried, "order", now, actor, f"stop sooner: {why}")
    order = StopOrder(StopCause.ORDERED, actor, f"{actor}: {why}", deadline, kill)
    if known.stop is not None:  # a replacement is under way: it goes on, for another end
        order = replace(
            known.stop,
            by=actor,
            reason=order.reason,
            cause=StopCause.ORDERED,
            kill=kill or known.stop.kill,
            deadline_at=min(known.stop.deadline_at, deadline),
        )
    stopped = replace(known, desired=Desired.STOPPED, stopped_by=f"{actor}: {why}", stop=order, drain=None)
    return stopped, event(stopped, "order", now, actor, f"{'kill' if kill else 'stop'}: {why}")


def drain(
    record: StreamRecord | None, *, stream: str, asked: Drain, now: float
) -> tuple[StreamRecord, Event]:
    """Stop once what the topics held is committed; until then, and past the deadline, the stream runs on."""
    known = _known(record, stream)
    if known.desired is not Desired.RUNNING:
        raise RefusedError(
            f"stream {stream} is not wanted to run ({known.phase}): nothing would be drained",
            expected="a stream that runs",
            help=f"headgate start {stream}",
        )
    ordered = replace(known, drain=asked)
    return ordered, event(ordered, "order", now, asked.by, f"drain, then stop: {asked.reason}")


def retire(
    record: StreamRecord | None, *, stream: str, actor: str, reason: str, deadline_seconds: float, now: float
) -> tuple[StreamRecord, Event | None]:
    """End a stream for good: a stop, after which the phase is `retired`. Data and checkpoints stay."""
    known = _known(record, stream)
    if known.phase is Phase.RETIRED or known.desired is Desired.RETIRED:
        return known, None
    why = reason or "retired"
    order = known.stop or StopOrder(StopCause.ORDERED, actor, f"{actor}: {why}", now + deadline_seconds)
    retired = replace(known, desired=Desired.RETIRED, stopped_by=f"{actor}: {why}", stop=order, drain=None)
    return retired, event(retired, "order", now, actor, f"retire: {why}")


def holds(record: StreamRecord, owner: Owner) -> bool:
    """Whether this very owner holds the stream. For Airflow that is one try of one task instance."""
    return record.owner == owner


def _not_retired(record: StreamRecord, applied: bool) -> None:
    """Retiring takes the contract's pointer away at its end; a pointer after that is a new apply."""
    if Phase.RETIRED in (record.phase, record.desired) and not (applied and record.phase is Phase.RETIRED):
        raise RefusedError(
            f"stream {record.stream} is retired: {record.stopped_by}",
            expected="a contract that was applied since",
            help="headgate apply brings it back, then headgate start goes on from its checkpoint",
        )


def _fence(record: StreamRecord, owner: Owner | None, generation: int | None) -> None:
    holder = record.owner.label if record.owner else "nobody"
    if owner is not None and not holds(record, owner):
        raise RefusedError(
            f"stream {record.stream} is held by {holder}, not by {owner.label}",
            expected=f"a stop by the owner of generation {record.generation}, or one without an owner",
            help=f"headgate stop {record.stream}",
        )
    if generation is not None and generation != record.generation:
        raise RefusedError(
            f"stream {record.stream} is at generation {record.generation}, the stop is for {generation}",
            expected=f"generation {record.generation}, ordered by {record.ordered_by}",
            help=f"headgate stop {record.stream}",
        )


def _run(record: StreamRecord, by: str) -> StreamRecord:
    pending = record.stop if record.phase is Phase.STOPPING else None
    return replace(
        record,
        desired=Desired.RUNNING,
        generation=record.generation + 1,
        ordered_by=by,
        stop=pending,
        stopped_by=None,
        stopped_how=None,
        next_attempt_at=None,
        drain=None,
        origin=None,  # it goes with its own generation, and only with that
    )


def _known(record: StreamRecord | None, stream: str) -> StreamRecord:
    if record is None:
        raise NotFoundError(
            f"there is no stream {stream!r}",
            expected="a stream that was started before",
            help="headgate status",
        )
    return record
