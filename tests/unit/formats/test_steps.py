"""What reading in columns may cost: its steps are counted, for time says little of a busy machine."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from both_roads import ALWAYS, decoded, raised
from damage import damaged
from proto_files import compiled
from proto_wire import tag, varint
from record_schemas import avro_bytes, avro_schema, avro_source, protobuf_source

from headgate.contract.model import Source
from headgate.formats import protobuf_walk
from headgate.formats.decoder import Decoder
from headgate.formats.lockstep import Lanes

VARINT, SIZED = 0, 2
A = [{"name": "a", "type": "long"}]
GOOD = tag(1, VARINT) + b"\x05"


def sized(number: int, body: bytes) -> bytes:
    return tag(number, SIZED) + varint(len(body)) + body


class Taken:
    """The steps of walks, and the records that each of them had."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.records: list[int] = []
        take = protobuf_walk._take

        def counted(members: Any, key: int, lanes: Any, *rest: Any) -> None:
            self.records.append(len(lanes.at))
            take(members, key, lanes, *rest)

        monkeypatch.setattr(protobuf_walk, "_take", counted)


@pytest.fixture
def taken(monkeypatch):
    return Taken(monkeypatch)


def read_one_at_a_time(decoder: Decoder) -> list[bytes]:
    """Has the records that the exact road is given, once there are some."""
    read: list[bytes] = []
    exact = decoder._own.read

    def noted(value: bytes) -> Any:
        read.append(value)
        return exact(value)

    decoder._own = replace(decoder._own, read=noted)
    return read


def test_messages_inside_one_another_have_the_steps_of_one_block_together(taken):
    inside = " ".join(f"Inner f{number} = {number};" for number in range(1, 11))
    fields = " ".join(f"Outer f{number} = {number};" for number in range(2, 12))
    text = compiled(f"int64 a = 1; {fields} message Outer {{ {inside} }} message Inner {{ int32 x = 1; }}")
    unknown = tag(15, VARINT) + b"\x00"
    outer = b"".join(sized(number, unknown * 50) for number in range(1, 11))
    hostile = GOOD + b"".join(sized(number, outer) for number in range(2, 12))
    values = [hostile, *[GOOD] * 100]
    decoder = Decoder(protobuf_source(text, "shop.Order", A), least=ALWAYS, on_fault=raised)
    read = read_one_at_a_time(decoder)
    found = decoder.decode(pa.array(values, pa.binary()))
    assert len(taken.records) <= 64 + sum(taken.records) // 64
    assert read == [hostile]
    assert found.columns[0].to_pylist() == [5] * 101


def test_a_message_that_is_there_twice_is_left_also_where_another_took_its_place(taken):
    text = compiled(
        "int64 a = 1; oneof one { In p = 2; In q = 3; } message In { oneof two { Deep r = 1; Deep s = 2; } }"
        " message Deep { int32 x = 1; }"
    )
    deep = (sized(1, b"") + sized(2, b"")) * 20
    hostile = GOOD + (sized(2, deep) + sized(3, deep)) * 20
    fine = GOOD + sized(2, sized(1, b"")) + sized(3, sized(2, b"\x08\x01"))
    decoder = Decoder(protobuf_source(text, "shop.Order", A), least=ALWAYS, on_fault=raised)
    read = read_one_at_a_time(decoder)
    decoder.decode(pa.array([hostile, *[fine] * 39], pa.binary()))
    assert read == [hostile]
    assert len(taken.records) < 10
    decoded(protobuf_source(text, "shop.Order", A), [hostile, fine, hostile])


class Read:
    """The records that each number was read of, whether they were `ok` or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.records: list[int] = []
        varint = Lanes.varint

        def counted(lanes: Lanes) -> Any:
            self.records.append(len(lanes.at))
            return varint(lanes)

        monkeypatch.setattr(Lanes, "varint", counted)


@pytest.fixture
def numbers(monkeypatch):
    return Read(monkeypatch)


WIDE = [(f"f{number}", "long") for number in range(200)]
INSIDE = [("r", {"type": "record", "name": "R", "fields": [{"name": n, "type": t} for n, t in WIDE]})]


def wide(fields: list[Any]) -> Source:
    return avro_source(avro_schema(("n", "long"), *fields), [{"name": "n", "type": "long"}])


@pytest.mark.parametrize("fields", [WIDE, INSIDE], ids=["flat", "nested"])
def test_what_no_record_has_any_more_is_not_looked_for(numbers, fields):
    found = Decoder(wide(fields), on_fault=raised).decode(pa.array([b""] * 1000, pa.binary()))
    assert found.broken.to_pylist() == [True] * 1000
    assert len(numbers.records) <= 2 * 16


@pytest.mark.parametrize("fields", [WIDE, INSIDE], ids=["flat", "nested"])
def test_records_that_are_odd_are_not_taken_along_with_the_few_that_are_not(numbers, fields):
    values = [b""] * 990 + [b"\x02" * 201] * 10
    found = Decoder(wide(fields), on_fault=raised).decode(pa.array(values, pa.binary()))
    assert found.columns[0].to_pylist() == [None] * 990 + [1] * 10
    assert sum(numbers.records) <= 2 * 16 * 1000 + 201 * 10


def test_messages_that_are_odd_are_not_taken_along_with_the_few_that_are_not(monkeypatch):
    kept: list[int] = []
    merged = protobuf_walk._Found._merged

    def counted(found: Any, old: Any, new: Any, rows: Any) -> Any:
        kept.append(len(found._begin))
        return merged(found, old, new, rows)

    monkeypatch.setattr(protobuf_walk._Found, "_merged", counted)
    text = compiled(" ".join(f"int64 f{number} = {number};" for number in range(1, 101)))
    columns = [{"name": f"f{number}", "type": "long"} for number in range(1, 101)]
    good = b"".join(tag(number, VARINT) + b"\x05" for number in range(1, 101))
    odd = good[:4] + tag(0, VARINT)
    values = pa.array([odd] * 990 + [good] * 10, pa.binary())
    found = Decoder(protobuf_source(text, "shop.Order", columns), least=ALWAYS, on_fault=raised).decode(
        values
    )
    assert found.columns[99].to_pylist() == [None] * 990 + [5] * 10
    assert 0 < sum(kept) <= 16 * 1000 + 101 * 10


def singles(count: int, wanted: int, more: str = "") -> Source:
    text = compiled(" ".join(f"int32 f{number} = {number};" for number in range(1, count + 1)) + more)
    columns = [{"name": f"f{number}", "type": "int"} for number in range(1, wanted + 1)]
    return protobuf_source(text, "shop.Order", columns)


def read_in_columns(source: Source, count: int, fields: int) -> int:
    """How many of so many messages with so many fields are, where the decoder has the choice."""
    decoder = Decoder(source, on_fault=raised)
    read = read_one_at_a_time(decoder)
    message = b"".join(tag(number, VARINT) + b"\x05" for number in range(1, fields + 1))
    found = decoder.decode(pa.array([message] * count, pa.binary()))
    assert found.columns[0].to_pylist() == [5] * count
    return count - len(read)


def test_how_many_messages_are_worth_a_block_depends_on_how_many_fields_they_have_and_give():
    assert read_in_columns(singles(5, 5), 200, 5) == 200
    assert read_in_columns(singles(5, 5), 20, 5) == 0
    assert read_in_columns(singles(200, 3), 2000, 200) == 0
    assert read_in_columns(singles(200, 200), 2000, 200) == 2000
    assert read_in_columns(singles(500, 1), 10_000, 5) == 0


def test_the_fields_of_a_message_inside_count_as_well():
    inside = " ".join(f"int32 f{number} = {number};" for number in range(1, 101))
    nested = singles(5, 5, f" In f6 = 6; message In {{ {inside} }}")
    assert read_in_columns(nested, 200, 5) == 0
    assert read_in_columns(nested, 4000, 5) == 4000


def test_what_is_left_over_behind_whole_blocks_is_no_block_if_it_is_too_small():
    assert read_in_columns(singles(5, 5), 10_020, 5) == 10_000


def mostly_damaged(good: bytes, seed: int) -> list[bytes | None]:
    chance = random.Random(seed)
    kinds = ["cut", "cut", "flip", "noise", "empty", "high", "none"]
    return [damaged(good, chance.choice(kinds), chance.randrange(2**32)) for _ in range(60)]


@pytest.mark.parametrize("seed", range(8))
def test_batches_of_which_most_records_are_damaged_are_read_as_one_at_a_time(seed):
    types = ["long", "string", "double", ["null", "int"], "boolean"]
    fields = [{"name": f"f{number}", "type": types[number % 5]} for number in range(60)]
    one: dict[str, Any] = {"long": 300, "string": "aä", "double": -0.0, "boolean": True}
    record = {each["name"]: one.get(str(each["type"]), 5) for each in fields}
    columns = [
        {"name": each["name"], "type": str(each["type"] if isinstance(each["type"], str) else "int")}
        for each in fields[::2]
    ]
    nested = ("r", {"type": "record", "name": "R", "fields": fields})
    schema = avro_schema(*((each["name"], each["type"]) for each in fields), nested)
    good = avro_bytes(schema, {**record, "r": record})
    found = decoded(avro_source(schema, columns), mostly_damaged(good, seed))
    assert not all(found.broken.to_pylist())


@pytest.mark.parametrize("seed", range(8))
def test_batches_of_which_most_messages_are_damaged_are_read_as_one_at_a_time(seed):
    types = ["int64", "string", "double", "optional int32", "bool"]
    bodies = [(VARINT, varint(300)), (SIZED, b"\x03a\xc3\xa4"), (1, b"\x00" * 7 + b"\x80"), (VARINT, b"\x05")]
    bodies.append((VARINT, b"\x01"))
    numbered = range(1, 41)
    fields = " ".join(f"{types[number % 5]} f{number} = {number};" for number in numbered)
    text = compiled(
        f"{fields} In f41 = 41; google.protobuf.StringValue f42 = 42; message In {{ {fields} }}",
        imports=("google/protobuf/wrappers.proto",),
    )
    body = b"".join(tag(number, bodies[number % 5][0]) + bodies[number % 5][1] for number in numbered)
    good = body + sized(41, body) + sized(42, sized(1, b"text"))
    kinds = ["long", "string", "double", "int", "boolean"]
    columns = [{"name": f"f{number}", "type": kinds[number % 5]} for number in numbered]
    source = protobuf_source(text, "shop.Order", [*columns, {"name": "f42", "type": "string"}])
    found = decoded(source, mostly_damaged(good, seed))
    assert not all(found.broken.to_pylist())
