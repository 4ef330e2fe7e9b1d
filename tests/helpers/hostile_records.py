"""Records, good and hostile, for both lanes: every value for every column, and what is no record at all."""

from __future__ import annotations

from typing import Any

__all__ = ["COLUMNS", "CORPUS", "EVENT_TIME", "STRUCTURES", "TIMES", "VALUES"]

COLUMNS: list[dict[str, Any]] = [
    {"name": "at", "type": "timestamp", "zone": "UTC", "required": True},
    {"name": "n", "type": "int"},
    {"name": "l", "type": "long", "required": True},
    {"name": "f", "type": "float"},
    {"name": "d", "type": "double"},
    {"name": "b", "type": "boolean"},
    {"name": "s", "type": "string"},
    {"name": "t", "type": "timestamp"},
    {"name": "day", "type": "date"},
    {"name": "sec", "type": "timestamp", "format": "epoch_seconds"},
    {"name": "ms", "type": "timestamp", "format": "epoch_millis"},
]
EVENT_TIME = {"column": "at", "watermark": "10 minutes", "max_future": "10 minutes"}
AT = '"at": "2025-10-01 12:00:00", "l": 7'

# Values as they stand in JSON, some of which JSON does not have.
VALUES: list[str] = """
null true false 0 -0 1 -1 7 007 +1 1. .5 1.0 1.5 -1.50 1e2 1E+2 1e-2 1e99 1e100 1e-320 1e-400 1e308 1e309
1e400 -0.0 0.0 -0e0 0.1 0.30000000000000004 1.00000017881393432617187499 3.4028235e38 3.4028236e38 1e39
16777217 2147483647 2147483648 -2147483648 -2147483649 9007199254740993 9223372036854775807
9223372036854775808 -9223372036854775808 -9223372036854775809 99999999999999 100000000000000 1759320000
1759320000123 1759320000.25 -1759320000 253402300799 253402300800 253402300799999 253402300800000
-62135596800 -62135596801 123456789012345678901234567890 0.1234567890123456789012345 NaN Infinity -Infinity
nan Inf NULL True undefined 0x1f "" "x" "1" "1.5" "-1" "1e3" "true" "NaN" "null" "}{" "\\u0041" "\\u00e4"
"\\ud83d\\ude00" "\\ud83d" "\\ude00" "\\u0000" "\\n" "\\/" "\\x" "\\u12" "ä😀" "open "2025-10-01"
"2025-10-01T12:00:00" "2025-10-01T12:00:00Z" "2025-10-01T12:00:00+02:00" "2025-10-01T12:00:00.123456789-01"
"2025-10-01T12:00:00+18:00" "2025-10-01T12:00:00+99:00" "2025-10-01T12" "2025-10-01T" "2025-1-1"
"0000-01-01" "0001-01-01" "9999-12-31" "10000-01-01" "2025-02-29" "2024-02-29" "2025-02-30" "2025-04-31"
"2025-13-01" "2025-00-10" "now" "today" "epoch" "12:00:00" "1759320000" "1759320000.25" [] [1] [null] {}
{"x":1} {"x":{"y":[1,{}]}} [ ] { } [1,] {"x":} [[[[[[]]]]]] {"a":{"b":{"c":{"d":{"e":{"f":{"g":1}}}}}}}
""".split()
# Values with spaces in them.
VALUES += [
    '" "',
    '"a } b"',
    '"{\\"n\\": 1}"',
    '"2025-10-01 12:00:00"',
    '"2025-10-01 12:00"',
    '"2025-10-01 12:00:00.5"',
    '"2025-10-01 12:00:00.123456"',
    '"2025-10-01 12:00:00 "',
    '" 2025-10-01 12:00:00"',
    '"2025-10-01 12:00:00 UTC"',
    '"2025-10-01 12:00:00 Europe/Paris"',
    '"2025-10-01 24:00:00"',
    '"2025-10-01 12:60:00"',
    '"2025-10-01 12:00:00 nonsense"',
    '"1960-02-29 23:59:59"',
    '"0002-01-01 00:00:00"',
    '"9999-12-31 23:59:59"',
    '"9999-12-31T23:59:59-05:00"',
    '"0001-01-01T00:00:00+05:00"',
    '"+10000-01-01 00:00:00"',
    '"a\nb"',
    '"a\tb"',
    '"a\x00b"',
    '"a\x7fb"',
    "1 2",
    '"a" "b"',
    "/* why */ 1",
    f'"{"x" * 40_000}"',
    f'"{"1" * 2_000}"',
    f'"{"1" * 990}"',
    f"1{'0' * 400}",
    f"1{'0' * 1100}",
    f"0.{'1' * 1100}",
    "[" * 990 + "]" * 990,
    "[" * 1100 + "]" * 1100,
    '{"x":' * 990 + "1" + "}" * 990,
    '{"x":' * 1100 + "1" + "}" * 1100,
]

# What the event time may be, in the records that say nothing else.
TIMES = [
    '"2026-01-01 00:10:00"',
    '"2026-01-01 00:10:00.000001"',
    '"2026-01-01T00:10:01Z"',
    '"9999-12-31 23:59:59"',
    '"2999-01-01"',
    '"\\u0032999-01-01 00:00:00"',
    "null",
    "17",
    "[1]",
]

_ONE, _TWO = "{" + AT + ', "n": 1}', "{" + AT + ', "n": 2}'
_LONG = "k" * 60_000  # of a name more than Spark takes
_LATE = '"at": "2999-01-01 00:00:00", "l": 7'
STRUCTURES: list[bytes | None] = [
    None,
    *(
        text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        for text in (
            "",
            " ",
            "{",
            "}",
            "{}",
            " {} ",
            "not json",
            "null",
            "true",
            "17",
            '"text"',
            "[]",
            "[1]",
            "\x00",
            "\ufeff" + _ONE,
            b"\xff\xfe{\x00}\x00",
            _ONE.encode("utf-16"),
            _ONE.encode("utf-16-le"),
            f"[{_ONE}]",
            f"[{_ONE}, {_TWO}]",
            f"{_ONE}{_TWO}",
            f"{_ONE} {_TWO}",
            f"{_ONE}\n{_TWO}",
            f"{_ONE},{_TWO}",
            f"{_ONE} null",
            f"{_ONE} 17 {_TWO}",
            f"{_ONE} null {_TWO}",
            f'{_ONE} "}}" {_TWO}',
            f"{_ONE}x",
            f"{_ONE}}}",
            f"{_ONE}]",
            f"{_ONE}]{_TWO}",
            f'{_ONE},{{"_":"behind"}}',
            f"{_ONE}\x00",
            f"{_ONE}\x0b",
            f"{_ONE}\u00a0",
            f"\n\t {_ONE} \r\n",
            f"\x0b{_ONE}",
            "{'at': '2025-10-01 12:00:00'}",
            '{at: "2025-10-01 12:00:00"}',
            "{" + AT + ",}",
            "{," + AT + "}",
            "{" + AT + " /* why */}",
            "{" + AT + "} // why",
            "# why\n{" + AT + "}",
            "{" + AT + ' "n": 1}',
            "{" + AT + ', "n" 1}',
            "{" + AT + ', "n": 1',
            "{" + AT + ', "n": 1, "n": 2}',
            "{" + AT + ', "n": "x", "n": 2}',
            "{" + AT + ', "n": 2, "n": "x"}',
            "{" + AT + ', "n": 1, "n": null}',
            "{" + AT + ', "l": 8}',
            "{" + AT + ', "\\u006e": 1}',
            "{" + AT + ', "n": 1, "\\u006e": 2}',
            "{" + AT + ', "N": 1, " n": 2, "n ": 3}',
            "{" + AT + ', "_corrupt": "x", "_": 1, "": 2}',
            "{" + AT + ', "x": {"n": 5}, "n": 1}',
            "{" + AT + ', "x": [{"n": 5}], "n": 1}',
            "{" + AT + ', "x": "\ud800"}',
            "{" + AT + ', "\ud800": 1}',
            "{" + _LATE + "}",
            "{" + _LATE + ', "n": "x"}',
            "{" + _LATE + ', "n": 007}',
            "{" + _LATE + ', "n": 1',
            "{" + _LATE + ', "n": "x", "d": NaN}',
            '{"n": "x", ' + _LATE + "}",
            '{"d": "x", "l": 7}',
            '{"l": 7}',
            "[{" + _LATE + "}]",
            "{" + AT + ', "d": 1e400, "day": "x", "t": "y"}',
            "{" + AT + ', "' + "k" * 40_000 + '": 1}',
            "{" + AT + ', "' + _LONG + '": 1}',
            "{" + AT + ', "' + _LONG + '" : 1, "n": 1}',
            "{" + AT + ', "x": {"' + _LONG + '": 1}, "n": 1}',
            "{" + AT + ', "' + _LONG + '\\\\": ",", "n": 1}',
            "{" + AT + ', "s": "' + _LONG + '"}',
            "{" + AT + ', "s": "' + _LONG + '", "n": 1}',
            "{" + AT + ', "s": "' + _LONG + '", "n": "x"}',
            "{" + AT + ', "s": "' + '\\"' * 30_000 + '"}',
            "{" + AT + ', "day": "' + _LONG + '"}',
            "{" + AT + ', "x": ["' + _LONG + '", {"y": "' + _LONG + '"}], "n": 1}',
            "{" + AT + ', "d": 0.' + "1" * 60_000 + "}",
            "{" + AT + ', "s": "' + 20 * _LONG + '", "n": 1}',
            "[" * 3000,
            "{" + AT + ', "s": "' + "}" * 50 + '"}',
            "{" + AT + ', "s": "N' + "aN" + '", "n": 3}',
        )
    ),
    b'{"at": "2025-10-01 12:00:00", "l": 7, "s": "\xff"}',
    b'{"at": "2025-10-01 12:00:00", "l": 7, "s": "\xc0\xaf"}',
    b'{"at": "2025-10-01 12:00:00", "l": 7, "unknown": "\xfe"}',
    b'{"at": "2025-10-01 12:00:00", "l": 7, "\xe4": 1}',
]


def _record(name: str, value: str) -> bytes:
    fields = {"at": '"2025-10-01 12:00:00"', "l": "7"} | {name: value}
    return ("{" + ", ".join(f'"{key}": {text}' for key, text in fields.items()) + "}").encode()


CORPUS: list[bytes | None] = [
    *STRUCTURES,
    *(_record(column["name"], value) for column in COLUMNS for value in VALUES),
    *(_record("unknown", value) for value in VALUES),
    *(_record("at", value) for value in TIMES),
]
