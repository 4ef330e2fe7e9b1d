"""Great Expectations on real Delta tables, with verdicts in the store and in a real Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from headgate.checkpoints.books import Totals, write_page
from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.lineage import begin_lineage
from headgate.contract.frozen import ContractStore, FrozenContract, ResolvedOutput, freeze
from headgate.contract.model import Contract
from headgate.errors import NotFoundError
from headgate.quality.audit import audit
from headgate.quality.check import run_check
from headgate.quality.verdict import Verdict
from headgate.settings import Settings
from headgate.streams.store import StateStore
from headgate.topics.lake import carry_out_table
from headgate.topics.tables import compare_table, desired_tables
from serving.results import ResultRow, ResultStore

# Great Expectations and what it imports use what others deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

COLUMNS = {"minute": "timestamp", "level": "string", "lines": "long"}
T0 = datetime(2023, 10, 1, 12, tzinfo=UTC)
NOT_NULL = {"expect": "ExpectColumnValuesToNotBeNull", "column": "level"}
MANY = {"expect": "ExpectColumnValuesToBeBetween", "column": "lines", "min_value": 5}


@pytest.fixture
def settings(service_settings: Settings, redis_server: object, tmp_path: Path) -> Settings:
    roots = service_settings.roots.model_copy(update={"state": str(tmp_path / "state")})
    return service_settings.model_copy(update={"roots": roots})


@pytest.fixture
def contract(settings: Settings, request: pytest.FixtureRequest) -> Callable[..., FrozenContract]:
    """Freezes a contract with these expectations, makes its tables and applies it."""
    name = "q-" + str(abs(hash(request.node.nodeid)))[:12]

    def make(*expectations: dict[str, Any], window: str | None = None) -> FrozenContract:
        quality: dict[str, Any] = {"expectations": [{"output": "counts", **each} for each in expectations]}
        if window:
            quality["window"] = window
        data: dict[str, Any] = {
            "headgate": 1,
            "pipeline": name,
            "version": 1,
            "owner": "tests",
            "sources": {
                "a": {
                    "topic": f"{name}-in",
                    "columns": [{"name": "ts", "type": "timestamp"}, {"name": "level", "type": "string"}],
                }
            },
            "outputs": {
                "counts": {
                    "sql": "SELECT window.start AS minute, level, count(*) AS lines FROM a "
                    "GROUP BY window(ts, '1 minute'), level",
                    "mode": "update",
                    "key": ["minute", "level"],
                    "to": [{"delta": "counts"}, {"redis": f"latest-{name}"}],
                }
            },
        }
        if expectations:
            data["quality"] = quality
        schema = {
            "type": "struct",
            "fields": [{"name": n, "type": t, "nullable": True, "metadata": {}} for n, t in COLUMNS.items()],
        }
        frozen = freeze(
            Contract.model_validate(data),
            topics={"a": f"{name}-in"},
            replication=1,
            outputs={"counts": ResolvedOutput(True, schema, "minute", 60.0, "lines")},
            env="local",
            headgate_version="0",
        )
        for table in desired_tables(frozen):
            for action in compare_table(table, None)[0]:
                carry_out_table(settings.tables, action)
        store = ContractStore(settings.state)
        store.put(frozen)
        store.set_applied(frozen, at=1.0, by="tests", file="x.yaml")
        return frozen

    return make


def write(settings: Settings, frozen: FrozenContract, rows: list[tuple[int, str | None, int]]) -> None:
    """Rows as (minutes after T0, level, lines)."""
    table = pa.table(
        {
            "minute": pa.array([T0 + timedelta(minutes=m) for m, _, _ in rows], pa.timestamp("us", tz="UTC")),
            "level": pa.array([level for _, level, _ in rows], pa.string()),
            "lines": pa.array([lines for _, _, lines in rows], pa.int64()),
        }
    )
    write_deltalake(settings.tables / frozen.pipeline / "counts", table, mode="append")


def check(settings: Settings, frozen: FrozenContract) -> Verdict:
    (verdict,) = run_check(settings, frozen.pipeline)
    return verdict


def test_rows_that_hold_pass_and_the_verdict_is_stored(settings: Settings, contract: Any) -> None:
    frozen = contract(NOT_NULL, MANY)
    write(settings, frozen, [(0, "INFO", 7), (1, "WARN", 9)])
    verdict = check(settings, frozen)
    assert (verdict.status, verdict.severity, verdict.rows_checked) == ("passed", "", 2)
    assert verdict.max_event_time == (T0 + timedelta(minutes=1)).timestamp()
    assert [(each.name, each.success) for each in verdict.expectations] == [
        (NOT_NULL["expect"], True),
        (MANY["expect"], True),
    ]
    with closing(StateStore(settings.store_url)) as store:
        assert store.latest_verdicts(frozen.pipeline) == [verdict]


def test_a_row_that_does_not_hold_fails_with_its_count_and_severity(
    settings: Settings, contract: Any
) -> None:
    frozen = contract({**NOT_NULL, "severity": "warning"}, MANY)
    write(settings, frozen, [(0, None, 7), (1, "WARN", 9)])
    verdict = check(settings, frozen)
    assert (verdict.status, verdict.severity) == ("failed", "warning")
    assert verdict.expectations[0].detail == "1 of 2 rows do not hold"
    write(settings, frozen, [(2, "INFO", 1)])
    verdict = check(settings, frozen)
    assert (verdict.status, verdict.severity) == ("failed", "critical")


def test_an_empty_table_is_no_data_and_neither_good_nor_bad(settings: Settings, contract: Any) -> None:
    frozen = contract(NOT_NULL, {"expect": "ExpectTableRowCountToBeBetween", "min_value": 1})
    verdict = check(settings, frozen)
    assert (verdict.status, verdict.expectations, verdict.max_event_time) == ("no_data", (), None)


@pytest.mark.parametrize("broken", ["table", "comparison"])
def test_a_check_that_breaks_says_so(settings: Settings, contract: Any, broken: str) -> None:
    frozen = contract(
        NOT_NULL
        if broken == "table"
        else {"expect": "ExpectColumnMaxToBeBetween", "column": "level", "max_value": 3}
    )
    write(settings, frozen, [(0, "INFO", 7)])
    if broken == "table":
        for part in (settings.tables / frozen.pipeline / "counts").glob("*.parquet"):
            part.unlink()
    verdict = check(settings, frozen)
    assert verdict.status == "errored"
    assert verdict.severity == ""
    assert verdict.detail or verdict.expectations[0].errored


def test_a_known_failure_is_not_hidden_by_an_expectation_that_breaks(
    settings: Settings, contract: Any
) -> None:
    frozen = contract(MANY, {"expect": "ExpectColumnMaxToBeBetween", "column": "level", "max_value": 3})
    write(settings, frozen, [(0, "INFO", 1)])
    verdict = check(settings, frozen)
    assert (verdict.status, verdict.severity) == ("failed", "critical")
    assert [each.errored for each in verdict.expectations] == [False, True]


def test_a_window_looks_at_the_last_event_times_only(settings: Settings, contract: Any) -> None:
    frozen = contract(MANY, window="10 minutes")
    write(settings, frozen, [(0, "INFO", 1), (60, "INFO", 8), (65, "INFO", 9)])
    verdict = check(settings, frozen)
    assert (verdict.status, verdict.rows_checked) == ("passed", 2)


def test_long_ids_beside_a_null_keep_all_their_digits(settings: Settings, contract: Any) -> None:
    frozen = contract({"expect": "ExpectColumnValuesToBeUnique", "column": "lines"})
    table = pa.table(
        {
            "minute": pa.array([T0] * 3, pa.timestamp("us", tz="UTC")),
            "level": pa.array(["a", "b", "c"]),
            "lines": pa.array([2**53, 2**53 + 1, None], pa.int64()),
        }
    )
    write_deltalake(settings.tables / frozen.pipeline / "counts", table, mode="append")
    assert check(settings, frozen).status == "passed"


def test_moments_of_the_contract_are_compared_as_moments(settings: Settings, contract: Any) -> None:
    bounds = {"expect": "ExpectColumnMaxToBeBetween", "column": "minute", "min_value": "2023-10-01T00:00:00"}
    frozen = contract({**bounds, "max_value": "2023-10-02T00:00:00+02:00"})
    write(settings, frozen, [(0, "INFO", 1)])
    assert check(settings, frozen).status == "passed"
    write(settings, frozen, [(60 * 24, "INFO", 1)])
    assert check(settings, frozen).status == "failed"


def test_a_critical_failure_withholds_what_is_newer_than_the_last_good(
    settings: Settings, contract: Any
) -> None:
    frozen = contract(MANY)

    def publish(batch: int, minute: int, lines: int) -> None:
        at = T0 + timedelta(minutes=minute)
        write(settings, frozen, [(minute, "INFO", lines)])
        row = ResultRow(round(at.timestamp() * 1000), "INFO", {"minute": at.isoformat(), "lines": lines})
        results.publish(
            frozen.pipeline,
            "counts",
            epoch=1,
            batch_id=batch,
            rows=[row],
            published_key=f"latest-{frozen.pipeline}",
            keep=100,
            watermark=None,
            by_event_time=True,
            window_seconds=60.0,
        )

    def served() -> int:
        document = results.latest(frozen.pipeline, "counts").document
        assert document is not None
        return int(document["rows"][0]["lines"])

    with closing(ResultStore.from_settings(settings)) as results:
        publish(0, 0, 7)
        assert check(settings, frozen).status == "passed"
        publish(1, 1, 1)
        assert served() == 1
        assert check(settings, frozen).severity == "critical"
        assert served() == 7
        latest = results.latest(frozen.pipeline, "counts")
        assert (latest.verdict, latest.held) == ("failed", True)


def test_a_pipeline_that_is_not_applied_has_no_check(settings: Settings) -> None:
    with pytest.raises(NotFoundError):
        run_check(settings, "nothing")


@pytest.mark.parametrize(("rows", "code"), [([(0, "INFO", 7)], 0), ([(0, "INFO", 1)], 1), ([], 6), (None, 5)])
def test_the_command_exits_with_the_verdict(
    settings: Settings, contract: Any, service_environ: dict[str, str], rows: Any, code: int
) -> None:
    frozen = contract(MANY)
    if rows is None:
        (settings.tables / frozen.pipeline / "counts" / "_delta_log" / "00000000000000000000.json").unlink()
    elif rows:
        write(settings, frozen, rows)
    environ = {**os.environ, **service_environ, "HEADGATE_ROOTS_STATE": str(settings.state)}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("headgate")), "check", frozen.pipeline, "--json"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    status = {0: "passed", 1: "failed", 5: "errored", 6: "no_data"}[code]
    assert [each["status"] for each in json.loads(done.stdout)] == [status]


def test_what_contracts_may_say_is_what_the_installed_great_expectations_takes() -> None:
    kept = json.loads(resources.files("headgate.quality").joinpath("expectations.json").read_text())
    done = subprocess.run(
        [sys.executable, "-m", "headgate.quality.generate"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert json.loads(done.stdout) == kept


def test_every_record_is_accounted_for(settings: Settings, contract: Any) -> None:
    frozen = contract(MANY)
    with pytest.raises(NotFoundError, match="nothing to audit"):
        audit(settings, frozen)
    layout = CheckpointLayout(settings.checkpoints, frozen.pipeline)
    lineage = begin_lineage(layout, contract_hash=frozen.hash, spark_version="4.2.0", at=time.time()).id
    write_page(layout.books(lineage), 0, Totals(20, 17, 3, 0, {"_parse": 3}))
    _commit(layout.query(lineage, "records"), f"{frozen.pipeline}-in", 20)
    _commit(layout.query(lineage, "counts"), f"{frozen.pipeline}-in", 20)
    write(settings, frozen, [(0, "INFO", 10), (1, "INFO", 5)])
    _quarantine(settings, frozen, lineage, [3, 4, 18])
    found = audit(settings, frozen)
    (counts,) = found.outputs
    assert (found.read, found.good, found.quarantined, found.difference) == (20, 17, 3, 0)
    assert (counts.counted, counts.pending, counts.late, counts.exact) == (15, 0, 2, True)
    assert found.balanced
    # The output's query is three records behind, and one of those three is in the quarantine.
    _commit(layout.query(lineage, "counts"), f"{frozen.pipeline}-in", 17)
    (counts,) = audit(settings, frozen).outputs
    assert (counts.pending, counts.late, counts.exact) == (3, 0, True)
    _commit(layout.query(lineage, "counts"), f"{frozen.pipeline}-in", 25)
    (counts,) = audit(settings, frozen).outputs
    assert (counts.late, counts.exact) == (None, False)
    _quarantine(settings, frozen, lineage, [2])
    assert not audit(settings, frozen).balanced


def _commit(query: Path, topic: str, offset: int) -> None:
    metadata = {"batchWatermarkMs": 0, "batchTimestampMs": 1, "conf": {}}
    for name, lines in (
        ("offsets", ["v1", json.dumps(metadata), json.dumps({topic: {"0": offset}})]),
        ("commits", ["v1", json.dumps({"nextBatchWatermarkMs": 0})]),
    ):
        (query / name).mkdir(parents=True, exist_ok=True)
        (query / name / "0").write_text("\n".join(lines))
    (query / "sources" / "a").mkdir(parents=True, exist_ok=True)
    (query / "sources" / "a" / "0").write_text("v1\n" + json.dumps({topic: {"0": 0}}))


def _quarantine(settings: Settings, frozen: FrozenContract, lineage: str, offsets: list[int]) -> None:
    count = len(offsets)
    table = pa.table(
        {
            "topic": [f"{frozen.pipeline}-in"] * count,
            "partition": pa.array([0] * count, pa.int32()),
            "offset": pa.array(offsets, pa.int64()),
            "lineage": [lineage] * count,
            "batch_id": pa.array([0] * count, pa.int64()),
        }
    )
    path = settings.tables / frozen.pipeline / "_quarantine"
    write_deltalake(path, table, mode="append", schema_mode="merge")
