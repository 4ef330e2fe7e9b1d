"""The registry's wire format, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.formats.avro_binary import MalformedError
from headgate.formats.wire import Framed, frame, split

IDS = st.integers(0, 2**32 - 1)
PATHS = st.lists(st.integers(0, 300), min_size=1, max_size=5).map(tuple)


@settings(deadline=None)
@given(IDS, st.binary())
def test_avro_is_framed_by_its_id(schema_id, body):
    assert split(frame(schema_id, (), body), with_path=False) == Framed(schema_id, (), body)


@settings(deadline=None)
@given(IDS, PATHS, st.binary())
def test_protobuf_has_the_path_of_its_message(schema_id, path, body):
    assert split(frame(schema_id, path, body), with_path=True) == Framed(schema_id, path, body)


def test_the_first_message_is_written_as_nothing():
    assert frame(1, (0,), b"x") == b"\x00\x00\x00\x00\x01\x00x"
    assert split(b"\x00\x00\x00\x00\x01\x02\x00x", with_path=True) == Framed(1, (0,), b"x")


@settings(deadline=None)
@given(st.binary(max_size=12), st.booleans())
def test_any_bytes_are_framed_or_malformed_and_never_anything_else(value, with_path):
    try:
        found = split(value, with_path=with_path)
    except (MalformedError, IndexError):
        return
    assert value.endswith(found.body)


@pytest.mark.parametrize("value", [b"\x00\x00\x00\x00\x01\xff\xff\xff\x7f", b"\x00\x00\x00\x00\x01\x01"])
def test_a_path_without_end_or_of_a_negative_length_is_malformed(value):
    with pytest.raises(MalformedError):
        split(value, with_path=True)
