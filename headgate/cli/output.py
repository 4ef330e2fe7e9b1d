"""What the commands print: data to stdout, talk to stderr, JSON when it is asked for."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from headgate.errors import RefusedError

__all__ = ["confirm", "err", "out", "print_json", "print_table", "progress", "reader_gone", "say", "write"]

UNFOLDED = 400


class _Console(Console):
    def on_broken_pipe(self) -> None:
        silence()  # Rich would end the command, with 1


out = _Console(file=None, highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)
_silenced = False


def silence() -> None:
    """Whoever reads stdout has read enough (`headgate logs | head`): the command goes on to its own end, and
    its exit code still says what it found."""
    global _silenced  # noqa: PLW0603 -- there is one stdout
    _silenced = True
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def reader_gone() -> bool:
    """What would print for ever ends then."""
    return _silenced


def write(text: str) -> None:
    """Text to stdout as it is."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        silence()


def say(message: str) -> None:
    """Talk to the person, on stderr, without markup."""
    err.print(message, markup=False)


def confirm(question: str, *, yes: bool) -> None:
    """Go on only when a person says so, or said it with `--yes`. Raises RefusedError."""
    if yes:
        return
    if not (sys.stdin.isatty() and err.is_terminal):
        raise RefusedError(
            "this is not done without being confirmed, and there is no terminal to ask on",
            help="look at what it says above, then give --yes",
        )
    say(f"{question} [y/N]")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise RefusedError("it was not confirmed; nothing was changed")


def print_json(data: Any) -> None:
    write(json.dumps(data, indent=2, default=str) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    # Into a pipe or a file nothing is folded: addresses stay whole and `grep` finds them.
    target = out if out.is_terminal else _Console(width=UNFOLDED, highlight=False, soft_wrap=True)
    target.print(table, markup=False)


@contextmanager
def progress(message: str) -> Iterator[None]:
    """Show that something runs: a spinner on a terminal, one line otherwise."""
    if err.is_terminal:
        with err.status(message):
            yield
    else:
        say(f"{message} …")
        yield
