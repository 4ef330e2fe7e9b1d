"""What the record query counts while it writes, by its own code on frames as Kafka's source makes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from contract_examples import contract_of
from deltalake import DeltaTable
from spark_batch import kafka_frame, spark_session

from headgate.batches.caps import BatchCaps
from headgate.checkpoints.books import Page
from headgate.contract.frozen import FrozenContract, ResolvedOutput, freeze
from headgate.topics.lake import carry_out_table
from headgate.topics.tables import compare_table, desired_tables
from spark.arrow_lane import ArrowLane
from spark.decode import raw_columns
from spark.delta import DeltaSink
from spark.lane import Lane
from spark.record import RecordQuery
from spark.screen import Screened, screen

pytestmark = pytest.mark.e2e
__all__ = ["spark_session"]

COLUMNS = [{"name": "value", "type": "int", "required": True}]
RULES = [{"name": "positive", "expect": "value > 0"}]
OUTPUT = {"sql": "SELECT value FROM readings WHERE value < 8", "to": [{"delta": "copy"}]}


def frozen_contract() -> FrozenContract:
    fields = [{"name": "value", "type": "integer", "nullable": True, "metadata": {}}]
    return freeze(
        contract_of({"readings": {"topic": "t", "columns": COLUMNS, "rules": RULES}}, {"copy": OUTPUT}),
        topics={"readings": "t"},
        replication=1,
        outputs={"copy": ResolvedOutput(False, {"type": "struct", "fields": fields}, None, None, None)},
        env="local",
        headgate_version="0",
    )


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Any]:
    """What a record query needs of its driver."""
    frozen = frozen_contract()
    for table in desired_tables(frozen):
        for action in compare_table(table, None)[0]:
            carry_out_table(tmp_path, action)
    sinks = {name: DeltaSink(tmp_path / frozen.pipeline / name, name) for name in ("copy", "_quarantine")}
    yield SimpleNamespace(
        frozen=frozen,
        books=tmp_path / "books",
        generation=1,
        epoch=1,
        lineage=SimpleNamespace(id="l1"),
        writers={},
        caps=BatchCaps(frozen),
        sink=lambda output, query: sinks["copy"],
        quarantine_sink=lambda source: sinks["_quarantine"],
        before_batch=lambda: None,
        before_write=lambda: None,
        values=lambda: sorted(DeltaTable(sinks["copy"].path).to_pyarrow_table()["value"].to_pylist()),
    )


def run(session: Any, context: Any, batch_id: int = 0, lane: Callable[..., Lane] = RecordQuery) -> Page:
    pages: list[Page] = []
    records = [json.dumps({"value": n}).encode() for n in range(-2, 10)]
    query = lane(context, pages.append)
    query.commit(query.frame(raw_columns(kafka_frame(session, [*records, b"{"]))), batch_id)
    (page,) = pages
    return page


@pytest.mark.parametrize("lane", [RecordQuery, ArrowLane], ids=["jvm", "arrow"])
def test_good_records_are_counted_behind_the_filter_and_before_the_output_leaves_some_out(
    spark_session, context, lane
):
    page = run(spark_session, context, lane=lane)
    assert (page.batch.read, page.batch.good, page.batch.quarantined) == (13, 9, 4)
    assert context.values() == list(range(1, 8))
    # Again, as after a lost commit: nothing is written, and the page is the same.
    assert run(spark_session, context, lane=lane) == page
    assert context.values() == list(range(1, 8))


@pytest.mark.parametrize("bound", ["CARRIED_ROWS", "COLLECT_ROWS"])
def test_reasons_are_counted_whichever_way_bad_records_take(spark_session, context, monkeypatch, bound):
    """They come along with the counts, or are collected, or are written by Spark: the page is the same."""
    few = run(spark_session, context)
    assert few.batch.rules == {"_parse": 1, "positive": 3}
    for name in ("CARRIED_ROWS", bound):
        monkeypatch.setattr(f"spark.quarantine.{name}", 1)
    many = run(spark_session, context, batch_id=1)
    assert many.batch == few.batch
    assert run(spark_session, context, batch_id=1).batch == few.batch


def test_a_record_that_is_lost_between_screening_and_writing_shows_in_the_books(
    spark_session, context, monkeypatch
):
    whole = Screened.good
    monkeypatch.setattr(Screened, "good", lambda self: whole(self).where("value <> 5"))
    page = run(spark_session, context)
    assert page.batch.read - page.batch.good - page.batch.quarantined == 1


def test_a_record_is_decoded_once_to_be_judged_and_for_its_columns(spark_session, context):
    raw = raw_columns(kafka_frame(spark_session, [b'{"value": 1}']))
    good = screen(raw, context.frozen.contract, "readings").good()
    plan = good._jdf.queryExecution().optimizedPlan().toString()
    assert plan.count("from_json(StructField(value,") == 1, plan
    assert "Filter" in plan


def test_a_batch_needs_no_code_of_its_own_for_its_time(spark_session):
    def code() -> str:
        plan = raw_columns(kafka_frame(spark_session, [b"x"]))._jdf.queryExecution().executedPlan()
        package = spark_session._jvm.org.apache.spark.sql.execution.debug.package
        # Behind the plan, which shows the time that the code gets as an object.
        generated: str = package.codegenString(plan).partition("Generated code:")[2]
        return generated

    first = code()
    assert "project_" in first
    assert code() == first
