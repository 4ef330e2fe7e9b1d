"""`headgate preflight`, and the verdicts that `headgate plan` shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.output import out, print_json, progress
from headgate.errors import HeadgateError, RefusedError
from headgate.settings import Settings, load_settings

if TYPE_CHECKING:
    from headgate.contract.frozen import FrozenContract

__all__ = ["planned_verdicts", "register", "show_planned"]

_MARKS = {"ok": "·", "warn": "~", "refuse": "!"}
_STYLES = {"ok": "dim", "warn": "yellow", "refuse": "bold red"}


def register(app: typer.Typer) -> None:
    """Add this part's verbs."""
    app.command("preflight")(_preflight)


def _preflight(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="The pipeline's name.")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> int:
    """Look whether a stream may start: checkpoint, topics, tables and the applied contract. Changes nothing.

    The supervisor looks the same way before every start, and parks what is refused here.

    Exit codes: 0 it may start, 3 refused, 4 nothing is applied, 69 Kafka or the store does not answer.
    """
    from headgate.checkpoints.findings import refusal, verdict_json
    from headgate.checkpoints.preflight import preflight
    from headgate.contract.frozen import ContractStore

    settings = load_settings()[0]
    frozen = ContractStore(settings.state).current(pipeline)
    with progress(f"looking at the checkpoint and the topics of {pipeline}"):
        findings = preflight(settings, frozen)
    verdict = verdict_json(findings)
    if as_json:
        print_json({"pipeline": pipeline, "contract": frozen.hash, **verdict})
    else:
        _lines(verdict["findings"])
        out.print(f"\n{pipeline} {_verdict(verdict)}", markup=False)
    return 0 if refusal(findings) is None else RefusedError.exit_code


def planned_verdicts(settings: Settings, contracts: Iterable[FrozenContract]) -> dict[str, Any]:
    """By pipeline, what would be said of a start once the plan is applied. Raises nothing of headgate's:
    a verdict that cannot be had is told as such, and the plan stands without it."""
    from headgate.checkpoints.findings import verdict_json
    from headgate.checkpoints.preflight import planned_preflight

    found: dict[str, Any] = {}
    for contract in contracts:
        try:
            found[contract.pipeline] = verdict_json(planned_preflight(settings, contract))
        except HeadgateError as error:
            found[contract.pipeline] = {"may_start": None, "problem": error.message, "findings": []}
    return found


def show_planned(verdicts: Mapping[str, Any]) -> None:
    for pipeline, verdict in verdicts.items():
        out.print(f"\npreflight {pipeline}: {_verdict(verdict)}", markup=False)
        _lines([each for each in verdict["findings"] if each["severity"] != "ok"])


def _verdict(verdict: Mapping[str, Any]) -> str:
    if verdict["may_start"] is None:
        return f"cannot be said: {verdict['problem']}"
    if verdict["may_start"]:
        return "may start"
    return f"would not start; it would be parked with class {verdict['failure_class']}"


def _lines(findings: Iterable[Mapping[str, Any]]) -> None:
    for each in findings:
        out.print(_MARKS[each["severity"]], style=_STYLES[each["severity"]], end=" ", markup=False)
        out.print(f"{each['code']}: {each['message']}", markup=False)
        for choice in each["choices"]:
            out.print(f"    choice: {choice}", markup=False)
