"""`headgate logs`: the log of a stream's driver or of a service."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from headgate.cli.output import out, print_table, reader_gone, say
from headgate.errors import NotFoundError, UsageError
from headgate.settings import load_settings
from headgate.suggest import closest

__all__ = ["log_of", "register"]

_POLL_SECONDS = 0.5


def register(app: typer.Typer) -> None:
    """Add this part's verb."""
    app.command()(logs)


def logs(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A pipeline, or a service such as kafka; without it, what has a log."
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as it grows.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="The last so many lines.")] = 100,
) -> None:
    """The log of a stream's driver, or of a service of `headgate up`.

    A name that is both is the stream's.
    """
    state = load_settings()[0].state
    if name is None:
        if follow:
            raise UsageError("`--follow` needs the name of one log", help="headgate logs")
        _list(state)
        return
    path = log_of(state, name)
    shown, position = _tail(path, lines)
    for line in shown:
        out.print(line, markup=False)
    if follow and not reader_gone():
        for line in _follow(path, position):
            out.print(line, markup=False)
            if reader_gone():
                break


def log_of(state: Path, name: str) -> Path:
    """The file behind a name, which is only ever one that is there. Raises NotFoundError."""
    from headgate.contract.frozen import ContractStore

    folder, known = state / "log", _logs(state)
    if name in known:
        return known[name]
    applied = ContractStore(state).applied()
    if name in applied:
        path = folder / "streams" / f"{name}.log"
        raise NotFoundError(f"{name} has no log yet", expected=f"{path}", help=f"headgate start {name}")
    close = closest(name, sorted({*known, *applied}))
    raise NotFoundError(
        f"no pipeline and no service {name!r} has a log",
        expected=f"one of {', '.join(sorted(known))}" if known else f"logs in {folder}: nothing has run yet",
        help=f"did you mean {close}?" if close else "headgate status shows the pipelines",
    )


def _logs(state: Path) -> dict[str, Path]:
    folder = state / "log"
    return {path.stem: path for path in [*folder.glob("*.log"), *(folder / "streams").glob("*.log")]}


def _list(state: Path) -> None:
    folder = state / "log"
    rows = []
    for kind, found in (("stream", folder / "streams"), ("service", folder)):
        for path in sorted(found.glob("*.log")):
            with suppress(FileNotFoundError):  # rotated away meanwhile
                rows.append((path.stem, kind, f"{path.stat().st_size:,}", path))
    if rows:
        print_table(("NAME", "OF A", "BYTES", "FILE"), rows)
    else:
        say(f"nothing has run yet: {folder} has no logs")


def _tail(path: Path, lines: int) -> tuple[list[str], int]:
    """The last lines, read from the end since a log may be large, and the position behind them."""
    with path.open("rb") as stream:
        position = end = stream.seek(0, 2)
        block, data = 65_536, b""
        while lines > 0 and end > 0 and data.count(b"\n") <= lines:
            start_at = max(end - block, 0)
            stream.seek(start_at)
            data = stream.read(end - start_at) + data
            end = start_at
    shown = data.decode("utf-8", errors="replace").splitlines()
    return (shown[-lines:] if lines else []), position


def _follow(path: Path, position: int) -> Iterator[str]:
    """New lines as they come, from a position on; when a log is rotated away, its successor is next."""
    stream = path.open("rb")
    stream.seek(position)
    begun = b""
    while True:
        begun += stream.readline()
        if begun.endswith(b"\n"):
            yield begun.decode("utf-8", errors="replace").rstrip("\n")
            begun = b""
            continue
        time.sleep(_POLL_SECONDS)
        try:
            now = path.stat()
        except FileNotFoundError:
            continue
        if now.st_ino != _inode(stream) or now.st_size < stream.tell():
            stream.close()
            stream, begun = path.open("rb"), b""


def _inode(stream: BinaryIO) -> int:
    return os.fstat(stream.fileno()).st_ino
