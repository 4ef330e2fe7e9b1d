"""`headgate check`, `headgate audit`, `headgate quarantine`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.output import out, print_json, print_table, progress, say
from headgate.settings import load_settings

if TYPE_CHECKING:
    from headgate.quality.audit import Audit
    from headgate.quality.quarantine import Quarantined
    from headgate.quality.verdict import ExpectationResult, Verdict

__all__ = ["register"]

ERRORED, NO_DATA = 5, 6
Pipeline = Annotated[str, typer.Argument(metavar="PIPELINE", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add this part's verbs."""
    app.command("check")(_check)
    app.command("audit")(_audit)
    app.command("quarantine")(_quarantine)


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


def _quarantine(
    pipeline: Pipeline,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=1000, help="The newest so many.")] = 20,
    rule: Annotated[str | None, typer.Option(help="Only records that broke this rule.")] = None,
    json_: AsJson = False,
) -> None:
    """Show the newest quarantined records: when, where in the topic, why, and their bytes.

    Exit codes: 0, also where nothing is quarantined; 4 no such pipeline or rule.
    """
    from headgate.quality.quarantine import newest_quarantined, require_rule

    settings = load_settings()[0]
    found = newest_quarantined(settings, pipeline, limit=limit, rule=rule)
    if rule is not None and not found:
        require_rule(settings, pipeline, rule)
    if json_:
        print_json([each.to_json() for each in found])
    elif found:
        print_table(("AT", "TOPIC", "PARTITION", "OFFSET", "RULES", "VALUE"), [_bad(each) for each in found])
    else:
        broke = f" for {rule}" if rule is not None else ""
        say(f"nothing of {pipeline} is quarantined{broke}; counts of each rule: headgate status {pipeline}")


def _bad(record: Quarantined) -> tuple[object, ...]:
    at = f"{record.quarantined_at:%Y-%m-%d %H:%M:%SZ}"
    rules = ", ".join(record.rules)
    return at, record.topic, record.partition, record.offset, rules, _shown(record.value)


def _shown(value: bytes | None, most: int = 160) -> str:
    """What a terminal can show of a record that may be anything; whole with `--json`."""
    if value is None:
        return "(null)"
    text = value[: 4 * most].decode("utf-8", "backslashreplace")
    plain = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return plain if len(plain) <= most and len(value) <= 4 * most else f"{plain[:most]}… ({len(value)} bytes)"
