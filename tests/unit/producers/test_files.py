from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from headgate.contract.model import Source
from headgate.errors import HeadgateError, UsageError
from producers.datetimes import DAY
from producers.event_times import event_time_column
from producers.files import FileReader, check_file
from producers.inputs import no_watch
from producers.record_files import CsvFile, JsonLines, record_file
from producers.text_file import TextFile

READINGS = Source.model_validate(
    {
        "topic": "t",
        "columns": [
            {"name": "timestamp", "type": "timestamp", "required": True},
            {"name": "value", "type": "double"},
            {"name": "count", "type": "int"},
            {"name": "ok", "type": "boolean"},
            {"name": "name", "type": "string"},
            {"name": "tags", "type": "array<string>"},
        ],
        "event_time": {"column": "timestamp"},
    }
)
OCTOBER = 1_696_118_400_000_000  # 2023-10-01, in microseconds


def opened(path: Path, key: str | None = None, max_line: int = 1_000_000) -> CsvFile | JsonLines:
    return record_file(path, READINGS, event_time_column(READINGS), max_line=max_line, key=key)


def sent(path: Path, shift: int = 0, **options: Any) -> list[Any]:
    return [json.loads(item.value) for item in opened(path, **options).records(shift)]


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.log", b"", "is empty"),
        ("picture.png", b"\x89PNG\r\n\x1a\n\0\0\0", "is binary"),
        ("utf16.csv", "timestamp,value\n".encode("utf-16"), "is binary"),
        ("broken.gz", b"\x1f\x8b\x08broken", "cannot be read"),
    ],
)
def test_files_that_cannot_be_records_are_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        check_file(written(tmp_path / name, content))


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        check_file(tmp_path / "nope")
    with pytest.raises(UsageError, match="is a folder"):
        check_file(tmp_path)
    with pytest.raises(UsageError, match="not a regular file"):
        check_file(Path("/dev/null"))


def test_bytes_that_are_not_utf8_are_no_binary_file(tmp_path: Path) -> None:
    check_file(written(tmp_path / "latin.log", b"caf\xe9\n"))


def test_lines_are_the_bytes_between_the_ends(tmp_path: Path) -> None:
    path = written(tmp_path / "a", b"one\r\n\n two \xff\nlast\r")
    with FileReader(path, 100) as reader:
        assert list(reader) == [b"one", b"", b" two \xff", b"last"]
        assert reader.fraction == 1.0


def test_how_far_a_small_file_is_sent_is_told_on_the_way(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", b'{"n": 1}\n' * 1000)
    file = JsonLines(path, None, max_line=100, key=None)
    told = [file.fraction for _ in file.records(0)]
    assert [round(told[at], 1) for at in (0, 500, 999)] == [0.0, 0.5, 0.9]
    assert file.fraction == 1.0


def test_a_compressed_file_reads_as_its_content(tmp_path: Path) -> None:
    path = written(tmp_path / "a.log.gz", gzip.compress(b"one\ntwo\n"))
    check_file(path)
    with FileReader(path, 100) as reader:
        assert list(reader) == [b"one", b"two"]


def test_a_compressed_file_that_breaks_off_says_after_which_line(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b"line %d %d\n" % (i, i * i) for i in range(100_000)))
    path = written(tmp_path / "a.gz", whole[: len(whole) // 2])
    with (
        pytest.raises(HeadgateError, match=r"cannot be read after line \d+"),
        FileReader(path, 100) as reader,
    ):
        list(reader)


def test_a_line_that_is_too_long_is_left_out_and_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a", b"one\n" + b"x" * 5_000_000 + b"\ntwo\n" + b"y" * 101 + b"\n" + b"z" * 100)
    with FileReader(path, 100) as reader:
        assert list(reader) == [b"one", b"two", b"z" * 100]
        assert reader.too_long == [2, 4]


def test_csv_cells_become_what_the_columns_say_or_stay_as_they_are(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.csv",
        "timestamp,value,count,ok,name,tags\n"
        '2023-10-01 12:00:00,75.93588199999998,7,true,"a, b","[""x""]"\n'
        "2023-10-01 12:00:01,,,,,\n"
        "never,warm,1.5,maybe,3,[\n"
        "2023-10-01 12:00:02,nan,1_000,FALSE,x,[]\n"
        "2023-10-01 12:00:03,1e999,12345678901234567890123,true,y,[]\n",
    )
    assert [list(record.values())[1:] for record in sent(path)] == [
        [75.93588199999998, 7, True, "a, b", ["x"]],
        [None, None, None, "", None],
        ["warm", 1.5, "maybe", "3", "["],
        ["nan", "1_000", False, "x", []],
        ["1e999", 12345678901234567890123, True, "y", []],
    ]


@pytest.mark.parametrize("shift", [0, 1])
def test_an_empty_cell_of_a_time_is_no_time(tmp_path: Path, shift: int) -> None:
    path = written(tmp_path / "a.csv", "timestamp,value\n,1\n  ,2\n2023-10-01 12:00:00,3\n")
    assert [record["timestamp"] is None for record in sent(path, shift)] == [True, True, False]


def test_a_csv_row_is_written_like_the_readings_that_are_made_up(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "timestamp,value\n2023-10-01 12:00:00,10\n")
    (record,) = opened(path).records(0)
    assert record.value == b'{"timestamp": "2023-10-01 12:00:00", "value": 10}'
    assert record.key is None


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_of_the_header(tmp_path: Path, delimiter: str) -> None:
    path = written(tmp_path / "a.csv", f"\ufefftimestamp{delimiter}value\n2023-10-01{delimiter}1\n")
    assert sent(path) == [{"timestamp": "2023-10-01", "value": 1}]


def test_rows_that_are_short_or_long_lose_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "timestamp,value\n2023-10-01\n\n2023-10-01,1,extra,more\n")
    assert sent(path) == [
        {"timestamp": "2023-10-01"},
        {"timestamp": "2023-10-01", "value": 1, "_more": ["extra", "more"]},
    ]


def test_cells_over_several_lines_and_odd_bytes_arrive(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", b'timestamp,name\n2023-10-01,"two\nlines caf\xe9"\n')
    (record,) = opened(path).records(0)
    assert record.value == b'{"timestamp": "2023-10-01", "name": "two\\nlines caf\xe9"}'


def test_a_header_without_the_contracts_columns_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "2013-12-02 21:15:00,73.9\n")
    with pytest.raises(UsageError, match="none of the contract's columns") as caught:
        sent(path)
    assert "timestamp, value" in str(caught.value)


def test_a_header_with_a_column_twice_is_refused_and_other_columns_may_repeat(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "timestamp,value,value\n2023-10-01,1,2\n")
    with pytest.raises(UsageError, match="the column 'value' twice"):
        sent(path)
    assert sent(written(tmp_path / "b.csv", "value,,\n1,,\n")) == [{"value": 1, "": ""}]


def test_a_quote_that_never_closes_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'timestamp,name\n2023-10-01,"' + "x" * 2000 + "\n")
    with pytest.raises(HeadgateError, match=r"a\.csv:2: not CSV"):
        sent(path, max_line=1000)


def test_json_lines_go_as_they_are_also_broken_ones(tmp_path: Path) -> None:
    lines = [b'{"value":1.50,"timestamp":"2023-10-01"}', b"{broken", b"\xff", b"[1]"]
    path = written(tmp_path / "a.jsonl", b"\n".join(lines) + b"\n\n")
    assert [item.value for item in opened(path).records(0)] == lines


def test_a_json_array_is_refused_with_the_way_to_split_it(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", '[{"value": 1},\n{"value": 2}]\n')
    with pytest.raises(UsageError, match="begins with a JSON array") as caught:
        opened(path)
    assert "jq -c '.[]'" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.csv", '{"value": 1}', CsvFile),
        ("a.ndjson", "value", JsonLines),
        ("a.csv.gz", gzip.compress(b"value\n1\n", mtime=0), CsvFile),
        ("a.txt", "\n  {\n", JsonLines),
        ("a.txt", "timestamp,value", CsvFile),
    ],
)
def test_the_kind_of_a_file_is_told_by_its_name_or_its_beginning(
    tmp_path: Path, name: str, content: str | bytes, kind: type
) -> None:
    assert isinstance(opened(written(tmp_path / name, content)), kind)


def test_the_key_is_a_columns_value_where_one_is_named(tmp_path: Path) -> None:
    csv = written(tmp_path / "a.csv", "name,count\nx,1\n,2\n")
    assert [item.key for item in opened(csv, "name").records(0)] == [b"x", b""]
    lines = written(tmp_path / "a.jsonl", '{"count": 7}\n{"count": null}\n{}\n')
    assert [item.key for item in opened(lines, "count").records(0)] == [b"7", None, None]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "timestamp,value\n2023-10-02,1\nnever,2\n2023-10-01 00:00:00,3\n2023-10-04,4\n"),
        (
            "a.jsonl",
            '{"timestamp": "2023-10-02"}\n{"timestamp": 5}\n{"timestamp": "2023-10-01"}\n'
            '{"timestamp": "2023-10-04"}\n',
        ),
    ],
)
def test_a_look_finds_the_range_and_what_is_behind(tmp_path: Path, name: str, content: str) -> None:
    look = opened(written(tmp_path / name, content)).look(OCTOBER + DAY, no_watch)
    assert (look.records, look.timed, look.behind) == (4, 3, 1)
    assert (look.first, look.last) == (OCTOBER, OCTOBER + 3 * DAY)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_shifted_records_keep_everything_but_their_time(tmp_path: Path, name: str) -> None:
    content = "timestamp,value\n2023-10-02 01:00:00,1\nnever,2\n"
    if name.endswith("jsonl"):
        content = '{"timestamp": "2023-10-02 01:00:00", "value": 1}\n{"timestamp": "never", "value": 2}\n'
    assert sent(written(tmp_path / name, content), shift=DAY) == [
        {"timestamp": "2023-10-03 01:00:00", "value": 1},
        {"timestamp": "never", "value": 2},
    ]


LONG = b"12345678901234567.89"


def test_a_record_that_is_moved_in_time_or_has_a_key_keeps_the_digits_of_its_numbers(tmp_path: Path) -> None:
    line = b'{"timestamp": "2023-10-01", "value": %s, "tags": [%s], "name": "x"}' % (LONG, LONG)
    path = written(tmp_path / "a.jsonl", line + b"\n")
    assert [item.value for item in opened(path).records(DAY)] == [line.replace(b"10-01", b"10-02")]
    assert [tuple(item) for item in opened(path, "value").records(0)] == [(line, LONG)]


def test_a_number_of_a_cell_keeps_its_digits_also_inside_a_list(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", b'value,tags,name\n%s,"[%s, 1.5]",x\n+.5,,y\n' % (LONG, LONG))
    assert [item.value for item in opened(path).records(0)] == [
        b'{"value": %s, "tags": [%s, 1.5], "name": "x"}' % (LONG, LONG),
        b'{"value": 0.5, "tags": null, "name": "y"}',
    ]


def test_an_epoch_of_many_decimals_is_moved_as_a_time(tmp_path: Path) -> None:
    columns = [{"name": "t", "type": "timestamp", "format": "epoch_seconds"}]
    source = Source.model_validate({"topic": "t", "columns": columns, "event_time": {"column": "t"}})
    path = written(tmp_path / "a.jsonl", b'{"t": 1696118400.12345678901234567}\n')
    file = record_file(path, source, event_time_column(source), max_line=1000, key=None)
    (record,) = file.records(DAY)
    assert json.loads(record.value) == {"t": pytest.approx(1696204800.123457, abs=1e-6)}


def test_a_text_file_looks_shifts_and_keys_by_its_pattern(tmp_path: Path) -> None:
    source = Source.model_validate(
        {
            "topic": "t",
            "format": "text",
            "pattern": r"^(?<time>\S+ \S+) (?<level>[A-Z]+)?",
            "columns": [
                {"name": "time", "type": "timestamp", "format": "yy/MM/dd HH:mm:ss"},
                {"name": "level", "type": "string"},
            ],
            "event_time": {"column": "time"},
        }
    )
    path = written(tmp_path / "a.log", b"23/10/01 00:00:00 INFO a\n\tat x\n23/10/02 00:00:00 WARN \xff\n")
    file = TextFile(path, source, event_time_column(source), max_line=1000, key="level")
    look = file.look(OCTOBER + 1, no_watch)
    assert (look.records, look.timed, look.behind, look.last) == (3, 2, 1, OCTOBER + DAY)
    assert [tuple(item) for item in file.records(DAY)] == [
        (b"23/10/02 00:00:00 INFO a", b"INFO"),
        (b"\tat x", None),
        (b"23/10/03 00:00:00 WARN \xff", b"WARN"),
    ]
    assert file.reads_back(OCTOBER + 365 * DAY)


@pytest.mark.parametrize("time", ["[1]", "{}", "true", "null", "NaN", "1e22", "[[1]]"])
@pytest.mark.parametrize("column_format", [None, "epoch_seconds", "yyyy-MM-dd"])
def test_a_time_of_the_wrong_kind_is_no_time_and_its_line_goes_as_it_is(
    tmp_path: Path, time: str, column_format: str | None
) -> None:
    columns = [{"name": "t", "type": "timestamp", "format": column_format}]
    source = Source.model_validate({"topic": "t", "columns": columns, "event_time": {"column": "t"}})
    line = b'{"t": %s}' % time.encode()
    path = written(tmp_path / "a.jsonl", line + b"\n")
    file = record_file(path, source, event_time_column(source), max_line=1000, key=None)
    look = file.look(None, no_watch)
    assert (look.records, look.timed) == (1, 0)
    assert [json.loads(item.value) for item in file.records(DAY)] == [json.loads(line)] or time == "NaN"


HALF = b'{"name": "\\ud800", "timestamp": "2023-10-01"}'


def test_half_a_character_in_json_is_sent_as_it_came_and_can_be_a_key(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", HALF + b"\n")
    assert [tuple(item) for item in opened(path, "name").records(0)] == [(HALF, b"\xed\xa0\x80")]
    (shifted,) = opened(path, "name").records(DAY)
    assert shifted.value == HALF.replace(b"10-01", b"10-02")


def test_half_a_character_in_a_csv_cell_leaves_the_cell_text(tmp_path: Path) -> None:
    content = b'name,tags\n"caf\xe9","[""\\ud800""]"\nb,"[""\\u00e9 \\ud83d\\ude00"",""caf\xe9""]"\n'
    first, second = opened(written(tmp_path / "a.csv", content), "name").records(0)
    assert first.key == b"caf\xe9"
    assert first.value == b'{"name": "caf\xe9", "tags": "[\\"\\\\ud800\\"]"}'
    assert second.value == '{"name": "b", "tags": ["é 😀", "caf'.encode() + b'\xe9"]}'


def test_a_cell_that_is_nested_too_deep_stays_text_and_such_a_line_goes_as_it_is(tmp_path: Path) -> None:
    deep = "[" * 100_000
    (record,) = sent(written(tmp_path / "a.csv", f'name,tags\na,"{deep}"\n'))
    assert record["tags"] == deep
    for depth in range(900, 1000, 3):
        line = b'{"timestamp": "2023-10-01", "name": ' + b"[" * depth + b"]" * depth + b"}"
        (item,) = opened(written(tmp_path / "a.jsonl", line), "name").records(DAY)
        assert item.value in {line, line.replace(b"10-01", b"10-02")}


def test_a_header_cell_over_the_limit_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "timestamp," + "x" * 2000 + "\n2023-10-01,1\n")
    with pytest.raises(HeadgateError, match=r"a\.csv:1: not CSV: field larger than field limit"):
        sent(path, max_line=1000)


def test_a_header_over_two_lines_is_one_header(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'timestamp,"a\nb"\n2023-10-01,1\n')
    assert sent(path) == [{"timestamp": "2023-10-01", "a\nb": "1"}]


def test_a_compressed_file_that_is_damaged_inside_says_after_which_line(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(b"".join(b"line %d %d\n" % (i, i * i) for i in range(100_000))))
    whole[len(whole) // 2 : len(whole) // 2 + 64] = b"\xff" * 64
    path = written(tmp_path / "a.gz", bytes(whole))
    with pytest.raises(HeadgateError, match="cannot be read"), FileReader(path, 100) as reader:
        list(reader)


def test_a_file_that_is_gone_when_it_is_sent_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", "{}\n")
    file = opened(path)
    path.unlink()
    with pytest.raises(HeadgateError, match=r"a\.jsonl cannot be read"):
        list(file.records(0))
