"""A person's yes, before something is done that cannot be taken back by doing nothing."""

from __future__ import annotations

import sys

import typer

from headgate.cli.output import err, say
from headgate.errors import RefusedError

__all__ = ["confirm"]


def confirm(question: str, *, yes: bool, command: str) -> None:
    """Ask on a terminal; without one `--yes` must have been given. Raises RefusedError."""
    if yes:
        return
    if not (sys.stdin.isatty() and err.is_terminal):
        raise RefusedError(
            f"{question} Nobody can be asked here",
            expected="a terminal, or --yes from somebody who has read the above",
            help=f"{command} --yes",
        )
    if not typer.confirm(question, default=False, err=True):
        say("nothing was done")
        raise typer.Exit(1)
