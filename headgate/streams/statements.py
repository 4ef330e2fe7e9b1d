"""The statements that change a stream, each inside a transaction of the caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import sqlalchemy as sa

from headgate.errors import HeadgateError, RefusedError
from headgate.streams import tables
from headgate.streams.model import Event, Owner
from headgate.streams.record import Ending, StreamRecord
from headgate.streams.rows import event_row, owner_text, record_from, record_row

__all__ = ["Change", "Order", "StaleRecord", "carry_out", "close_incarnation", "read_stream", "swap"]

Change = Callable[[StreamRecord | None], tuple[StreamRecord, Event | None]]


class StaleRecord(HeadgateError):
    """Somebody else changed the stream since it was read."""


def read_stream(connection: sa.Connection, stream: str) -> StreamRecord | None:
    query = sa.select(tables.streams).where(tables.streams.c.stream == stream)
    row = connection.execute(query).mappings().first()
    return record_from(row) if row else None


def swap(connection: sa.Connection, before: StreamRecord | None, after: StreamRecord) -> StreamRecord:
    table = tables.streams
    if before is None:
        first = replace(after, version=1)
        connection.execute(table.insert().values(**record_row(first)))
        return first
    saved = replace(after, version=before.version + 1)
    match = (table.c.stream == before.stream) & (table.c.version == before.version)
    changed = connection.execute(table.update().where(match).values(**record_row(saved)))
    if changed.rowcount != 1:
        raise StaleRecord(f"stream {before.stream} was changed by somebody else since it was read")
    return saved


def close_incarnation(connection: sa.Connection, stream: str, epoch: int, ending: Ending, at: float) -> None:
    table = tables.incarnations
    open_row = (table.c.stream == stream) & (table.c.epoch == epoch) & table.c.ended_at.is_(None)
    connection.execute(
        table.update()
        .where(open_row)
        .values(
            ended_at=at,
            how=ending.how,
            returncode=ending.returncode,
            signal=ending.signal,
            failure_class=str(ending.failure) if ending.failure else None,
            text=ending.text,
        )
    )


@dataclass(frozen=True, slots=True)
class Order:
    """A change that somebody asks for; `key` makes the same request one request."""

    kind: str
    change: Change
    key: str | None = None
    owner: Owner | None = None


def carry_out(connection: sa.Connection, stream: str, order: Order) -> StreamRecord:
    """Apply an order inside the caller's transaction, or answer a repeated one."""
    before = read_stream(connection, stream)
    if before is not None and order.key is not None:
        earlier = _earlier(connection, stream, order.key)
        if earlier is not None:
            return _repeated(before, earlier, order.owner)
    after, event = order.change(before)
    if before is not None and after == before:
        return before
    saved = swap(connection, before, after)
    if order.key is not None:
        row = {
            "stream": stream,
            "key": order.key,
            "generation": saved.generation,
            "kind": order.kind,
            "owner": owner_text(saved.owner) if saved.owner else "{}",
            "contract_hash": saved.contract_hash,
            "at": event.at if event else 0.0,
        }
        connection.execute(tables.orders.insert().values(**row))
    if event is not None:
        connection.execute(tables.events.insert().values(**event_row(event)))
    return saved


def _earlier(connection: sa.Connection, stream: str, key: str) -> int | None:
    """The generation that an order with this key became."""
    table = tables.orders
    same = sa.select(table.c.generation).where(table.c.stream == stream, table.c.key == key)
    return connection.execute(same).scalar()


def _repeated(record: StreamRecord, earlier: int, owner: Owner | None) -> StreamRecord:
    """The stream as it is, unless another owner holds it: whoever repeats must not think it is theirs."""
    holder = owner_text(record.owner) if record.owner else "{}"
    if owner is not None and holder != owner_text(owner):
        raise RefusedError(
            f"stream {record.stream}: this order became generation {earlier}; since then "
            f"{record.ordered_by} has ordered generation {record.generation}",
            expected="a new order, with an idempotency key of its own",
            help=f"headgate events {record.stream}",
        )
    return record
