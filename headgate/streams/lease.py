"""Which of several supervisors on one store acts: one row, taken by compare-and-swap.

Whether a holder still lives is judged by its heart-beat counter standing still for a time that *we*
measure, never by comparing clocks. A holder on this machine whose process is gone is replaced at once.
Each taking raises the lease's epoch, and a supervisor's writes carry it (`StateStore.save`), so a
supervisor that was frozen and comes back is refused by the store itself. A holder on this machine that
is stopped (SIGSTOP) is killed before its lease is taken: it may have been stopped inside a transaction,
and then it holds the write lock of an SQLite store for as long as it exists.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from headgate.streams import tables
from headgate.streams.engine import reading, writing
from headgate.streams.proc import boot_id, kill, read, start_ticks
from headgate.streams.store import StateStore

__all__ = ["Lease", "LeaseRow", "SupervisorLease", "holder_name"]

_ROW = 1


@dataclass(frozen=True, slots=True)
class LeaseRow:
    holder: str
    epoch: int
    beat: int
    renewed: float


@dataclass(frozen=True, slots=True)
class Lease:
    """What a supervisor writes with while it holds the lease."""

    epoch: int


def holder_name(pid: int) -> str:
    """`<host>/<boot>/<pid>/<start>`: names one process for ever."""
    return f"{socket.gethostname()}/{boot_id()}/{pid}/{start_ticks(pid)}"


class SupervisorLease:
    """Taken and kept by calling `hold()` more often than every `ttl` seconds."""

    def __init__(
        self,
        store: StateStore,
        holder: str,
        *,
        ttl: float = 8.0,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._engine = store.engine
        self._holder = holder
        self._ttl = ttl
        self._monotonic = monotonic
        self._wall = wall
        self._seen: tuple[int, int] | None = None  # epoch and beat of another holder …
        self._seen_at = 0.0  # … and when we first saw exactly these
        self._mine: LeaseRow | None = None
        self._renewed_at = 0.0

    def hold(self) -> Lease | None:
        """Renew or take the lease; None while another supervisor holds it.

        A lease renewed within the last quarter of `ttl` is not written again; each write to a stream
        checks it in its own transaction.
        """
        if self._mine is not None and self._monotonic() - self._renewed_at < self._ttl / 4:
            return Lease(self._mine.epoch)
        row = self.look()
        if row is None:
            return self._first()
        if self._mine is not None and (row.epoch, row.holder) == (self._mine.epoch, self._holder):
            return self._swap(row, row.epoch)
        self._mine = None
        if row.holder == "" or self._gone(row):
            _kill_stopped(row.holder)
            return self._swap(row, row.epoch + 1)
        return None

    def release(self) -> None:
        """Let go, so that a successor need not wait."""
        if self._mine is None:
            return
        table = tables.lease
        ours = (table.c.id == _ROW) & (table.c.epoch == self._mine.epoch)
        with writing(self._engine) as connection:
            connection.execute(table.update().where(ours).values(holder=""))
        self._mine = None

    def look(self) -> LeaseRow | None:
        table = tables.lease
        with reading(self._engine) as connection:
            row = connection.execute(sa.select(table).where(table.c.id == _ROW)).mappings().first()
        return LeaseRow(row["holder"], row["epoch"], row["beat"], row["renewed"]) if row else None

    def _gone(self, row: LeaseRow) -> bool:
        if _is_dead_here(row.holder):
            return True
        now = self._monotonic()
        if self._seen != (row.epoch, row.beat):
            self._seen, self._seen_at = (row.epoch, row.beat), now
            return False
        return now - self._seen_at >= self._ttl

    def _first(self) -> Lease | None:
        self._renewed_at = self._monotonic()
        values = LeaseRow(self._holder, 1, 1, self._wall())
        try:
            with writing(self._engine) as connection:
                connection.execute(tables.lease.insert().values(id=_ROW, **_columns(values)))
        except IntegrityError:
            return None
        self._mine = values
        return Lease(values.epoch)

    def _swap(self, seen: LeaseRow, epoch: int) -> Lease | None:
        table = tables.lease
        self._renewed_at = self._monotonic()
        values = LeaseRow(self._holder, epoch, seen.beat + 1, self._wall())
        unchanged = (table.c.id == _ROW) & (table.c.epoch == seen.epoch) & (table.c.beat == seen.beat)
        with writing(self._engine) as connection:
            changed = connection.execute(table.update().where(unchanged).values(**_columns(values)))
        if changed.rowcount != 1:
            self._mine = None
            return None
        self._mine = values
        return Lease(epoch)


def _columns(row: LeaseRow) -> dict[str, object]:
    return {"holder": row.holder, "epoch": row.epoch, "beat": row.beat, "renewed": row.renewed}


def _local_process(holder: str) -> tuple[str, int, int] | None:
    """Boot, process id and start of a holder on this machine; None for one elsewhere or nameless."""
    try:
        host, boot, pid, ticks = holder.split("/")
        number, started = int(pid), int(ticks)
    except ValueError:
        return None
    return (boot, number, started) if host == socket.gethostname() else None


def _is_dead_here(holder: str) -> bool:
    """Whether the holder was a process of this machine that is no more. False when that cannot be known."""
    local = _local_process(holder)
    if local is None:
        return False
    boot, pid, ticks = local
    return boot != boot_id() or start_ticks(pid) != ticks


def _kill_stopped(holder: str) -> None:
    local = _local_process(holder)
    if local is None or local[0] != boot_id():
        return
    process = read(local[1])
    if process is not None and process.ticks == local[2] and process.state in "Tt":
        kill(process.pid, process.ticks)
