"""What is made of Spark's analysis. The analysis itself runs in tests/e2e/test_driver.py."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from contract_examples import ORDERS, changed, place_of

from headgate.arrow.choice import record_lane
from headgate.contract import resolve as module
from headgate.contract.loader import LoadedContract, load_contract
from headgate.contract.model import Contract
from headgate.contract.resolve import resolve
from headgate.errors import ContractError, ServiceError
from headgate.settings import Settings


def schema(**columns: Any) -> dict[str, Any]:
    fields = [{"name": n, "type": t, "nullable": True, "metadata": {}} for n, t in columns.items()]
    return {"type": "struct", "fields": fields}


PER_MINUTE = {"stateful": True, "schema": schema(minute="timestamp", total="double")}
COPY = {"stateful": False, "schema": schema(at="timestamp", shop="string", amount="double")}


class Spark:
    """Answers instead of the analysis in a JVM, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.outputs: dict[str, Any] = {"per_minute": PER_MINUTE, "copy": COPY}
        self.problems: list[dict[str, Any]] = []

    def __call__(self, contracts: list[Contract], settings: Settings) -> list[dict[str, Any]]:
        self.asked += 1
        return [{"outputs": self.outputs, "problems": self.problems} for _ in contracts]


@pytest.fixture
def spark(monkeypatch: pytest.MonkeyPatch) -> Spark:
    answers = Spark()
    monkeypatch.setattr(module, "_ask_spark", answers)
    return answers


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, prefix="test.")


def loaded(tmp_path: Path, text: str = ORDERS) -> list[LoadedContract]:
    path = tmp_path / "orders.yaml"
    path.write_text(text)
    return [load_contract(path)]


def refused(tmp_path: Path, settings: Settings, text: str = ORDERS) -> list[tuple[int, int, str]]:
    with pytest.raises(ContractError) as caught:
        resolve(loaded(tmp_path, text), settings)
    return [(p.line, p.column, p.message) for p in caught.value.problems]


def test_a_resolved_contract_has_its_topics_event_times_and_windows(spark, settings, tmp_path):
    (frozen,) = resolve(loaded(tmp_path), settings)
    assert frozen.topics == {"orders": "test.orders"}
    assert (frozen.record_outputs, frozen.stateful_outputs) == (["copy"], ["per_minute"])
    minute = frozen.outputs["per_minute"]
    assert (minute.event_time, minute.window_seconds, minute.count_column) == ("minute", 60.0, None)
    copy = frozen.outputs["copy"]
    assert (copy.event_time, copy.window_seconds, copy.count_column) == (None, None, None)


def test_a_count_of_records_is_known_for_outputs_that_keep_state_alone(spark, settings, tmp_path):
    text = changed("sum(amount) AS total", "count(*) AS total")
    text = changed("SELECT at, shop, amount FROM orders", "SELECT count(*) AS shop FROM orders", text)
    (frozen,) = resolve(loaded(tmp_path, text), settings)
    assert frozen.outputs["per_minute"].count_column == "total"
    assert frozen.outputs["copy"].count_column is None


def test_the_analysis_runs_once_for_the_same_content(spark, settings, tmp_path):
    told: list[str] = []
    one = resolve(loaded(tmp_path), settings, told.append)
    assert told == ["Spark starts, to analyse what is new or changed: orders"]
    again = resolve(loaded(tmp_path, "# a comment\n" + ORDERS), settings, told.append)
    assert len(told) == 1
    assert [f.hash for f in one] == [f.hash for f in again]
    assert spark.asked == 1
    resolve(loaded(tmp_path, changed("amount > 0", "amount > 1")), settings)
    assert spark.asked == 2


def test_problems_are_told_at_their_places_and_not_kept(spark, settings, tmp_path):
    at = ["sources", "orders", "rules", 1, "expect"]
    spark.problems = [{"at": at, "message": "[DATATYPE_MISMATCH] so it is"}]
    line, column = place_of('"shop IN', ORDERS)
    assert refused(tmp_path, settings) == [(line, column, "[DATATYPE_MISMATCH] so it is")]
    spark.problems = []
    resolve(loaded(tmp_path), settings)
    assert spark.asked == 2


def test_a_key_that_the_output_does_not_have_is_told(spark, settings, tmp_path):
    text = changed("[minute]", "[minute, hsop]")
    assert refused(tmp_path, settings, text) == [(*place_of("hsop", text), "the output has no column `hsop`")]


def test_an_event_time_that_is_no_timestamp_is_told(spark, settings, tmp_path):
    text = changed("key: [minute]", "key: [minute]\n    event_time: total")
    line, column, message = refused(tmp_path, settings, text)[0]
    assert (line, column) == place_of("total\n    to", text)
    assert message == "`total` is not a timestamp of this output"


def test_an_upsert_of_single_records_is_told(spark, settings, tmp_path):
    spark.outputs = {"per_minute": {**PER_MINUTE, "stateful": False}, "copy": COPY}
    line, column, message = refused(tmp_path, settings)[0]
    assert (line, column) == place_of("update\n", ORDERS)
    assert message.startswith("`mode: update` is for outputs that aggregate")


def test_a_partition_column_that_is_not_there_is_told(spark, settings, tmp_path):
    text = changed("partition_by: [shop]", "partition_by: [day]")
    assert refused(tmp_path, settings, text)[0][2] == "the output has no column `day`"


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (["at", "TRY_MULTIPLY(amount, 2)", "shop"], "`TRY_MULTIPLY(amount, 2)` of the output has no plain"),
        (["at", "a b", "shop"], "`a b` of the output has no plain name"),
        (["at", "shop", "At"], "the output has the column `At` twice"),
    ],
)
def test_columns_of_a_table_have_plain_names_each_once(spark, settings, tmp_path, columns, says):
    spark.outputs["copy"] = {"stateful": False, "schema": schema(**dict.fromkeys(columns, "string"))}
    line, column, message = refused(tmp_path, settings)[0]
    assert (line, column) == place_of('"SELECT at', ORDERS)
    assert says in message


def test_an_analysis_that_breaks_says_where_to_look(settings, tmp_path, monkeypatch):
    def run(*_: Any, stderr: Any, **__: Any) -> subprocess.CompletedProcess[str]:
        stderr.write("starting\nException: no Java\n\tat some.Class\n")
        return subprocess.CompletedProcess([], 1, stdout="")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ServiceError, match=r"\(exit 1\): Exception: no Java") as caught:
        resolve(loaded(tmp_path), settings)
    assert "analysis.log" in str(caught.value.help)


def test_what_is_kept_of_an_analysis_is_json_that_a_later_run_reads(spark, settings, tmp_path):
    resolve(loaded(tmp_path), settings)
    (file,) = (settings.state / "cache" / "analysis").iterdir()
    assert json.loads(file.read_text())["problems"] == []


def test_a_key_of_several_values_is_refused_with_what_to_write(spark, settings, tmp_path):
    nested = {"type": "struct", "fields": []}
    spark.outputs["per_minute"] = {**PER_MINUTE, "schema": schema(minute=nested, total="double")}
    with pytest.raises(ContractError) as caught:
        resolve(loaded(tmp_path), settings)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == place_of("minute]", ORDERS)
    assert problem.message == "`minute` is a struct and cannot be a key"
    assert "window.start AS" in problem.help


def test_an_output_for_redis_alone_has_types_of_json(spark, settings, tmp_path):
    text = changed("to: [{delta: copies, partition_by: [shop]}]", "to: [{redis: copies}]")
    spark.outputs["copy"] = {
        "stateful": False,
        "schema": schema(at="timestamp", took="interval day to second"),
    }
    ((line, column, message),) = refused(tmp_path, settings, text)
    assert (line, column) == place_of('"SELECT at', text)
    assert message == "the column `took` is of type interval day to second, which JSON does not have"


def test_an_analysis_that_does_not_end_is_stopped(settings, tmp_path, monkeypatch):
    def run(*_: Any, timeout: float, **__: Any) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired("python", timeout)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ServiceError, match="did not finish the analysis of orders") as caught:
        resolve(loaded(tmp_path), settings)
    assert "analysis.log" in str(caught.value.help)


def test_a_lane_that_cannot_be_had_is_told_at_its_place_with_the_reason_and_the_choices(
    spark, settings, tmp_path
):
    text = changed("memory: 1g, spark", "memory: 1g, lane: arrow, spark")
    with pytest.raises(ContractError) as caught:
        resolve(loaded(tmp_path, text), settings)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == place_of("arrow", text)
    assert "output copy: it goes to something else than one table without partitions" in problem.message
    assert "`lane: jvm`" in str(problem.help)
    (auto,) = resolve(loaded(tmp_path, changed("lane: arrow", "lane: auto", text)), settings)
    assert auto.lane == "jvm"
    (frozen,) = resolve(loaded(tmp_path, changed(", partition_by: [shop]", "", text)), settings)
    assert (record_lane(frozen).lane, frozen.lane) == ("arrow", None)
    asked = changed("lane: arrow", "lane: auto", changed(", partition_by: [shop]", "", text))
    (auto,) = resolve(loaded(tmp_path, asked), settings)
    assert (record_lane(auto).lane, auto.lane) == ("arrow", "arrow")
