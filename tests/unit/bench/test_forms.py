from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from google.protobuf.message import DecodeError

import bench.forms
from bench.dataset import PARTITIONS, Dataset
from bench.forms import FORMS, MORE_COLUMNS
from bench.plain import _protobuf_message, _protobuf_rows

AVRO = fastavro.parse_schema(
    json.loads((Path(bench.forms.__file__).parent / "pipelines" / "reading.avsc").read_text(encoding="utf-8"))
)


def _values(dataset: Dataset) -> list[bytes]:
    found = []
    for partition in range(PARTITIONS):
        _, values = dataset.values(partition, 0, dataset.per_partition)
        found += [bytes(value) for value in values]
    return found


def _json(value: bytes) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(value)
    moment = datetime.fromisoformat(record["ts"]).replace(tzinfo=UTC)
    return {**record, "ts": round(moment.timestamp() * 1000)}


def _avro(value: bytes) -> dict[str, Any]:
    stream = io.BytesIO(value)
    record = fastavro.schemaless_reader(stream, AVRO, AVRO)
    assert isinstance(record, dict)
    assert stream.read() == b""
    return {**record, "ts": round(record["ts"].timestamp() * 1000)}


def _protobuf(value: bytes) -> dict[str, Any]:
    message = _protobuf_message().FromString(value)
    return {name: getattr(message, name) for name in ("seq", "device", "ts", "value", "status")}


READERS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    "json": _json,
    "json-wide": _json,
    "avro": _avro,
    "protobuf": _protobuf,
}


def _readable(form: str, value: bytes) -> dict[str, Any] | None:
    try:
        return READERS[form](value)
    except (ValueError, EOFError, IndexError, DecodeError):
        return None


@pytest.mark.parametrize("form", sorted(FORMS))
def test_every_form_holds_the_same_records(form: str) -> None:
    found = [READERS[form](value) for value in _values(Dataset(4000, form=form))]
    narrow = [{name: record[name] for name in ("seq", "device", "ts", "value", "status")} for record in found]
    assert narrow == [_json(value) for value in _values(Dataset(4000))]


@pytest.mark.parametrize("form", sorted(FORMS))
def test_bad_records_are_bad_in_every_form_in_three_ways(form: str) -> None:
    dataset = Dataset(12_000, bad_every=100, form=form)
    found = [_readable(form, value) for value in _values(dataset)]
    read = [record for record in found if record is not None]
    good = [record for record in read if record["value"] >= 0 and record["status"] < 4]
    assert len(found) - len(read) == 40
    assert sum(record["value"] == -1 for record in read) == 40
    assert sum(record["status"] == 9 for record in read) == 40
    assert dataset.expected().sum_of_seq == sum(record["seq"] for record in good)
    assert dataset.expected(screened=False).sum_of_seq == sum(record["seq"] for record in read)


def test_a_wide_record_has_a_hundred_columns_and_two_kilobytes() -> None:
    values = _values(Dataset(400, form="json-wide"))
    assert {len(value) for value in values} == {2180}
    assert all(len(json.loads(value)) == 5 + len(MORE_COLUMNS) == 100 for value in values)


def test_a_number_that_would_take_other_bytes_than_its_neighbours_is_refused() -> None:
    with pytest.raises(ValueError, match="does not take 4 bytes"):
        bench.forms._varint(4, np.array([5]))


def test_the_hand_written_reader_of_protobuf_gives_the_records() -> None:
    values = _values(Dataset(400, form="protobuf"))
    (rows,) = _protobuf_rows(iter([pa.record_batch({"value": pa.array(values, pa.binary())})]))
    found = [{**row, "ts": round(row["ts"].timestamp() * 1000)} for row in rows.to_pylist()]
    assert found == [_json(value) for value in _values(Dataset(400))]


def test_the_hand_written_readers_message_is_that_of_the_file() -> None:
    file = Path(bench.forms.__file__).parent / "pipelines" / "reading.proto"
    fields = {field.name: field.number for field in _protobuf_message().DESCRIPTOR.fields}
    for name, number in fields.items():
        assert f" {name} = {number};" in file.read_text(encoding="utf-8")
