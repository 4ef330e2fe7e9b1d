"""Log lines made up for a text contract: `log message at 2023-10-01 12:00:00`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from headgate.contract.model import Source
from headgate.errors import RefusedError
from producers.event_times import LineTimes, event_time_column
from producers.inputs import Outgoing
from producers.values import written_time

__all__ = ["log_lines"]


def log_lines(source: Source, *, now: Callable[[], datetime]) -> Iterator[Outgoing]:
    """Lines without end. Raises RefusedError when the contract could not read their times."""
    column = event_time_column(source)
    first = _line(written_time(column, now()))
    if column is not None and LineTimes(source, column).micros(first) is None:
        raise RefusedError(
            f"the lines that are made up, such as {first.decode()!r}, do not fit the contract's pattern",
            expected=f"lines in which {source.pattern!r} finds the time",
            help="send a file: headgate produce PIPELINE --from-file FILE",
        )

    def lines() -> Iterator[Outgoing]:
        while True:
            yield Outgoing(_line(written_time(column, now())))

    return lines()


def _line(time: object) -> bytes:
    return f"log message at {time}".encode()
