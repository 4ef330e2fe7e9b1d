"""Schemas beside a contract: read with it, frozen in it, and every fault at its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from record_schemas import avro_schema

from headgate.contract.loader import load_contract
from headgate.contract.model import Contract
from headgate.errors import ContractError, Problem

CONTRACT = """\
headgate: 1
pipeline: orders
version: 1
owner: shop
sources:
  orders:
    topic: orders
    format: avro
    schema: {file: orders.avsc}
    columns:
      - {name: at, type: timestamp}
      - {name: amount, type: double}
outputs:
  copy:
    sql: "SELECT at, amount FROM orders"
    to: [{delta: copies}]
"""
AT = {"type": "long", "logicalType": "timestamp-millis"}
SCHEMA = avro_schema(("at", AT), ("amount", ["null", "double"]))
PROTO = """\
syntax = "proto3";
package shop;
import "parts/kind.proto";
message Order { int64 at = 1; double amount = 2; Kind kind = 3; }
"""


def write(folder: Path, contract: str = CONTRACT, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    path = folder / "orders.yaml"
    path.write_text(contract, encoding="utf-8")
    return path


def problems(path: Path) -> list[Problem]:
    with pytest.raises(ContractError) as caught:
        load_contract(path)
    return list(caught.value.problems)


def test_the_text_is_frozen_into_the_contract_and_survives_storing(tmp_path):
    loaded = load_contract(write(tmp_path, orders__avsc=json.dumps(json.loads(SCHEMA), indent=4)))
    schema = loaded.contract.sources["orders"].record_schema
    assert schema is not None
    assert json.loads(str(schema.text)) == json.loads(SCHEMA)
    dumped = loaded.contract.model_dump(mode="json", exclude_defaults=True)
    assert dumped["sources"]["orders"]["schema"]["file"] == "orders.avsc"
    assert Contract.model_validate(dumped) == loaded.contract


def test_only_what_the_schema_says_counts_and_not_its_layout(tmp_path):
    one = load_contract(write(tmp_path, orders__avsc=SCHEMA)).contract
    other = load_contract(write(tmp_path, orders__avsc=json.dumps(json.loads(SCHEMA), indent=2))).contract
    assert one == other


def test_a_field_that_the_schema_lacks_is_told_at_the_column_with_the_nearest_name(tmp_path):
    (found,) = problems(
        write(tmp_path, CONTRACT.replace("name: amount", "name: amuont"), orders__avsc=SCHEMA)
    )
    assert (found.line, found.message) == (12, "the schema has no field `amuont`")
    assert found.help == "did you mean `amount`?"


def test_a_pair_of_types_that_do_not_go_together_is_told_at_the_type(tmp_path):
    (found,) = problems(
        write(tmp_path, CONTRACT.replace("type: double", "type: boolean"), orders__avsc=SCHEMA)
    )
    assert found.line == 12
    assert found.message == "a floating-point number of 64 bits does not become boolean"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("{\n  oops", 2, "not JSON"),
        ('"string"', 1, "the schema is not a record"),
        ('{"type": "record",\n "fields": []}', 1, "name"),
        ('{"type": "record", "name": "R",\n "fields": [{"name": "a",\n "type": "strnig"}]}', 3, "strnig"),
    ],
)
def test_what_is_wrong_in_the_schema_is_told_in_its_own_file(tmp_path, text, line, says):
    (found,) = problems(write(tmp_path, orders__avsc=text))
    assert Path(found.file).name == "orders.avsc"
    assert found.line == line
    assert says in found.message


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("file: orders.avsc", "file: order.avsc", "there is no file order.avsc beside the contract"),
        ("file: orders.avsc", "file: ../orders.avsc", "not below the contract's folder"),
        ("file: orders.avsc", "file: /etc/passwd", "not below the contract's folder"),
        ("{file: orders.avsc}", "{}", "either `file: PATH` or `registry: true`"),
        ("{file: orders.avsc}", "{registry: true}", "expected `subject: NAME`"),
        ("{file: orders.avsc}", "{file: orders.avsc, registry: true, subject: s}", "either `file: PATH`"),
        ("{file: orders.avsc}", "{file: orders.avsc, version: 2}", "go with `registry: true`"),
        ("{file: orders.avsc}", "{file: orders.avsc, text: x}", "`text` is filled in by headgate"),
        ("{file: orders.avsc}", "{file: orders.avsc, message: a.B}", "`message` goes with Protobuf"),
        ("    schema: {file: orders.avsc}\n", "", "`format: avro` has a schema"),
        ("format: avro", "format: json", "`schema` goes with Avro and Protobuf"),
        ("format: avro", "format: protobuf", "which message of the schema?"),
        ("format: avro", "format: arvo", "did you mean `avro`?"),
        ("schema:", "shcema:", "did you mean `schema`?"),
    ],
)
def test_every_way_to_name_a_schema_wrongly_is_told(tmp_path, old, new, says):
    found = problems(write(tmp_path, CONTRACT.replace(old, new), orders__avsc=SCHEMA))
    assert any(says in str(each) for each in found), [str(each) for each in found]


def protobuf(message: str = "shop.Order") -> str:
    schema = f"schema: {{file: order.proto, message: {message}}}"
    text = CONTRACT.replace("schema: {file: orders.avsc}", schema).replace("format: avro", "format: protobuf")
    return text.replace("type: timestamp", "type: long")


def write_proto(folder: Path, contract: str, proto: str = PROTO) -> Path:
    (folder / "parts").mkdir()
    (folder / "parts" / "kind.proto").write_text('syntax = "proto3"; package shop; enum Kind { NONE = 0; }')
    return write(folder, contract, order__proto=proto)


def test_a_proto_file_is_compiled_with_what_it_imports(tmp_path):
    loaded = load_contract(write_proto(tmp_path, protobuf()))
    again = Contract.model_validate(loaded.contract.model_dump(mode="json", exclude_defaults=True))
    assert again == loaded.contract


def test_a_message_that_is_not_there_gets_the_nearest_name(tmp_path):
    (found,) = problems(write_proto(tmp_path, protobuf("shop.Odrer")))
    assert (found.line, found.expected) == (9, "did you mean `shop.Order`?")


def test_what_the_compiler_says_is_told_at_its_line(tmp_path):
    (found,) = problems(write_proto(tmp_path, protobuf(), PROTO.replace("double amount", "dubble amount")))
    assert (Path(found.file).name, found.line) == ("order.proto", 4)
    assert "dubble" in found.message


def test_a_descriptor_set_that_is_none_is_told(tmp_path):
    (tmp_path / "order.desc").write_bytes(b"\xff\xfe not a set")
    path = write(tmp_path, protobuf().replace("order.proto", "order.desc"))
    (found,) = problems(path)
    assert "not a whole descriptor set" in found.message


def test_a_compiler_that_does_not_end_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("headgate.formats.proto_compiler.COMPILE_SECONDS", 0)
    (found,) = problems(write_proto(tmp_path, protobuf()))
    assert "compiler has not come to an end" in found.message
    assert "try again" in str(found.help)
