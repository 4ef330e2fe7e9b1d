"""What the HTTP API offers, without HTTP: orders to streams, and their status."""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

from headgate.checkpoints.origin import Origin
from headgate.errors import NotFoundError, UnavailableError, UsageError
from headgate.streams import orders
from headgate.streams.drain import EndsOf
from headgate.streams.model import Desired, Event, Owner, Phase, StreamStatus
from headgate.streams.record import Drain, StreamRecord, event
from headgate.streams.statements import Order
from headgate.streams.store import StateStore
from headgate.streams.supervisor import Supervisor
from headgate.streams.transitions import Actor, actor_kind

__all__ = ["DrainRequest", "StopRequest", "StreamService"]


@dataclass(frozen=True, slots=True)
class StopRequest:
    actor: str
    reason: str
    deadline_seconds: float
    kill: bool = False
    owner: Owner | None = None
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class DrainRequest:
    actor: str
    reason: str
    deadline_seconds: float
    stop_seconds: float


class StreamService:
    def __init__(
        self,
        store: StateStore,
        supervisor: Supervisor,
        *,
        wall: Callable[[], float] = time.time,
        ends: EndsOf = lambda _contract: {},
        applied: Callable[[], Container[str]] = tuple,
    ) -> None:
        """`ends` asks Kafka where a contract's topics end, `applied` which pipelines have a contract."""
        self._ends = ends
        self._applied = applied
        self._store = store
        self._supervisor = supervisor
        self._wall = wall

    def statuses(self) -> list[StreamStatus]:
        return [self._status(record) for record in self._store.streams()]

    def status(self, stream: str) -> StreamStatus:
        """Raises NotFoundError."""
        record = self._store.stream(stream)
        if record is None:
            raise NotFoundError(
                f"there is no stream {stream!r}",
                expected="a stream that was started before",
                help=f"headgate start {stream}",
            )
        return self._status(record)

    def events(self, stream: str, after: int, limit: int) -> list[Event]:
        self.status(stream)
        return self._store.events(stream, after=after, limit=limit)

    def ensure(
        self, stream: str, *, pipeline: str, contract_hash: str, owner: Owner, key: str
    ) -> StreamStatus:
        """A new generation held by `owner`, or for a key that was used the stream as it is."""
        _check_actor(owner.label)

        def change(record: StreamRecord | None) -> tuple[StreamRecord, Event | None]:
            return orders.ensure(
                record,
                stream=stream,
                pipeline=pipeline,
                contract_hash=contract_hash,
                owner=owner,
                now=self._wall(),
                applied=pipeline in self._applied(),
            )

        return self._order(stream, Order("ensure", change, key, owner))

    def restart(
        self,
        stream: str,
        *,
        actor: str,
        reason: str,
        owner: Owner,
        contract_hash: str | None,
        key: str,
        origin: Origin | None = None,
    ) -> StreamStatus:
        _check_actor(actor)

        def change(record: StreamRecord | None) -> tuple[StreamRecord, Event | None]:
            return orders.restart(
                record,
                stream=stream,
                actor=actor,
                reason=reason,
                owner=owner,
                contract_hash=contract_hash,
                now=self._wall(),
                applied=record is not None and record.pipeline in self._applied(),
                origin=origin,
            )

        return self._order(stream, Order("restart", change, key))

    def stop(self, stream: str, request: StopRequest) -> StreamStatus:
        _check_actor(request.actor)

        def change(record: StreamRecord | None) -> tuple[StreamRecord, Event | None]:
            return orders.stop(
                record,
                stream=stream,
                actor=request.actor,
                reason=request.reason,
                owner=request.owner,
                generation=request.generation,
                kill=request.kill,
                deadline_seconds=request.deadline_seconds,
                now=self._wall(),
            )

        return self._order(stream, Order("stop", change))

    def drain(self, stream: str, request: DrainRequest) -> StreamStatus:
        """Stop once what the topics hold now is committed. KafkaUnavailable: nothing is ordered."""
        _check_actor(request.actor)
        self._leading()
        record = self._store.stream(stream)
        ends = self._ends(record.contract_hash) if record is not None else {}

        def change(record: StreamRecord | None) -> tuple[StreamRecord, Event | None]:
            now = self._wall()
            deadline = now + request.deadline_seconds
            why = request.reason or "drained"
            asked = Drain(request.actor, why, deadline, request.stop_seconds, ends)
            return orders.drain(record, stream=stream, asked=asked, now=now)

        return self._order(stream, Order("drain", change))

    def retire(self, stream: str, *, actor: str, reason: str, deadline_seconds: float) -> StreamStatus:
        """End a stream for good; its data and checkpoints stay."""
        _check_actor(actor)

        def change(record: StreamRecord | None) -> tuple[StreamRecord, Event | None]:
            return orders.retire(
                record,
                stream=stream,
                actor=actor,
                reason=reason,
                deadline_seconds=deadline_seconds,
                now=self._wall(),
            )

        return self._order(stream, Order("retire", change))

    def suspend(self, actor: str) -> list[StreamStatus]:
        """Stop all drivers and start none, while what is desired stays as it is."""
        return self._platform(actor, "suspend", self._supervisor.suspend)

    def resume(self, actor: str) -> list[StreamStatus]:
        return self._platform(actor, "resume", self._supervisor.resume)

    def _platform(self, actor: str, kind: str, act: Callable[[], None]) -> list[StreamStatus]:
        _check_actor(actor)
        self._leading()
        act()
        for record in self._store.streams():
            self._store.append(event(record, kind, self._wall(), actor, f"the platform: {kind}"))
        return self.statuses()

    def _order(self, stream: str, order: Order) -> StreamStatus:
        record = self._store.order(stream, order, lease_epoch=self._leading())
        self._supervisor.wake()
        return self._status(record)

    def _leading(self) -> int:
        epoch = self._supervisor.lease_epoch
        if epoch is None:
            raise UnavailableError(
                "this supervisor is on standby: another one holds the lease on the store",
                expected="the address of the supervisor that leads",
                help="headgate doctor",
            )
        return epoch

    def _status(self, record: StreamRecord) -> StreamStatus:
        look = self._supervisor.last_look(record.stream)
        phase, reason = record.phase, record.reason
        if _about_to_start(record):
            # The order is accepted and its first step is moments away: what the stream rested in is over.
            waits = "the platform is suspended" if self._supervisor.suspended else "preflight looks first"
            phase, reason = Phase.STARTING, f"generation {record.generation} was ordered; {waits}"
        return StreamStatus(
            stream=record.stream,
            pipeline=record.pipeline,
            phase=phase,
            desired=record.desired,
            generation=record.generation,
            epoch=record.epoch,
            contract_hash=record.contract_hash,
            owner=record.owner,
            reason=reason,
            failure_class=record.failure_class,
            consecutive_failures=len(record.failures),
            restarts=record.restarts,
            next_attempt_at=record.next_attempt_at,
            phase_since=record.phase_since,
            stopped_by=record.stopped_by,
            stopped_how=record.stopped_how,
            driver=look[0].report if look else None,
            driver_alive=look[0].alive if look else None,
            draining=_draining(record, look[0].seen.left if look else None),
            conditions=look[1] if look else {},
        )


def _draining(record: StreamRecord, left: int | None) -> dict[str, Any] | None:
    drain = record.drain
    if drain is None:
        return None
    return {"left": left, "deadline_at": drain.deadline_at, "by": drain.by, "given_up": drain.given_up}


def _about_to_start(record: StreamRecord) -> bool:
    """An order that nothing has been done for yet; one that waits for a dependency has its next attempt."""
    rests = record.phase in (Phase.STOPPED, Phase.BACKOFF, Phase.PARKED)
    fresh = record.superseded and record.next_attempt_at is None
    return rests and fresh and record.desired is Desired.RUNNING


def _check_actor(actor: str) -> None:
    if not actor.strip() or actor_kind(actor) not in (Actor.PERSON, Actor.AIRFLOW):
        raise UsageError(f"{actor!r} cannot give orders", expected="airflow:<task> or cli:<user>")
