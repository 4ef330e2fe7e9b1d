"""What reading in columns may cost: its steps are counted, for time says little of a busy machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from both_roads import ALWAYS, decoded
from proto_files import compiled
from proto_wire import tag, varint
from record_schemas import protobuf_source

from headgate.formats import protobuf_walk
from headgate.formats.decoder import Decoder

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
    decoder = Decoder(protobuf_source(text, "shop.Order", A), least=ALWAYS)
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
    decoder = Decoder(protobuf_source(text, "shop.Order", A), least=ALWAYS)
    read = read_one_at_a_time(decoder)
    decoder.decode(pa.array([hostile, *[fine] * 39], pa.binary()))
    assert read == [hostile]
    assert len(taken.records) < 10
    decoded(protobuf_source(text, "shop.Order", A), [hostile, fine, hostile])
