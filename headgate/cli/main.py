"""The `headgate` command. Each part registers its verbs; errors become text and an exit code here.

Exit codes: 0 done · 1 failed, also by what nobody foresaw · 2 plan has changes · 3 refused ·
4 not found · 64 usage · 65 contract · 69 a service does not answer · 70 a service answered with an error ·
78 settings.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Annotated

import typer

from headgate import __version__
from headgate.address import masked
from headgate.cli.output import say
from headgate.errors import HeadgateError

__all__ = ["build_app", "main"]

# Modules with a `register(app)`, in the order of `headgate --help`.
COMMAND_MODULES = (
    "headgate.cli.platform",  # up, down, urls, doctor
    "headgate.cli.planning",  # plan, apply, schema
    "headgate.cli.preflight",  # preflight
    "headgate.cli.status",  # status
    "headgate.cli.streams",  # start, stop, retire, events, supervisor
    "headgate.cli.restart",  # restart
    "headgate.cli.snapshots",  # snapshot, operations
    "headgate.cli.replay",  # replay
    "headgate.cli.logs",  # logs
    "headgate.cli.results",  # produce, tail, serve
    "headgate.cli.quality",  # check, audit, quarantine
    "headgate.cli.monitoring",  # exporter
    "headgate.cli.torture",  # torture
)
# What runs for days: `headgate up` starts them, with a log as their stderr.
SERVICES = frozenset({"supervisor", "exporter", "serve", "produce"})
USAGE = 64
# Typer brings its own copy of Click and exports only the leaves of its error tree.
_CliUsageError: type[Exception] = typer.BadParameter.__mro__[1]
_CliError: type[Exception] = typer.BadParameter.__mro__[2]


def build_app() -> typer.Typer:
    app = typer.Typer(
        name="headgate",
        help="Streams from one YAML contract each: topics, Spark job, quality, metrics, alerts.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    for name in COMMAND_MODULES:
        importlib.import_module(name).register(app)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headgate {__version__}")
        raise typer.Exit


def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    if debug:
        os.environ["HEADGATE_DEBUG"] = "1"
    del version  # its callback has answered


def main() -> None:
    """Run the command line; never shows a traceback unless `--debug` or HEADGATE_DEBUG asks for it."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and give its exit code; what nobody foresaw is one line as well."""
    try:
        return _run(arguments)
    except Exception as error:
        # No error of ours, so none says what to do next: the place in the code is what helps.
        if os.environ.get("HEADGATE_DEBUG"):
            raise
        if not SERVICES.isdisjoint(arguments[:1]) and not sys.stderr.isatty():
            # A service's stderr is its log, and it will not fail in the same way for whoever asks again.
            traceback.print_exception(error)
        say(f"error: {_in_a_line(error)}; `headgate --debug …` shows where")
        return 1


def _run(arguments: list[str]) -> int:
    try:
        result = build_app()(arguments, standalone_mode=False)
    except HeadgateError as error:
        if os.environ.get("HEADGATE_DEBUG"):
            raise
        say(f"error: {error}")
        return error.exit_code
    except _CliUsageError as error:
        _show(error)
        return USAGE
    except _CliError as error:
        _show(error)
        return 1
    except (typer.Abort, KeyboardInterrupt):
        say("interrupted")
        return 130
    return result if isinstance(result, int) else 0


def _in_a_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return ": ".join([error.strerror, *([str(error.filename)] if error.filename else [])])
    lines = str(error).strip().splitlines()
    return masked(": ".join([type(error).__name__, *lines[:1]]))


def _show(error: BaseException) -> None:
    show = getattr(error, "show", None)
    if callable(show):
        show()
