"""The state store: what is wanted, what runs, what happened. SQLite in the embedded mode, or Postgres.

Writes are compare-and-swap: a stream's row carries a version, and who read an older one is refused with
StaleRecord and reads again. With a lease given, a write of a supervisor that lost its lease is refused
in the same transaction. Nothing here acts on processes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from headgate.errors import HeadgateError
from headgate.streams import tables
from headgate.streams.engine import make_engine, reading, writing
from headgate.streams.model import Event
from headgate.streams.record import Ending, Incarnation, StreamRecord
from headgate.streams.rows import event_from, event_row, incarnation_from, incarnation_row, record_from
from headgate.streams.statements import Order, StaleRecord, carry_out, close_incarnation, read_stream, swap

if TYPE_CHECKING:
    from headgate.quality.verdict import Verdict

__all__ = ["LeaseLost", "StateStore"]

_ATTEMPTS = 20


class LeaseLost(HeadgateError):
    """Another supervisor acts on this store now."""


class StateStore:
    """All processes of an installation may open it; only supervisors change streams."""

    def __init__(self, url: str) -> None:
        self._engine = make_engine(url)
        with writing(self._engine):
            pass  # a store that cannot be reached says so here, in our words
        tables.migrate(self._engine)

    @property
    def engine(self) -> sa.Engine:
        return self._engine

    def close(self) -> None:
        self._engine.dispose()

    # Streams

    def streams(self) -> list[StreamRecord]:
        """All streams in the order of their names."""
        with reading(self._engine) as connection:
            found = connection.execute(sa.select(tables.streams).order_by(tables.streams.c.stream))
            return [record_from(row) for row in found.mappings()]

    def stream(self, stream: str) -> StreamRecord | None:
        with reading(self._engine) as connection:
            return read_stream(connection, stream)

    def save(
        self,
        before: StreamRecord,
        after: StreamRecord,
        *,
        events: Sequence[Event] = (),
        begun: Incarnation | None = None,
        ended: Ending | None = None,
        at: float = 0.0,
        lease_epoch: int | None = None,
    ) -> StreamRecord:
        """Write a record over the one that was read, with what belongs to it, or raise StaleRecord.

        `ended` closes the row of the epoch that `before` names, `begun` opens that of the next one.
        """
        with writing(self._engine) as connection:
            self.check_lease(connection, lease_epoch)
            saved = swap(connection, before, after)
            if ended is not None:
                close_incarnation(connection, before.stream, before.epoch, ended, at)
            if begun is not None:
                connection.execute(tables.incarnations.insert().values(**incarnation_row(begun)))
            for event in events:
                connection.execute(tables.events.insert().values(**event_row(event)))
            return saved

    def order(self, stream: str, order: Order, *, lease_epoch: int | None = None) -> StreamRecord:
        """Apply an order to a stream; one whose key was used before changes nothing.

        Such a repeated order is answered with the stream as it is, or refused (RefusedError) if another
        owner has ordered it since.
        """
        for _ in range(_ATTEMPTS):
            try:
                with writing(self._engine) as connection:
                    self.check_lease(connection, lease_epoch)
                    return carry_out(connection, stream, order)
            except (StaleRecord, IntegrityError):
                continue
        raise StaleRecord(f"stream {stream}: others kept changing it", help="try again")

    # Incarnations

    def incarnation(self, stream: str, epoch: int) -> Incarnation | None:
        table = tables.incarnations
        query = sa.select(table).where(table.c.stream == stream, table.c.epoch == epoch)
        with reading(self._engine) as connection:
            row = connection.execute(query).mappings().first()
            return incarnation_from(row) if row else None

    def incarnations(self, stream: str, limit: int = 50) -> list[Incarnation]:
        """The newest first."""
        table = tables.incarnations
        query = sa.select(table).where(table.c.stream == stream).order_by(table.c.epoch.desc()).limit(limit)
        with reading(self._engine) as connection:
            return [incarnation_from(row) for row in connection.execute(query).mappings()]

    def note_processes(self, incarnation: Incarnation, *, lease_epoch: int | None = None) -> None:
        """Keep the process ids of an incarnation, as its runner wrote them."""
        table = tables.incarnations
        names = ("runner_pid", "runner_start", "driver_pid", "driver_start", "driver_ticks", "boot_id")
        row = incarnation_row(incarnation)
        change = (
            table.update()
            .where(table.c.stream == incarnation.stream, table.c.epoch == incarnation.epoch)
            .values(**{name: row[name] for name in names})
        )
        with writing(self._engine) as connection:
            self.check_lease(connection, lease_epoch)
            connection.execute(change)

    # Events

    def append(self, event: Event) -> None:
        with writing(self._engine) as connection:
            connection.execute(tables.events.insert().values(**event_row(event)))

    def events(self, stream: str | None = None, *, after: int = 0, limit: int = 200) -> list[Event]:
        """In the order of their ids; with `after` < 0 the newest `limit` ones."""
        table = tables.events
        query = sa.select(table)
        if stream is not None:
            query = query.where(table.c.stream == stream)
        if after < 0:
            query = query.order_by(table.c.id.desc()).limit(limit)
        else:
            query = query.where(table.c.id > after).order_by(table.c.id).limit(limit)
        with reading(self._engine) as connection:
            found = [event_from(row) for row in connection.execute(query).mappings()]
        return found[::-1] if after < 0 else found

    # Verdicts and topics

    def record_verdict(self, verdict: Verdict) -> None:
        with writing(self._engine) as connection:
            connection.execute(
                tables.verdicts.insert().values(
                    pipeline=verdict.pipeline,
                    output=verdict.output,
                    status=str(verdict.status),
                    severity=str(verdict.severity),
                    at=verdict.at,
                    document=json.dumps(verdict.to_json()),
                )
            )

    def latest_verdicts(self, pipeline: str) -> list[Verdict]:
        """The newest verdict of each output, in the order of the outputs' names."""
        from headgate.quality.verdict import Verdict

        table = tables.verdicts
        newest = (
            sa.select(sa.func.max(table.c.id).label("id"))
            .where(table.c.pipeline == pipeline)
            .group_by(table.c.output)
            .subquery()
        )
        query = sa.select(table.c.document).join(newest, table.c.id == newest.c.id).order_by(table.c.output)
        with reading(self._engine) as connection:
            return [Verdict.from_json(json.loads(text)) for text in connection.execute(query).scalars()]

    def topic_id(self, topic: str) -> str | None:
        query = sa.select(tables.topics.c.topic_id).where(tables.topics.c.topic == topic)
        with reading(self._engine) as connection:
            return connection.execute(query).scalar()

    def topic_since(self, topic: str) -> float:
        """When the id that a topic has now was noted; 0 for an unknown one."""
        query = sa.select(tables.topics.c.at).where(tables.topics.c.topic == topic)
        with reading(self._engine) as connection:
            return float(connection.execute(query).scalar() or 0.0)

    def topic_owner(self, topic: str) -> str | None:
        """The pipeline that provisions a topic which was applied."""
        query = sa.select(tables.topics.c.pipeline).where(tables.topics.c.topic == topic)
        with reading(self._engine) as connection:
            return connection.execute(query).scalar()

    def remember_topic(self, topic: str, topic_id: str, pipeline: str, at: float = 0.0) -> None:
        """Note the id that Kafka gave a topic; the same name with another id later is another topic."""
        table = tables.topics
        values = {"topic_id": topic_id, "pipeline": pipeline, "at": at}
        with writing(self._engine) as connection:
            changed = connection.execute(table.update().where(table.c.topic == topic).values(**values))
            if not changed.rowcount:
                connection.execute(table.insert().values(topic=topic, **values))

    def check_lease(self, connection: sa.Connection, epoch: int | None) -> None:
        """Refuse the transaction of a supervisor whose lease is gone; locks the lease's row meanwhile."""
        if epoch is None:
            return
        table = tables.lease
        held = connection.execute(table.update().where(table.c.epoch == epoch).values(epoch=epoch))
        if held.rowcount != 1:
            raise LeaseLost("another supervisor has taken the lease on this store")
