"""What is said to be broken is broken for any strict reader, and cannot be in the future as well."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.arrow.hopeless import Hopeless
from headgate.contract.model import Source

BOUND = 1_767_226_200_000_000  # 2026-01-01 00:10
COLUMNS = [
    {"name": "at", "type": "timestamp"},
    {"name": "n", "type": "int"},
    {"name": "l", "type": "long"},
    {"name": "d", "type": "double"},
    {"name": "s", "type": "string"},
    {"name": "b", "type": "boolean"},
]
AT = b'"at": "2025-10-01 12:00:00", '


def hopeless(value: bytes | None, bound: int = BOUND, **event_time: Any) -> bool:
    source = Source.model_validate(
        {"topic": "t", "columns": COLUMNS, "event_time": event_time or {"column": "at"}}
    )
    return Hopeless(source).is_parse(value, bound)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{",
        b"not json",
        b"[]",
        b"null",
        b"\xff",
        b"{" + AT + b'"n": 1',
        b"{" + AT + b'"n": 1,}',
        b"{" + AT + b'"n": 007}',
        b"{" + AT + b'"d": NaN}',
        b"{" + AT + b'"s": "a\nb"}',
        b"{" + AT + b'"s": "\xff"}',
        b"{" + AT + b'"n": 1}{"n": 2}',
        b"{" + AT + b'"n": "1"}',
        b"{" + AT + b'"n": 1.0}',
        b"{" + AT + b'"n": 2147483648}',
        b"{" + AT + b'"l": 9223372036854775808}',
        b"{" + AT + b'"n": true}',
        b"{" + AT + b'"d": "1"}',
        b"{" + AT + b'"d": []}',
        b"{" + AT + b'"b": 1}',
        b"{" + AT + b'"b": {}}',
    ],
)
def test_what_is_no_json_or_of_a_wrong_type_is_hopeless(value):
    assert hopeless(value)


@pytest.mark.parametrize(
    "value",
    [
        b"{" + AT + b'"n": 1}',
        b"{" + AT + b'"n": null}',
        b"{" + AT + b'"s": 1}',
        b"{" + AT + b'"s": {"x": [1]}}',
        b"{" + AT + b'"d": 1e400}',
        b'{"at": 17}',
        b'{"n": "1", "n": 1}',
        b'{"n": "1", "at": "2026-01-01 00:00:00"}',
        b'{"n": "1", "at": "2999-01-01 00:00:00"}',
        b'{"n": "1", "at": "\\u0032999-01-01 00:00:00"}',
        b'[{"at": "2999-01-01 00:00:00"}]',
        b'{"n": "1", "x": ' + b"[" * 300 + b"]" * 300 + b"}",
    ],
)
def test_what_spark_might_read_or_find_in_the_future_is_not(value):
    assert not hopeless(value)


def test_a_bound_that_is_no_usual_time_proves_nothing():
    assert not any(hopeless(b"{" + AT, bound) for bound in (-1, 2**62))
    assert hopeless(b"{" + AT, 0) is False  # everything is after the epoch


def test_without_an_event_time_of_its_own_no_record_is_in_the_future():
    assert hopeless(b'{"n": "1", "at": "2999-01-01 00:00:00"}', arrival=True)
