"""Runs the suite of each output on what was committed, and stores the verdicts.

The Delta table is read as it is at this moment (only the columns that are needed, only the last
`quality.window`), validated in memory by Great Expectations, and the verdict goes to the state store
first, then to Redis, where a failed critical one withholds what is newer than the last good.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from headgate.checkpoints.layout import table_path
from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.contract.model import seconds
from headgate.delta_rows import delta_rows, reading
from headgate.errors import HeadgateError, RefusedError
from headgate.quality.suites import PlannedExpectation, suites
from headgate.quality.verdict import ExpectationResult, Status, Verdict, worst_severity
from headgate.settings import Settings
from headgate.streams.store import StateStore
from headgate.tables.delta import open_table
from headgate.tables.place import Place

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["run_check"]

# Some 2 GB for a table of ten columns: above that a check would push the machine, not just itself.
MAX_ROWS = 5_000_000
_MOMENT_KEYS = ("min_value", "max_value", "value_set")


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is looked at. `max_event_time` is the newest in it, in microseconds."""

    frame: pd.DataFrame
    max_event_time: int | None


def run_check(settings: Settings, pipeline: str) -> list[Verdict]:
    """Check every output of a pipeline that has a table and expectations; verdicts in their order.

    A check that breaks is a verdict too (`errored`). Raises NotFoundError for a pipeline that is not
    applied, StoreUnavailable when a verdict could not be stored or told to Redis.
    """
    frozen = ContractStore(settings.state).current(pipeline)
    verdicts = [_check(settings, frozen, output, suite) for output, suite in suites(frozen).items()]
    with closing(StateStore(settings.store_url)) as store:
        for verdict in verdicts:
            store.record_verdict(verdict)
    _tell_redis(settings, frozen, verdicts)
    return verdicts


def _check(
    settings: Settings, frozen: FrozenContract, output: str, suite: Sequence[PlannedExpectation]
) -> Verdict:
    at = time.time()

    def verdict(
        status: Status,
        results: Sequence[ExpectationResult] = (),
        rows: _Rows | None = None,
        detail: str = "",
    ) -> Verdict:
        newest = rows.max_event_time if rows is not None else None
        return Verdict(
            pipeline=frozen.pipeline,
            output=output,
            status=status,
            severity=worst_severity(each for each in results if not each.errored),
            at=at,
            expectations=tuple(results),
            rows_checked=len(rows.frame) if rows is not None else 0,
            max_event_time=newest / 1_000_000 if newest is not None else None,
            contract_hash=frozen.hash,
            detail=detail,
        )

    try:
        rows = _read(settings, frozen, output, suite)
        if rows.frame.empty:
            return verdict("no_data", rows=rows, detail="no row was committed in what is looked at")
        results = _validate(output, rows.frame, suite, frozen.outputs[output].columns)
    except Exception as error:  # noqa: BLE001 - whatever broke the check is its verdict, not a pass
        told = error.message if isinstance(error, HeadgateError) else f"{type(error).__name__}: {error}"
        return verdict("errored", detail=told.splitlines()[0])
    return verdict(_status(results), results, rows)


def _status(results: Sequence[ExpectationResult]) -> Status:
    broken = [each for each in results if not each.success]
    if any(each.severity == "critical" and not each.errored for each in broken):
        return "failed"  # known to be bad, whatever else could not be looked at
    if any(each.errored for each in broken):
        return "errored"
    return "failed" if broken else "passed"


def _read(
    settings: Settings, frozen: FrozenContract, output: str, suite: Sequence[PlannedExpectation]
) -> _Rows:
    path = _table_of(settings, frozen, output)
    with reading(path):
        return _rows_at(path, frozen, output, suite)


def _rows_at(path: Place, frozen: FrozenContract, output: str, suite: Sequence[PlannedExpectation]) -> _Rows:
    import pyarrow.compute as pc

    dataset = delta_rows(open_table(path), path)
    event_time = frozen.outputs[output].event_time
    newest = None
    if event_time is not None:
        newest = pc.max(dataset.to_table(columns=[event_time])[event_time]).as_py()
    quality = frozen.contract.quality
    condition = None
    if newest is not None and quality is not None and quality.window is not None:
        condition = pc.field(event_time) > newest - timedelta(seconds=seconds(quality.window))
    count = dataset.count_rows(filter=condition)
    if count > MAX_ROWS:
        raise RefusedError(
            f"{path} has {count:,} rows to look at, more than the {MAX_ROWS:,} that a check reads",
            help="limit it with `quality: {window: …}`",
        )
    table = dataset.to_table(columns=_columns(suite, dataset.schema.names), filter=condition)
    # Without `integer_object_nulls` a NULL would turn a column of long ids into rounded floats.
    frame = table.to_pandas(integer_object_nulls=True)
    microseconds = int(newest.timestamp()) * 1_000_000 + newest.microsecond if newest is not None else None
    return _Rows(frame, microseconds)


def _table_of(settings: Settings, frozen: FrozenContract, output: str) -> Place:
    targets = frozen.contract.outputs[output].to
    table = next(target.delta for target in targets if target.delta is not None)
    return table_path(settings.tables, frozen.pipeline, table)


def _columns(suite: Sequence[PlannedExpectation], there: Sequence[str]) -> list[str]:
    """The columns that the suite names; all of them when one looks at the columns as such."""
    if any(each.expect.startswith("ExpectTableColumn") for each in suite):
        return list(there)
    named = {name for each in suite for name in _named(each)}
    # A frame needs a column to have rows.
    return [name for name in there if name in named] or list(there[:1])


def _named(expectation: PlannedExpectation) -> Iterable[str]:
    for key in ("column", "column_A", "column_B", "column_list"):
        value = expectation.arguments.get(key, ())
        yield from [value] if isinstance(value, str) else value


def _validate(
    output: str, frame: pd.DataFrame, suite: Sequence[PlannedExpectation], types: dict[str, Any]
) -> list[ExpectationResult]:
    """Validate a frame in a context of its own: a shared one would keep every result."""
    with _named_main():
        import great_expectations as gx
        import great_expectations.expectations as known
        from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("committed").add_dataframe_asset(name=output)
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    made = gx.ExpectationSuite(name=output)
    for index, each in enumerate(suite):
        arguments = _arguments(each, types)
        # Results come in an order of their own; `meta` says which is which.
        made.add_expectation(
            getattr(known, each.expect)(**arguments, severity=each.severity, meta={"index": index})
        )
    found = {
        each.expectation_config.meta["index"]: each
        for each in batch.validate(made, result_format="SUMMARY").results
    }
    return [_result(each, found[index]) for index, each in enumerate(suite)]


@contextmanager
def _named_main() -> Iterator[None]:
    """Great Expectations loads PySpark, which takes a process whose main module has no file (`python -c`,
    a spawned worker) for its own doctests and ends it with 0: a check that looks like one that passed."""
    main = sys.modules["__main__"]
    unnamed = not hasattr(main, "__file__")
    if unnamed:
        main.__file__ = "<headgate>"
    try:
        yield
    finally:
        if unnamed:
            del main.__file__


def _arguments(expectation: PlannedExpectation, types: dict[str, Any]) -> dict[str, Any]:
    """The arguments, with moments as such where the column holds timestamps: YAML has them as text."""
    arguments = dict(expectation.arguments)
    if types.get(str(arguments.get("column"))) == "timestamp":
        for key in _MOMENT_KEYS:
            value = arguments.get(key)
            if isinstance(value, str):
                arguments[key] = _moment(value)
            elif isinstance(value, list):
                arguments[key] = [_moment(each) if isinstance(each, str) else each for each in value]
    return arguments


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _result(expectation: PlannedExpectation, result: Any) -> ExpectationResult:
    broke = _exception(result.exception_info)
    detail = broke if broke is not None else _detail(result.result)
    return ExpectationResult(
        name=expectation.expect,
        column=", ".join(_named(expectation)),
        severity=expectation.severity,
        success=bool(result.success),
        detail=detail + ("" if expectation.origin == "contract" else f" ({expectation.origin})"),
        errored=broke is not None,
    )


def _exception(info: dict[str, Any] | None) -> str | None:
    """Great Expectations tells a failure flat, or once per metric."""
    if not info:
        return None
    parts = [info] if "raised_exception" in info else [p for p in info.values() if isinstance(p, dict)]
    told = [str(part.get("exception_message")) for part in parts if part.get("raised_exception")]
    return told[0].splitlines()[0] if told else None


def _detail(result: dict[str, Any]) -> str:
    if "unexpected_count" in result:
        return f"{result['unexpected_count']} of {result['element_count']} rows do not hold"
    if "observed_value" in result:
        return f"observed {result['observed_value']}"
    return ""


def _tell_redis(settings: Settings, frozen: FrozenContract, verdicts: Iterable[Verdict]) -> None:
    served = {name for name, output in frozen.contract.outputs.items() if any(t.redis for t in output.to)}
    told = [verdict for verdict in verdicts if verdict.output in served]
    if not told:
        return
    from serving.results import ResultStore

    with closing(ResultStore.from_settings(settings)) as results:
        for verdict in told:
            newest = verdict.max_event_time
            results.set_hold(
                verdict.pipeline,
                verdict.output,
                verdict.status,
                None if newest is None else round(newest * 1000),
                verdict.at,
                severity=verdict.severity,
            )
