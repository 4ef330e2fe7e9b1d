"""`headgate torture`."""

from __future__ import annotations

import secrets
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.output import out, print_json, print_table, say
from headgate.errors import UsageError
from headgate.settings import load_settings

if TYPE_CHECKING:
    from headgate.torture.outcome import Outcome
    from headgate.torture.run import Report

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this part's verb."""
    app.command("torture")(_torture)


def _torture(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", show_default=False)],
    *,
    seed: Annotated[int | None, typer.Option("--seed", help="Repeats a run; random by default.")] = None,
    kills: Annotated[int, typer.Option("--kills", help="How many faults.")] = 5,
    from_file: Annotated[
        Path | None, typer.Option("--from-file", help="Its lines are the records, in event time's order.")
    ] = None,
    records: Annotated[int, typer.Option("--records", help="How many records are made, at least.")] = 5000,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the private copy when all holds.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Kill a private copy of a pipeline at random, then prove that nothing was lost or doubled.

    The copy has its own broker, Redis, supervisor, topics, checkpoints and tables on free ports, from the
    contract's file as it is now; what runs is not touched. Every second seed has a driver in reserve. Exit
    codes: 0 every proof holds, 1 one does not or the stream did not go on (the copy is kept), 3 refused, 65
    contract errors.
    """
    from headgate.torture.run import Request, torture

    if kills < 0 or records < 1:
        raise UsageError("--kills counts from 0, --records from 1")
    if from_file is not None and not from_file.is_file():
        raise UsageError(f"there is no file {from_file}")
    number = secrets.randbelow(1_000_000) if seed is None else seed
    # Ended from outside it still has to end its broker, its supervisor and the drivers of that.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report = torture(load_settings()[0], Request(pipeline, number, kills, records, from_file, keep), say)
    if json_:
        print_json(report.to_json())
    else:
        _show(report)
    return 0 if report.holds else 1


def _show(report: Report) -> None:
    rows = [
        (each.fault, *map(_seconds, (each.at, each.seen, each.adopted, each.recovered)), _noted(each))
        for each in report.faults
    ]
    print_table(("FAULT", "AT", "SEEN", "ADOPTED", "RECOVERED", ""), rows)
    slowest, sizes = report.slowest, report.sizes
    out.print(
        f"\nslowest: a SIGKILL of the driver seen after {_seconds(slowest['kill_seen'])}, "
        f"the driver adopted {_seconds(slowest['adopted'])} after its supervisor's return",
        markup=False,
    )
    out.print(
        f"\n{report.sent} records acknowledged, {sizes.read} read, {sizes.good} good, "
        f"{sizes.quarantined} quarantined",
        markup=False,
    )
    broken = ", ".join(f"{name} {number}" for name, number in sorted(sizes.rules.items()))
    out.print(f"rules broken: {broken or 'none'}\n", markup=False)
    for proof in report.proofs:
        out.print(f"{'holds ' if proof.holds else 'BROKEN'}  {proof.what}", markup=False)
        if proof.problem:
            out.print(f"        {proof.problem}", markup=False)
    out.print(f"\nseed {report.seed}, {report.seconds:.0f} s", markup=False)
    if report.folder is not None:
        say(f"the private copy is kept: {report.folder}")


def _noted(outcome: Outcome) -> str:
    reserve = "its driver had waited in reserve" if outcome.reserve else ""
    return "; ".join(filter(None, (outcome.note, reserve)))


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"
