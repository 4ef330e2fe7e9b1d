"""Protobuf's bytes put together field by field, also as no writer would."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["messages", "tag", "varint"]

WIRES = VARINT, FIXED64, SIZED, FIXED32 = 0, 1, 2, 5
_EDGES = [0, 1, 2, 5, 127, 128, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 2]


def varint(number: int, padding: int = 0) -> bytes:
    """`padding`: so many bytes more than it needs."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    for _ in range(padding):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


def tag(number: int, wire: int, padding: int = 0) -> bytes:
    return varint(number << 3 | wire, padding)


_PADDING = st.sampled_from([0, 0, 0, 0, 0, 1, 3, 6])
_NUMBERS = st.one_of(st.sampled_from(_EDGES), st.integers(0, 300), st.integers(0, 2**64 - 1))
_BYTES = st.one_of(st.text("aä€😀\x00", max_size=6).map(str.encode), st.binary(max_size=6))
_SCALARS = {
    VARINT: st.builds(varint, _NUMBERS, _PADDING),
    FIXED64: st.binary(min_size=8, max_size=8),
    FIXED32: st.binary(min_size=4, max_size=4),
}


@st.composite
def messages(draw: st.DrawFn, fields: dict[int, int | dict[int, int]]) -> bytes:
    """`fields` has the wire type of each number, or the fields of the message that it is. Now and then a
    field has another one, or is none of them, and they come in any order, once or more."""
    out = b""
    in_order = draw(st.booleans())
    numbers = draw(st.lists(st.sampled_from(sorted(fields)), max_size=8, unique=in_order))
    odd = draw(st.sampled_from([0, 0, 0, 1, 2]))
    for known in sorted(numbers) if in_order else numbers:
        number, kind = known, fields[known]
        if odd == 1 and draw(st.integers(0, 3)) == 0:
            number, kind = draw(st.sampled_from([50, 51, 2**29 - 1])), draw(st.sampled_from(WIRES))
        elif odd == 2 and draw(st.integers(0, 3)) == 0:
            kind = draw(st.sampled_from(WIRES))
        out += _field(draw, number, kind, draw(_PADDING) if odd else 0)
    return out


def _field(draw: st.DrawFn, number: int, kind: int | dict[int, int], padding: int) -> bytes:
    if isinstance(kind, int) and kind in _SCALARS:
        return tag(number, kind, padding) + draw(_SCALARS[kind])
    body = draw(messages(kind)) if isinstance(kind, dict) else draw(_BYTES)
    return tag(number, SIZED, padding) + varint(len(body), padding) + body
