from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from headgate.contract.model import Column, Source
from headgate.errors import NotFoundError, RefusedError, UsageError
from headgate.settings import RootsSettings, Settings
from producers.event_times import event_time_column
from producers.inputs import Look, no_watch
from producers.log_lines import log_lines
from producers.look_ahead import Place, ahead_of, judge, shift_to, stream_watermark
from producers.order import Request, make_order, target_of
from producers.pace import AT_ONCE, Pace
from producers.readings import default_key, readings
from producers.text_file import TextFile
from producers.values import column_values

PIPELINES = Path(__file__).resolve().parents[3] / "pipelines"
NOON = datetime(2023, 10, 1, 12, tzinfo=UTC)
PLACE = Place("p", "f.log")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, roots=RootsSettings(state=str(tmp_path)), pipelines=str(PIPELINES))


def quiet(_: str) -> None:
    """Nobody listens."""


def text_source(**column: Any) -> Source:
    return Source.model_validate(
        {
            "topic": "t",
            "format": "text",
            "pattern": r"(?<time>[A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)",
            "columns": [{"name": "time", "type": "timestamp", **column}],
            "event_time": {"column": "time"},
        }
    )


def test_readings_are_by_default_what_the_shipped_contract_expects(settings: Settings) -> None:
    target = target_of(settings, "realtime-data", None, quiet)
    made = readings(target.source, key="timestamp", now=lambda: NOON, chance=random.Random(1))
    for value, key in islice(made, 50):
        record = json.loads(value)
        assert list(record) == ["timestamp", "value"]
        assert record["timestamp"] == "2023-10-01 12:00:00"
        assert isinstance(record["value"], int)
        assert key == b"2023-10-01 12:00:00"


def test_log_lines_carry_the_time_as_the_shipped_contract_reads_it(settings: Settings) -> None:
    source = target_of(settings, "logs", None, quiet).source
    line, key = next(log_lines(source, now=lambda: NOON))
    assert (line, key) == (b"log message at 2023-10-01 12:00:00", None)


def test_lines_that_the_contract_could_not_read_are_refused() -> None:
    source = text_source().model_copy(update={"pattern": r"^(?<time>\d+) "})
    with pytest.raises(RefusedError, match="do not fit the contract's pattern"):
        log_lines(source, now=lambda: NOON)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ({"type": "int"}, int),
        ({"type": "long"}, int),
        ({"type": "double"}, int),
        ({"type": "decimal(10,2)"}, str),
        ({"type": "string"}, str),
        ({"type": "boolean"}, bool),
        ({"type": "binary"}, str),
        ({"type": "date"}, str),
        ({"type": "timestamp", "format": "epoch_millis"}, int),
        ({"type": "array<int>"}, list),
        ({"type": "map<string,double>"}, dict),
        ({"type": "struct<a:int,b:struct<c:string,d:array<int>>>"}, dict),
    ],
)
def test_every_type_of_column_gets_values_of_its_kind(column: dict[str, str], expected: type) -> None:
    make = column_values(Column.model_validate({"name": "c", **column}), random.Random(7))
    for _ in range(20):
        value = make(NOON)
        assert type(value) is expected
        json.dumps(value, allow_nan=False)


def test_structs_have_all_their_fields() -> None:
    column = Column(name="c", type="struct<a:int,b:struct<c:string,d:array<int>>>")
    value = column_values(column, random.Random(7))(NOON)
    assert list(value) == ["a", "b"]
    assert list(value["b"]) == ["c", "d"]


@pytest.mark.parametrize(
    ("column", "written"),
    [
        ({"type": "timestamp"}, "2023-10-01 12:00:00"),
        ({"type": "timestamp", "zone": "Europe/Berlin"}, "2023-10-01 14:00:00"),
        ({"type": "timestamp", "format": "dd/MMM/yyyy:HH:mm:ss Z"}, "01/Oct/2023:12:00:00 +0000"),
        ({"type": "timestamp", "format": "epoch_seconds"}, 1_696_161_600),
        ({"type": "date"}, "2023-10-01"),
    ],
)
def test_times_are_written_as_the_column_reads_them(column: dict[str, str], written: object) -> None:
    made = column_values(Column.model_validate({"name": "c", **column}), random.Random(1))
    assert made(NOON) == written


def test_the_default_key_is_what_the_outputs_group_by(settings: Settings) -> None:
    realtime = target_of(settings, "realtime-data", None, quiet)
    assert default_key(realtime.contract, realtime.source) == "timestamp"
    logs = target_of(settings, "logs", None, quiet)
    assert default_key(logs.contract, logs.source) == "level"


# -- what is sent where ----------------------------------------------------------------------------


def test_a_contract_that_is_not_applied_is_used_from_its_file_and_it_says_so(settings: Settings) -> None:
    said: list[str] = []
    prefixed = settings.model_copy(update={"prefix": "test."})
    target = target_of(prefixed, "logs", None, said.append)
    assert target.topic == "test.logs"
    assert "is not applied yet" in said[0]


def test_an_unknown_pipeline_or_source_names_those_there_are(settings: Settings) -> None:
    with pytest.raises(NotFoundError) as caught:
        target_of(settings, "nope", None, quiet)
    assert "logs, realtime-data" in str(caught.value)
    with pytest.raises(NotFoundError, match="no source 'x'"):
        target_of(settings, "logs", "x", quiet)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(rate=0), "--rate 0"),
        (Request(rate=-1.5), "--rate -1.5"),
        (Request(rate=float("nan")), "--rate nan"),
        (Request(rate=float("inf")), "--rate inf"),
        (Request(count=-1), "--count -1"),
        (Request(key="nope"), "no such column"),
        (Request(late_ok=True), "are for files"),
        (Request(shift_to_now=True), "are for files"),
        (Request(file=Path("/nonexistent/x")), "there is no file"),
    ],
)
def test_orders_that_make_no_sense_are_refused(settings: Settings, request_: Request, message: str) -> None:
    target = target_of(settings, "realtime-data", None, quiet)
    with pytest.raises(UsageError, match=message):
        make_order(settings, target, request_, quiet, no_watch)


def test_a_count_ends_the_order_and_a_file_names_the_key(settings: Settings, tmp_path: Path) -> None:
    target = target_of(settings, "realtime-data", None, quiet)
    made = make_order(settings, target, Request(count=3, rate=50), quiet, no_watch)
    assert (len(list(made.records)), made.endless, made.rate) == (3, False, 50)
    (tmp_path / "a.csv").write_text("timestamp,value\n2023-10-01,1\n2023-10-02,2\n")
    order = make_order(settings, target, Request(file=tmp_path / "a.csv", count=1), quiet, no_watch)
    assert (len(list(order.records)), order.rate, order.key) == (1, None, b"a.csv")
    assert order.headers == (("headgate.contract", b"realtime-data/1"),)


def test_a_file_without_readable_times_says_where_it_will_end(settings: Settings, tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "a.log").write_text("no time here\n")
    target = target_of(settings, "logs", None, quiet)
    make_order(settings, target, Request(file=tmp_path / "a.log"), said.append, no_watch)
    assert "quarantine" in said[0]


# -- looking ahead ---------------------------------------------------------------------------------


def look_at(*moments: int, watermark: int | None = None) -> Look:
    look = Look()
    for moment in moments:
        look.see(moment, watermark)
    return look


def test_a_file_at_or_after_the_watermark_is_fine_and_any_is_without_one() -> None:
    judge(PLACE, look_at(5, 9, watermark=5), 5)
    judge(PLACE, look_at(5, 9), None)
    judge(PLACE, Look(records=3), 5)


def test_a_file_that_lies_partly_behind_says_how_much_of_it() -> None:
    with pytest.raises(RefusedError, match="1 of 2 records") as caught:
        judge(PLACE, look_at(4, 9, watermark=5), 5)
    assert caught.value.exit_code == 3


def test_a_pipeline_without_a_checkpoint_has_no_watermark(settings: Settings) -> None:
    assert stream_watermark(settings, "realtime-data") is None


def test_times_without_a_year_cannot_be_moved_into_another_year(tmp_path: Path) -> None:
    source = text_source(format="MMM d HH:mm:ss", default_year=2015)
    (tmp_path / "a.log").write_text("Dec 10 06:55:46 x\n")
    file = TextFile(tmp_path / "a.log", source, event_time_column(source), max_line=100, key=None)
    look = file.look(None, no_watch)
    with pytest.raises(RefusedError, match="is read as another time"):
        shift_to(PLACE, file, look, int(time.time() * 1e6))


def test_the_last_time_becomes_now_to_the_second(tmp_path: Path) -> None:
    source = text_source()
    (tmp_path / "a.log").write_text("2023-10-01 12:00:00\n2023-10-01 11:00:00\n")
    file = TextFile(tmp_path / "a.log", source, event_time_column(source), max_line=100, key=None)
    look = file.look(None, no_watch)
    now = 1_700_000_000_600_000
    shift = shift_to(PLACE, file, look, now)
    assert look.last is not None
    assert look.last + shift == 1_700_000_000_000_000


def test_a_file_without_times_cannot_be_shifted(tmp_path: Path) -> None:
    source = text_source()
    (tmp_path / "a.log").write_text("x\n")
    file = TextFile(tmp_path / "a.log", source, event_time_column(source), max_line=100, key=None)
    with pytest.raises(RefusedError, match="no record has a time"):
        shift_to(PLACE, file, file.look(None, no_watch), 0)


def test_a_file_with_a_time_far_out_of_place_cannot_be_shifted(tmp_path: Path) -> None:
    source = text_source()
    (tmp_path / "a.log").write_text("2023-10-01 12:00:00\n9999-12-31 23:59:59\n")
    file = TextFile(tmp_path / "a.log", source, event_time_column(source), max_line=100, key=None)
    with pytest.raises(RefusedError, match="would begin before the year 1"):
        shift_to(PLACE, file, file.look(None, no_watch), int(time.time() * 1e6))


def test_times_that_cannot_be_made_up_are_refused_before_anything_is_sent(settings: Settings) -> None:
    target = target_of(settings, "realtime-data", None, quiet)
    odd = [column.model_copy(update={"format": "G yyyy"}) for column in target.source.columns[:1]]
    target = replace(target, source=target.source.model_copy(update={"columns": tuple(odd)}))
    with pytest.raises(RefusedError, match="cannot be made up"):
        make_order(settings, target, Request(), quiet, no_watch)


def test_a_count_of_any_size_is_a_count(settings: Settings) -> None:
    target = target_of(settings, "realtime-data", None, quiet)
    made = make_order(settings, target, Request(count=10**30), quiet, no_watch)
    assert next(made.records).value


def test_a_file_from_the_future_is_warned_about() -> None:
    source = text_source()
    warning = ahead_of(source, look_at(int((time.time() + 7200) * 1e6)))
    assert warning is not None
    assert "_future" in warning
    assert ahead_of(source, look_at(int(time.time() * 1e6))) is None


# -- the pace --------------------------------------------------------------------------------------


def test_one_a_second_is_one_a_second() -> None:
    pace = Pace(1.0, start=100.0)
    assert [pace.due(100.0), pace.due(100.5), pace.due(101.0), pace.due(101.0)] == [1, 0, 1, 0]
    assert pace.pause(101.25) == 0.75


def test_a_high_rate_is_met_by_several_at_once() -> None:
    pace = Pace(1000.0, start=0.0)
    sent = sum(pace.due(step * 0.0137) for step in range(731))
    assert sent == pytest.approx(10_000, abs=20)


def test_a_long_interruption_is_not_made_up_for() -> None:
    pace = Pace(10.0, start=0.0)
    assert pace.due(0.0) == 1
    assert sum(pace.due(3600.0) for _ in range(100)) <= 11


def test_without_a_rate_it_is_as_fast_as_it_goes() -> None:
    pace = Pace(None, start=0.0)
    assert (pace.due(0.0), pace.pause(0.0)) == (AT_ONCE, 0.0)


def test_several_sources_need_a_choice(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "contracts"
    folder.mkdir()
    shipped = (PIPELINES / "realtime-data.yaml").read_text(encoding="utf-8")
    two = shipped.replace(
        "sources:\n", "sources:\n  more:\n    topic: more\n    columns: [{name: a, type: int}]\n", 1
    )
    (folder / "two.yaml").write_text(two, encoding="utf-8")
    with pytest.raises(UsageError, match="has 2 sources") as caught:
        target_of(settings.model_copy(update={"pipelines": str(folder)}), "realtime-data", None, quiet)
    assert "more, readings" in str(caught.value)
