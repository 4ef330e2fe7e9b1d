"""`headgate up`, `down`, `urls`, `doctor`: the embedded platform on one machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.output import out, print_json, print_table, say
from headgate.settings import load_settings

if TYPE_CHECKING:
    from headgate.local.steps import Done
    from headgate.local.up import UpResult
    from headgate.settings import Settings

__all__ = ["register"]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
# The longest exit code that a shell keeps apart from "killed by a signal".
MOST_FAILURES = 125
SHOWN = 100


def register(app: typer.Typer) -> None:
    """Add this part's verbs."""
    app.command("up")(_up)
    app.command("down")(_down)
    app.command("urls")(_urls)
    app.command("doctor")(_doctor)


def _up(
    pipelines: Annotated[
        bool, typer.Option("--pipelines/--no-pipelines", help="Also apply the contracts and run them.")
    ] = True,
) -> int:
    """Start the embedded platform and run every pipeline; what is up already is left alone.

    Exit codes: 0 up, 3 a prerequisite or a port is missing, 65 contract errors, 69 or 70 a service.
    """
    from headgate.local.up import up

    settings, _ = load_settings()
    say(f"bringing up {settings.env} in {settings.state}")
    result = up(settings, pipelines=pipelines, report=_Lines())
    if pipelines:
        _show_pipelines(result)
    _show_services(settings, result)
    for problem in result.problems:
        say(f"error: {problem}")
    if result.problems:
        return result.problems[0].exit_code
    say("up" if result.changed else "already up, nothing changed")
    return 0


class _Lines:
    """One line per step that did something, and a sign of life while nothing ends."""

    def done(self, name: str, done: Done, seconds: float) -> None:
        if done.changed:
            say(f"  {name:<32} {seconds:5.1f} s  {done.note}".rstrip())
        elif done.note:
            say(f"  {name:<32} {'–':>7}  {done.note}")

    def waiting(self, names: Sequence[str]) -> None:
        say(f"  … {', '.join(names)}")


def _show_pipelines(result: UpResult) -> None:
    rows = []
    for name, shot in sorted(result.snapshots.items()):
        rows.append(
            (
                name,
                shot.get("state"),
                shot.get("rows_read"),
                _lag(shot),
                shot.get("verdict") or "none yet",
                _answer(result.served.get(name)),
            )
        )
    if rows:
        out.print()
        print_table(["pipeline", "state", "rows", "lag", "verdict", "served"], rows)
    for held in result.held.values():
        say(f"{held.pipeline} is {held.reason}; to run it: {held.help}")


def _lag(shot: dict[str, Any]) -> str:
    records, seconds = shot.get("lag_records"), shot.get("lag_seconds")
    if records is None:
        return "unknown"
    return f"{records}" if seconds is None else f"{records} ({seconds:.1f} s)"


def _answer(document: Any) -> str:
    if document is None:
        return "nothing yet"
    rows = document.get("rows") or []
    text = json.dumps(rows[0] if rows else document, ensure_ascii=False)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _show_services(settings: Settings, result: UpResult) -> None:
    from headgate.local.addresses import addresses, notes

    remarks = notes(settings)
    out.print()
    rows = [(name, address, remarks.get(name, "")) for name, address in addresses(settings).items()]
    print_table(["service", "address", ""], rows)
    without_port = [each.name for each in result.services if not each.address]
    out.print(f"also running: {', '.join(without_port)}", markup=False)
    out.print()


def _down() -> int:
    """Stop everything that `up` started; what is desired stays desired.

    Airflow goes first, then producers, streams and the rest, the broker last.
    """
    from headgate.local.down import down

    settings, _ = load_settings()
    stopped = down(settings, lambda name, seconds: say(f"  stopped {name:<30} {seconds:5.1f} s"))
    say("down; `headgate up` goes on from the checkpoints" if stopped else "nothing ran")
    return 0


def _urls(json_: AsJson = False) -> int:
    """Show where every service is."""
    from headgate.local.addresses import addresses, notes

    settings, _ = load_settings()
    if json_:
        print_json(addresses(settings))
    else:
        remarks = notes(settings)
        print_table(
            ["service", "address", ""],
            [(name, address, remarks.get(name, "")) for name, address in addresses(settings).items()],
        )
    return 0


def _doctor(json_: AsJson = False) -> int:
    """Test everything that headgate depends on and say how to repair it.

    The exit code is the number of failures, at most 125.
    """
    from headgate.local.doctor import examine

    settings, origins = load_settings()
    findings = examine(settings)
    failures = sum(finding.failed for finding in findings)
    if json_:
        print_json(
            {
                "failures": failures,
                "findings": [finding.to_json() for finding in findings],
                "settings": [
                    {"key": origin.key, "value": origin.value, "from": origin.place} for origin in origins
                ],
            }
        )
        return min(failures, MOST_FAILURES)
    for number, finding in enumerate(findings, 1):
        out.print(f"{number:>3}. {finding.mark:<7} {finding.name}: {finding.detail}", markup=False)
        if finding.help:
            out.print(f"             help: {finding.help}", markup=False)
    out.print()
    print_table(["setting", "value", "from"], [(item.key, item.value, item.place) for item in origins])
    say(f"{failures} failure{'' if failures == 1 else 's'}")
    return min(failures, MOST_FAILURES)
