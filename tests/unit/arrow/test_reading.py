"""Which sources are read in Arrow, and of which of them nothing is ever left to Spark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_schemas import avro_bytes, avro_schema, avro_source

from headgate.arrow.kinds import Unsupported, column_kinds
from headgate.arrow.reading import check_readable, leaves_none, reader_of
from headgate.contract.model import Source

SCHEMA = avro_schema(
    ("n", ["null", "long"]),
    ("s", ["null", "string"]),
    ("at", ["null", {"type": "long", "logicalType": "timestamp-millis"}]),
    ("wall", ["null", {"type": "long", "logicalType": "local-timestamp-millis"}]),
    ("raw", ["null", "bytes"]),
    ("m", ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}]),
)
OWN = [
    {"name": "n", "type": "int"},
    {"name": "s", "type": "string"},
    {"name": "at", "type": "timestamp"},
    {"name": "wall", "type": "timestamp"},
    {"name": "raw", "type": "binary"},
]


def source(format_: str, *columns: Mapping[str, Any], **more: Any) -> Source:
    return Source.model_validate({"topic": "t", "format": format_, "columns": list(columns), **more})


@pytest.mark.parametrize(
    ("own", "none"),
    [
        (avro_source(SCHEMA, OWN), True),
        (avro_source(SCHEMA, [{"name": "s", "type": "int"}]), False),
        (avro_source(SCHEMA, [{"name": "s", "type": "timestamp"}]), False),
        (avro_source(SCHEMA, [{"name": "n", "type": "timestamp", "format": "epoch_millis"}]), False),
        (source("text", {"name": "line", "type": "string"}), False),
        (source("json", {"name": "s", "type": "string"}), False),
    ],
)
def test_something_is_left_wherever_spark_converts_a_text(own: Source, none: bool) -> None:
    check_readable(own)
    assert leaves_none(own) is none


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.binary(max_size=12), st.integers(-(2**63), 2**63 - 1)), max_size=50))
def test_each_record_is_read_or_broken_where_nothing_is_left(values: list[bytes | int | None]) -> None:
    blank = dict.fromkeys(("n", "s", "at", "wall", "raw", "m"))
    records = [
        avro_bytes(SCHEMA, {**blank, "n": each, "at": each, "wall": each}) if isinstance(each, int) else each
        for each in values
    ]
    own = avro_source(SCHEMA, OWN)
    found = reader_of(own).read(pa.array(records, pa.binary()), lambda: np.empty(0, np.int64))
    assert sorted([*found.rows.tolist(), *found.broken.tolist()]) == list(range(len(records)))
    for column in found.columns.values():
        assert column.doubtful is None
        assert len(column.value) == len(found.rows)


@pytest.mark.parametrize(
    ("own", "why"),
    [
        (avro_source(SCHEMA, [{"name": "m", "type": "decimal(9,2)"}]), "decimal"),
        (avro_source(SCHEMA, [{"name": "wall", "type": "timestamp", "zone": "Europe/Paris"}]), "Paris"),
        (avro_source(SCHEMA, [{"name": "s", "type": "date", "format": "dd.MM.yyyy"}]), "format of its own"),
        (source("text", {"name": "a", "type": "string"}, pattern="(?<a>x)(?=y)"), "only Java reads"),
        (source("json", {"name": "b", "type": "binary"}), "binary"),
    ],
)
def test_a_source_that_is_not_read_in_arrow_says_why(own: Source, why: str) -> None:
    with pytest.raises(Unsupported, match=why):
        check_readable(own)
        column_kinds(own)
