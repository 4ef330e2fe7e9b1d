"""The table of cases: a contract that ran on a checkpoint, and one that shall."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from headgate.checkpoints.compatibility import conf_differences, contract_differences, kept
from headgate.checkpoints.findings import Finding, refusal
from headgate.checkpoints.layout import RECORDS
from headgate.contract.frozen import FrozenContract, ResolvedOutput, freeze
from headgate.contract.model import Contract
from headgate.streams.model import FailureClass

SQL = (
    "SELECT window.start AS minute, level, count(*) AS lines, sum(size) AS total "
    "FROM a GROUP BY window(ts, '1 minute'), level"
)


def contract(
    *,
    topics: Mapping[str, str] | None = None,
    source: Mapping[str, Any] | None = None,
    output: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
    stateful: Mapping[str, bool] | None = None,
    job: Mapping[str, Any] | None = None,
) -> FrozenContract:
    types = {"ts": "timestamp", "seen": "timestamp", "level": "string", "size": "long"}
    base = {
        "topic": "lines",
        "columns": [{"name": name, "type": kind} for name, kind in types.items()],
        "event_time": {"column": "ts", "watermark": "10 minutes"},
        "rules": [{"name": "sized", "expect": "size > 0"}],
    }
    per_minute = {"sql": SQL, "mode": "update", "key": ["minute", "level"], "to": [{"delta": "per_minute"}]}
    model = Contract.model_validate(
        {
            "headgate": 1,
            "pipeline": "logs",
            "version": 1,
            "owner": "tests",
            "sources": {"a": {**base, **(source or {})}},
            "outputs": {"per_minute": {**per_minute, **(output or {})}, **(outputs or {})},
            "job": job or {},
        }
    )
    kinds = {"per_minute": True, **(stateful or {})}
    return freeze(
        model,
        topics=topics or {"a": "lines"},
        replication=1,
        outputs={
            name: ResolvedOutput(kinds.get(name, False), {"type": "struct", "fields": []})
            for name in model.outputs
        },
        env="local",
        headgate_version="0",
    )


def sql(text: str) -> dict[str, Any]:
    return {"output": {"sql": text}}


def event_time(column: str = "ts", watermark: str = "10 minutes") -> dict[str, Any]:
    return {"source": {"event_time": {"column": column, "watermark": watermark}}}


def clock(**more: Any) -> dict[str, Any]:
    names = {"seen": "timestamp", "level": "string", "size": "long"}
    others = [{"name": name, "type": kind} for name, kind in names.items()]
    return {"source": {"columns": [{"name": "ts", "type": "timestamp", **more}, *others]}}


STAYS = {
    "rules": {"source": {"rules": [{"name": "big", "expect": "size > 10"}]}},
    "a new stateless output": {
        "outputs": {"raw": {"sql": "SELECT ts, size FROM a", "to": [{"delta": "raw"}]}}
    },
    "a new stateful output": {
        "outputs": {"all": {"sql": "SELECT count(*) AS n FROM a", "to": [{"delta": "all"}]}},
        "stateful": {"all": True},
    },
    "the trigger": {"job": {"trigger": "10 seconds"}},
    "resources": {"job": {"cores": 4, "memory": "4g", "max_records_per_batch": 10}},
    "the columns around the aggregates": sql(SQL.replace("sum(size) AS total", "sum(size) AS bytes")),
    "a filter": sql(SQL.replace("GROUP BY", "WHERE level <> 'debug' GROUP BY")),
    "the zone that holds anyway": clock(zone="UTC"),
    "the zone of another time": {
        "source": {
            "columns": [
                {"name": "ts", "type": "timestamp"},
                {"name": "seen", "type": "timestamp", "zone": "Europe/Paris"},
                {"name": "level", "type": "string"},
                {"name": "size", "type": "long"},
            ]
        }
    },
    "spelling": sql(SQL.replace("count(*)", "COUNT( * )")),
}
REFUSED = {
    "GROUP BY": sql(SQL.replace("), level", ")")),
    "the order of GROUP BY": sql(
        SQL.replace("window(ts, '1 minute'), level", "level, window(ts, '1 minute')")
    ),
    "a column of GROUP BY": sql(
        SQL.replace("level", "lower(level) AS level", 1).replace("), level", "), lower(level)")
    ),
    "the window": sql(SQL.replace("'1 minute'", "'5 minutes'")),
    "an aggregate": sql(SQL.replace("sum(size)", "max(size)")),
    "one aggregate less": sql(SQL.replace(", sum(size) AS total", "")),
    "one aggregate more": sql(SQL.replace(" FROM", ", min(size) AS least FROM")),
    "what is aggregated": sql(SQL.replace("sum(size)", "sum(size * 8)")),
    "DISTINCT": sql(SQL.replace("count(*)", "count(DISTINCT level)")),
    "key": {"output": {"key": ["minute"]}},
    "mode": {"output": {"mode": "append", "key": []}},
    "the column of the event time": event_time("seen"),
    "the zone of the event time": clock(zone="Europe/Paris"),
    "no event time": {"source": {"event_time": None}},
    "the arrival": {"source": {"event_time": {"arrival": True}}},
    "the type of a column": {
        "source": {
            "columns": [
                {"name": "ts", "type": "timestamp"},
                {"name": "seen", "type": "timestamp"},
                {"name": "level", "type": "string"},
                {"name": "size", "type": "double"},
            ]
        }
    },
    "the topic": {"topics": {"a": "other"}},
}
TOLD = {
    "a longer watermark": (event_time(watermark="1 hour"), "never goes back"),
    "a shorter watermark": (event_time(watermark="1 minute"), "close sooner"),
    "another form of the event time": (clock(format="dd/MM/yyyy HH:mm:ss"), "read from another form"),
    "another year of times without one": (
        clock(format="MM-dd HH:mm", default_year=2026),
        "read from another form",
    ),
    "where it starts": ({"source": {"start": "latest"}}, "new checkpoint only"),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_may_stay_has_no_difference(name: str) -> None:
    changed = contract(**STAYS[name])
    assert contract_differences(contract(), changed, "per_minute") == []
    assert contract_differences(contract(), changed, RECORDS) == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_changes_the_meaning_of_the_state_needs_a_new_lineage(name: str) -> None:
    found = contract_differences(contract(), contract(**REFUSED[name]), "per_minute")
    assert {each.severity for each in found} == {"refuse"}
    assert {each.code for each in found} == {"state_does_not_fit"}


@pytest.mark.parametrize("name", TOLD)
def test_what_is_in_force_otherwise_than_one_may_think_is_told(name: str) -> None:
    change, words = TOLD[name]
    (found,) = contract_differences(contract(), contract(**change), "per_minute")
    assert found.severity == "warn"
    assert words in found.why


def test_the_record_query_has_no_state_and_minds_its_topic_alone() -> None:
    for name, change in REFUSED.items():
        found = contract_differences(contract(), contract(**change), RECORDS)
        assert bool(found) == (name == "the topic"), name


def test_a_query_that_the_older_contract_did_not_have_is_compared_with_nothing() -> None:
    before = contract(
        output={"sql": "SELECT level FROM a", "mode": "append", "key": []}, stateful={"per_minute": False}
    )
    assert contract_differences(before, contract(), "per_minute") == []


def test_what_is_simply_in_force_is_named() -> None:
    changed = contract(**STAYS["rules"], **STAYS["a new stateless output"], **STAYS["the trigger"])
    assert kept(contract(), changed) == ["new output raw", "rules of source a", "job.trigger"]
    assert kept(contract(), contract()) == []


PARTITIONS = "spark.sql.shuffle.partitions"
PROVIDER = "spark.sql.streaming.stateStore.providerClass"
EVOLUTION = "spark.sql.streaming.queryEvolution.enableSourceEvolution"
HDFS = "org.apache.spark.sql.execution.streaming.state.HDFSBackedStateStoreProvider"


@pytest.mark.parametrize(
    ("pinned", "wanted", "expected"),
    [
        ({PARTITIONS: "2"}, {PARTITIONS: "2"}, []),
        ({PARTITIONS: "2"}, {PARTITIONS: "4"}, ["conf_ignored"]),
        ({PROVIDER: "RocksDB"}, {}, ["conf_ignored"]),
        ({PROVIDER: HDFS}, {}, []),
        ({PROVIDER: HDFS}, {PROVIDER: "RocksDB"}, ["conf_ignored"]),
        ({EVOLUTION: "false"}, {EVOLUTION: "true"}, ["conf_does_not_fit"]),
        ({"spark.sql.streaming.join.stateFormatVersion": "3"}, {}, []),
        ({}, {PARTITIONS: "4"}, []),
    ],
)
def test_pinned_confs_against_the_wanted_ones(
    pinned: dict[str, str], wanted: dict[str, str], expected: list[str]
) -> None:
    assert [each.code for each in conf_differences(pinned, wanted)] == expected


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        ((), None),
        (("topic_recreated",), FailureClass.DATA_LOSS),
        (("checkpoint_unreadable", "retention_passed"), FailureClass.DATA_LOSS),
        (("state_does_not_fit",), FailureClass.CHECKPOINT),
        (("topic_missing", "table_missing"), FailureClass.DETERMINISTIC),
        (("topic_missing", "contract_lost"), FailureClass.CHECKPOINT),
    ],
)
def test_a_refusal_has_the_class_of_its_worst_finding(
    codes: tuple[str, ...], kind: FailureClass | None
) -> None:
    findings = [Finding("topic", "ok", "fits"), *(Finding(code, "refuse", code, ("do",)) for code in codes)]
    found = refusal(findings)
    assert (found.failure if found else None) == kind
    if found is not None:
        assert found.text.endswith("Choices: (1) do."), "a choice that several have is told once"
