"""`headgate plan`, `headgate apply`, `headgate schema`."""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.checkpoints.layout import RECORDS
from headgate.cli.output import out, print_json, progress, say, write
from headgate.errors import HeadgateError, RefusedError, UsageError
from headgate.settings import Settings, load_settings

if TYPE_CHECKING:
    from headgate.arrow.choice import LaneChoice
    from headgate.topics.apply import Outcome
    from headgate.topics.plan import Plan

__all__ = ["register"]

Names = Annotated[list[str] | None, typer.Argument(metavar="[PIPELINE]…", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_STYLES = {"+": "green", "~": "yellow", "!": "bold red", "·": "dim"}


def register(app: typer.Typer) -> None:
    """Add this part's verbs."""
    app.command("plan")(_plan)
    app.command("apply")(_apply)
    app.command("schema")(_schema)


def _plan(
    pipelines: Names = None,
    json_: AsJson = False,
    file: Annotated[Path | None, typer.Option("-o", "--out", help="Write the plan to a file.")] = None,
) -> int:
    """Show what differs between the contracts and what is there. Changes nothing.

    Beside it, for each pipeline, what preflight would say of a start with the planned contract; that does
    not change the exit code. And the lane of each output of a contract that is new or changed, with why.

    Exit codes: 0 nothing to do, 2 changes, 3 refused, 65 contract errors, 69 Kafka does not answer.
    """
    from headgate.arrow.choice import lanes
    from headgate.cli.preflight import planned_verdicts, show_planned

    settings = load_settings()[0]
    plan = _make(settings, pipelines or [])
    chosen = {contract.pipeline: lanes(contract) for contract in plan.contracts}
    verdicts = planned_verdicts(settings, plan.contracts)
    if file is not None:
        _write(plan, file)
    if json_:
        told = {
            name: {output: asdict(lane) for output, lane in each.items()} for name, each in chosen.items()
        }
        print_json({**plan.to_json(), "exit_code": plan.exit_code, "preflight": verdicts, "lanes": told})
    else:
        _show(plan)
        _show_lanes(plan, chosen)
        show_planned(verdicts)
        if file is not None:
            say(f"written to {file}: headgate apply -p {file} does exactly this")
    return plan.exit_code


def _apply(
    pipelines: Names = None,
    json_: AsJson = False,
    file: Annotated[Path | None, typer.Option("-p", "--plan", help="Apply this plan.")] = None,
) -> int:
    """Carry out the plan: topics, tables, then the contracts. Doing it again does nothing.

    Exit codes: 0 done, 3 refused or the live system changed, 65 contract errors, 69 Kafka does not answer.
    """
    from headgate.topics.apply import apply_plan

    settings = load_settings()[0]
    if file is not None and pipelines:
        raise UsageError(
            "a plan file says itself which pipelines it is for", help=f"headgate apply -p {file}"
        )
    plan = _read(file) if file is not None else _make(settings, pipelines or [])
    if plan.refusals:
        if json_:
            print_json({"plan": plan.hash, "done": [], "refusals": plan.to_json()["refusals"]})
        else:
            _show(plan)
        say("nothing was changed")
        return RefusedError.exit_code
    outcome = apply_plan(settings, plan, by=getpass.getuser())
    if json_:
        print_json(outcome.to_json())
    else:
        _tell(plan, outcome)
    return 0


def _schema() -> int:
    """Print the contract's JSON Schema, for editors."""
    from headgate.contract.schema import schema_text

    write(schema_text())
    return 0


def _make(settings: Settings, names: Sequence[str]) -> Plan:
    from headgate.topics.pipelines import plan_pipelines

    with progress("comparing the contracts with what is there"):
        return plan_pipelines(settings, names, say)


def _write(plan: Plan, file: Path) -> None:
    try:
        file.write_text(json.dumps(plan.to_json(), indent=1), encoding="utf-8")
    except OSError as error:
        raise HeadgateError(
            f"the plan cannot be written to {file}: {error.strerror}",
            expected="a file in a folder that is there and can be written to",
        ) from error


def _read(file: Path) -> Plan:
    from headgate.topics.plan import Plan

    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} is not a plan: {error}", help=f"headgate plan -o {file}") from error
    try:
        return Plan.from_json(data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{file} is not a plan", help=f"headgate plan -o {file}") from error


def _show(plan: Plan) -> None:
    for action in plan.actions:
        _line(action.symbol, action.address, action.summary, action.reason)
    for note in plan.notes:
        _line("·", note.address, note.message)
    for refusal in plan.refusals:
        _line("!", refusal.address, refusal.message)
        out.print(f"    help: {refusal.help}", markup=False)
    if not plan.actions and not plan.refusals:
        out.print("No changes: what is there is what the contracts say.", markup=False)
        return
    changes, refused = len(plan.actions), len(plan.refusals)
    told = f"{changes} to do, {refused} refused" if refused else f"{changes} to do"
    out.print(f"\nPlan {plan.hash[:12]}: {told}.", markup=False)


def _show_lanes(plan: Plan, chosen: Mapping[str, Mapping[str, LaneChoice]]) -> None:
    for pipeline, each in chosen.items():
        if plan.changes.get(pipeline) in {"new", "changed"}:
            for output, choice in each.items():
                what = "query" if output == RECORDS else "output"
                _line("·", f"{what} {pipeline}/{output}", f"lane {choice.lane}: {choice.why}")


def _tell(plan: Plan, outcome: Outcome) -> None:
    for action in outcome.done:
        _line(action.symbol, action.address, action.summary)
    for note in plan.notes:
        _line("·", note.address, note.message)
    if outcome.done:
        out.print(f"\nApplied plan {plan.hash[:12]}: {len(outcome.done)} done.", markup=False)
    else:
        out.print("Nothing to do: what is there is what the contracts say.", markup=False)


def _line(symbol: str, address: str, what: str, why: str = "") -> None:
    out.print(symbol, style=_STYLES[symbol], end=" ", markup=False)
    out.print(f"{address}: {what}" + (f" ({why})" if why else ""), markup=False)
