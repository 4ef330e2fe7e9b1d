"""Operations: what is done once to a stream, beside its phase, with a small life of its own.

    requested → running → done | failed
    of a replay, from there: → swapping → swapped | done, and → discarding → discarded from anywhere

One row each in the store, named by what it makes; asked for again under the same name it is the same
operation. Each change is an event of the stream too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from headgate.errors import HeadgateError
from headgate.streams import tables
from headgate.streams.engine import reading, writing
from headgate.streams.record import event
from headgate.streams.rows import event_row
from headgate.streams.statements import read_stream
from headgate.streams.store import StateStore

__all__ = [
    "NEXT",
    "IllegalOperation",
    "Operation",
    "note",
    "operation_of",
    "operations_in",
    "operations_of",
]

# From a state to those that may follow it; a name that was never seen may begin anywhere.
NEXT = {
    "requested": frozenset({"requested", "running", "done", "failed"}),
    "running": frozenset({"running", "done", "failed"}),
    "done": frozenset({"done"}),
    "failed": frozenset({"failed", "running", "requested"}),
}
_NEXT_OF_REPLAY = {
    **{state: following | {"discarding"} for state, following in NEXT.items()},
    "done": frozenset({"done", "swapping", "discarding"}),
    "swapping": frozenset({"swapping", "swapped", "done"}),
    "swapped": frozenset({"swapped", "swapping", "discarding"}),
    "discarding": frozenset({"discarding", "discarded"}),
    "discarded": frozenset({"discarded"}),
}


class IllegalOperation(HeadgateError):
    """An operation does not go from where it is to there."""


@dataclass(frozen=True, slots=True)
class Operation:
    stream: str
    kind: str  # snapshot | upgrade | replay
    name: str
    state: str
    actor: str
    requested_at: float
    changed_at: float
    detail: str = ""


def note(
    store: StateStore,
    stream: str,
    kind: str,
    name: str,
    state: str,
    *,
    actor: str,
    at: float,
    detail: str = "",
) -> Operation:
    """Move an operation on, and say so in the stream's events. Raises IllegalOperation."""
    table = tables.operations
    same = (table.c.stream == stream) & (table.c.kind == kind) & (table.c.name == name)
    with writing(store.engine) as connection:
        row = connection.execute(sa.select(table).where(same)).mappings().first()
        before = Operation(**row) if row is not None else None
        following = _NEXT_OF_REPLAY if kind == "replay" else NEXT
        if before is not None and state not in following[before.state]:
            raise IllegalOperation(f"the {kind} {name} of {stream} is {before.state}, and cannot be {state}")
        if before is not None and (before.state, before.detail) == (state, detail):
            return before
        begun = before.requested_at if before is not None else at
        after = Operation(stream, kind, name, state, before.actor if before else actor, begun, at, detail)
        values = {column.name: getattr(after, column.name) for column in table.c}
        if before is None:
            connection.execute(table.insert().values(**values))
        else:
            connection.execute(table.update().where(same).values(**values))
        _told(connection, after)
    return after


def operations_of(store: StateStore, stream: str, limit: int = 100) -> list[Operation]:
    """The newest first."""
    table = tables.operations
    query = sa.select(table).where(table.c.stream == stream).order_by(table.c.changed_at.desc()).limit(limit)
    with reading(store.engine) as connection:
        return [Operation(**row) for row in connection.execute(query).mappings()]


def operations_in(store: StateStore, kind: str, states: Sequence[str]) -> list[Operation]:
    """Those of all streams that are in one of these states, the oldest first."""
    table = tables.operations
    query = sa.select(table).where((table.c.kind == kind) & table.c.state.in_(states))
    with reading(store.engine) as connection:
        rows = connection.execute(query.order_by(table.c.requested_at, table.c.name)).mappings()
        return [Operation(**row) for row in rows]


def operation_of(store: StateStore, stream: str, kind: str, name: str) -> Operation | None:
    table = tables.operations
    same = (table.c.stream == stream) & (table.c.kind == kind) & (table.c.name == name)
    with reading(store.engine) as connection:
        row = connection.execute(sa.select(table).where(same)).mappings().first()
        return Operation(**row) if row is not None else None


def _told(connection: sa.Connection, operation: Operation) -> None:
    """An event of the stream, where there is one: a pipeline may have snapshots before its first order."""
    record = read_stream(connection, operation.stream)
    if record is None:
        return
    what = f"{operation.kind} {operation.name} {operation.state}"
    text = f"{what}: {operation.detail}" if operation.detail else what
    happened = event(record, "operation", operation.changed_at, operation.actor, text)
    connection.execute(tables.events.insert().values(**event_row(happened)))
