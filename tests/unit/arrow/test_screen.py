"""Every record of a batch comes out once: good, bad with its reasons, or doubtful."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from contract_examples import contract_of
from hostile_records import COLUMNS, CORPUS, EVENT_TIME
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.arrow.kinds import MOMENT
from headgate.arrow.plan import RecordPlan, plan_records
from headgate.arrow.quarantine import QUARANTINE, quarantine_rows
from headgate.arrow.screen import BAD, GOOD, RAW, READ, WARNED, Judged, Screen
from headgate.contract.frozen import ResolvedOutput, freeze
from headgate.contract.refusal import RecordPlace
from headgate.topics.schemas import QUARANTINE_SCHEMA

ARRIVED = datetime(2026, 1, 1, tzinfo=UTC)
RULES = [
    {"name": "small", "expect": "n < 100 OR n IS NULL"},
    {"name": "named", "expect": "s LIKE 'a%'", "otherwise": "warn"},
    {"name": "never", "expect": "n <> 66 OR n IS NULL", "otherwise": "fail"},
]


def plan_of(*rules: dict[str, Any], sql: str = "SELECT _offset, n FROM a") -> RecordPlan:
    fields = [
        {"name": n, "type": t, "nullable": True, "metadata": {}}
        for n, t in (("_offset", "long"), ("n", "integer"))
    ]
    contract = contract_of(
        {"a": {"topic": "t", "columns": COLUMNS, "event_time": EVENT_TIME, "rules": list(rules)}},
        {"copy": {"sql": sql, "to": [{"delta": "copy"}]}},
    )
    frozen = freeze(
        contract,
        topics={"a": "t"},
        replication=1,
        outputs={"copy": ResolvedOutput(False, {"type": "struct", "fields": fields})},
        env="local",
        headgate_version="0",
    )
    return plan_records(frozen)


def records(values: list[bytes | None]) -> pa.Table:
    count = len(values)
    moments = pa.array([ARRIVED] * count, MOMENT)
    columns = [
        pa.array([b"k"] * count, pa.binary()),
        pa.array(values, pa.binary()),
        pa.array([0] * count, pa.int32()),
        pa.array(range(count), pa.int64()),
        moments,
        moments,
    ]
    return pa.table(columns, schema=RAW)


def judge(values: list[bytes | None], plan: RecordPlan | None = None) -> Judged:
    return Screen(plan or plan_of(*RULES), "t").judge(records(values))


def record(**fields: Any) -> bytes:
    import json

    return json.dumps({"at": "2025-10-01 12:00:00", "l": 7, "s": "a", **fields}).encode()


def test_good_records_reach_the_output_and_bad_ones_keep_their_bytes_and_reasons():
    values = [
        record(n=1),
        record(n=1000),
        record(n=1, s="b"),
        record(n=66),
        record(n=1000, l=None),
        record(at="2027-01-01 00:00:00"),
        record(at="soon", t="soon", day="soon"),
        b"{",
        record(n="1"),
        record(s=5),
    ]
    found = judge(values)
    assert found.good["copy"].to_pylist() == [{"_offset": 0, "n": 1}, {"_offset": 2, "n": 1}]
    assert {row["_offset"]: row["reasons"] for row in found.bad.to_pylist()} == {
        1: ["small"],
        4: ["_missing_l"],
        5: ["_future"],
        6: ["_no_event_time", "_unreadable_t", "_unreadable_day"],
        7: ["_parse"],
        8: ["_parse"],
    }
    assert all(row["_value"] == values[row["_offset"]] for row in found.bad.to_pylist())
    assert found.doubtful["_offset"].to_pylist() == [9]
    counts = found.counts
    assert (counts[READ], counts[GOOD], counts[BAD], counts[WARNED]) == (9, 2, 6, 1)
    assert (counts["never"], counts["small"], counts["_parse"]) == (1, 1, 2)
    assert found.refused == {"never": RecordPlace(0, 3)}


def test_an_output_leaves_out_what_its_where_says_and_null_too():
    found = judge(
        [record(n=1), record(n=2), record(), record(n=3)],
        plan_of(sql="SELECT _offset, n FROM a x WHERE x.n > 1"),
    )
    assert found.good["copy"]["n"].to_pylist() == [2, 3]
    assert found.counts[GOOD] == 4


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(CORPUS), max_size=40))
def test_every_record_comes_out_once(values):
    found = judge(values, plan_of(*RULES[:2]))
    places = [
        *found.good["copy"]["_offset"].to_pylist(),
        *found.bad["_offset"].to_pylist(),
        *found.doubtful["_offset"].to_pylist(),
    ]
    assert sorted(places) == list(range(len(values)))
    assert (
        found.counts[READ] == found.counts[GOOD] + found.counts[BAD] == len(values) - found.doubtful.num_rows
    )
    assert all(found.bad["reasons"].to_pylist())


def test_a_batch_without_records_has_nothing():
    found = judge([])
    assert (found.counts[READ], found.bad.num_rows, found.doubtful.num_rows) == (0, 0, 0)


def test_the_quarantine_has_the_columns_of_its_table():
    bad = judge([b"{", record(n=1000)]).bad
    shared = {
        "contract_version": (1, "int"),
        "contract_hash": ("h", "string"),
        "generation": (2, "bigint"),
        "epoch": (3, "bigint"),
        "batch_id": (4, "bigint"),
        "lineage": ("l1", "string"),
    }
    rows = quarantine_rows(bad, "t", "a", shared)
    assert rows.column_names == [field["name"] for field in QUARANTINE_SCHEMA["fields"]]
    assert rows.schema == QUARANTINE
    stages = {row["value"]: (row["stage"], row["rules"]) for row in rows.to_pylist()}
    assert stages == {b"{": ("parse", ["_parse"]), record(n=1000): ("rule", ["small"])}
    assert {(row["topic"], row["source"], row["batch_id"], row["key"]) for row in rows.to_pylist()} == {
        ("t", "a", 4, b"k")
    }
    assert quarantine_rows(bad.slice(0, 0), "t", "a", shared).num_rows == 0


@pytest.mark.parametrize("value", [value for value in CORPUS if value is not None and len(value) < 200][::7])
def test_a_record_is_judged_alike_alone_and_among_others(value):
    plan = plan_of(*RULES[:2])
    alone, among = judge([value], plan), judge([record(n=1), value, record(n=2)], plan)
    assert alone.bad["reasons"].to_pylist() == among.bad["reasons"].to_pylist()
    assert alone.doubtful.num_rows == among.doubtful.num_rows
