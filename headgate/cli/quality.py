"""`headgate check`, `headgate audit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.output import out, print_json, print_table, progress
from headgate.settings import load_settings

if TYPE_CHECKING:
    from headgate.quality.audit import Audit
    from headgate.quality.verdict import ExpectationResult, Verdict

__all__ = ["register"]

ERRORED, NO_DATA = 5, 6
Pipeline = Annotated[str, typer.Argument(metavar="PIPELINE", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add this part's verbs."""
    app.command("check")(_check)
    app.command("audit")(_audit)


def _check(pipeline: Pipeline, json_: AsJson = False) -> int:
    """Run the contract's expectations on what was committed, and store the verdicts.

    Exit codes: 0 passed (or only below critical), 1 a critical expectation failed, 5 the check itself
    broke, 6 no data, 4 no such pipeline. The worst output decides.
    """
    from headgate.quality.check import run_check

    with progress(f"checking {pipeline}"):
        verdicts = run_check(load_settings()[0], pipeline)
    if json_:
        print_json([verdict.to_json() for verdict in verdicts])
    else:
        _show(pipeline, verdicts)
    return exit_code(verdicts)


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """1 before 5 before 6: known to be bad, unknown, nothing there."""
    if any(each.status == "failed" and each.severity == "critical" for each in verdicts):
        return 1
    statuses = {each.status for each in verdicts}
    return ERRORED if "errored" in statuses else NO_DATA if "no_data" in statuses else 0


def _show(pipeline: str, verdicts: Sequence[Verdict]) -> None:
    if not verdicts:
        out.print(f"{pipeline} has no output with a table and expectations.", markup=False)
    for verdict in verdicts:
        told = f" ({verdict.detail})" if verdict.detail else ""
        out.print(f"{verdict.output}: {verdict.status}, {verdict.rows_checked} rows{told}", markup=False)
        rows = [
            (_word(each), each.severity, each.name, each.column, each.detail) for each in verdict.expectations
        ]
        if rows:
            print_table(("", "SEVERITY", "EXPECTATION", "COLUMN", "FOUND"), rows)


def _word(result: ExpectationResult) -> str:
    return "errored" if result.errored else "ok" if result.success else "failed"


def _audit(pipeline: Pipeline, json_: AsJson = False) -> int:
    """Account for every record: read, quarantined, counted, late.

    Exit codes: 0 nothing is missing, 1 the books and the tables differ, 4 nothing was committed yet.
    """
    from headgate.contract.frozen import ContractStore
    from headgate.quality.audit import audit

    settings = load_settings()[0]
    found = audit(settings, ContractStore(settings.state).current(pipeline))
    if json_:
        print_json(found.to_json())
    else:
        _show_audit(found)
    return 0 if found.balanced else 1


def _show_audit(found: Audit) -> None:
    print_table(
        ("RECORDS", ""),
        [
            ("read", found.read),
            ("good", found.good),
            ("quarantined", found.quarantined),
            ("rows in the quarantine", found.quarantine_rows),
            ("missing", found.difference),
        ],
    )
    rows = [
        (each.output, each.counted, each.pending, each.late, "yes" if each.exact else "no", each.reason)
        for each in found.outputs
    ]
    if rows:
        out.print()
        print_table(("OUTPUT", "COUNTED", "PENDING", "LATE", "EXACT", ""), rows)
    out.print(f"\nlineage {found.lineage} up to batch {found.batch_id}", markup=False)
