"""Whatever Arrow's parser would make of them: only values that are one JSON object come out, as they are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.arrow.blocks import BLOCK, LONG, LONGEST, BlockReader

SCHEMA = pa.schema(
    [("n", pa.int32()), ("l", pa.int64()), ("d", pa.float64()), ("s", pa.string()), ("b", pa.bool_())]
)
PLAIN = b'{"n": 1, "l": 2, "d": 1.5, "s": "x", "b": true}'


def read(values: list[bytes | None]) -> dict[int, dict[str, Any]]:
    """What was read, by its place in `values`."""
    found = BlockReader(SCHEMA).read(pa.array(values, pa.binary()))
    assert found.rows.tolist() == sorted(set(found.rows.tolist()))
    return dict(zip(found.rows.tolist(), found.table.to_pylist(), strict=True))


def known(value: bytes | None) -> dict[str, Any] | None:
    """What a strict parser makes of it, or None where there is any doubt."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs if name in SCHEMA.names]
        if len(names) != len(set(names)):
            raise ValueError("a name twice")
        return dict(pairs)

    def never(text: str) -> Any:
        raise ValueError(text)

    try:
        found = json.loads((value or b"").decode("utf-8"), object_pairs_hook=once, parse_constant=never)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def fits(name: str, value: Any) -> bool:
    if value is None:
        return True
    if name in "nl":
        bits = 31 if name == "n" else 63
        return type(value) is int and -(2**bits) <= value < 2**bits
    return {"d": type(value) in (int, float), "s": type(value) is str, "b": type(value) is bool}[name]


def check(values: list[bytes | None]) -> None:
    for place, row in read(values).items():
        wanted = known(values[place])
        assert wanted is not None, values[place]
        for name in SCHEMA.names:
            value = wanted.get(name)
            assert fits(name, value), (values[place], name)
            assert row[name] == value, (values[place], name)


HOSTILE: list[bytes | None] = [
    None,
    b"",
    b" ",
    b"{",
    b"}",
    b"{}",
    b"null",
    b"17",
    b"[]",
    b'{"n": 1}{"n": 2}',
    b'{"n": 1} 17 {"n": 2}',
    b'{"n": 1} null {"n": 2}',
    b'{"n": 1} [] {"n": 2}',
    b'{"n": 1} "}" {"n": 2}',
    b'{"n": 1}\n{"n": 2}',
    b'{"n": 1},{"n": 2}',
    b'{"n": 1}\x00{"n": 2}',
    b'{"n": 1}\x00',
    b'\x00{"n": 1}',
    b'{"n": 1',
    b'"n": 1}',
    b'{"n": {"n": 1}',
    b'{"x": {"n": 1}',
    b'{"x": [{"n": 1}',
    b'{"s": "}',
    b'{"s": "a\nb"}',
    b'{"s": "a\tb"}',
    b'{"s": "\\ud83d"}',
    b'{"s": "\\ud83d\\ude00"}',
    b'{"s": "\\ude00"}',
    b'{"s": "\xff"}',
    b'{"s": "\xed\xa0\x80"}',
    b'{"x": "\xc0\xaf"}',
    b'{"d": NaN}',
    b'{"x": NaN}',
    b'{"x": Infinity}',
    b'{"x": -Inf}',
    b'{"d": -Infinity}',
    b'{"d": 1e400}',
    b'{"x": 1e400}',
    b'{"n": 1, "n": 2}',
    b'{"n": 1, "\\u006e": 2}',
    b'{"\\u006e": 1}',
    b'{"n": null, "n": 1}',
    b'{"n": "1"}',
    b'{"n": 1.0}',
    b'{"n": 2147483647}',
    b'{"n": -2147483648}',
    b'{"n": 2147483648}',
    b'{"l": 9223372036854775807}',
    b'{"l": 9223372036854775808}',
    b'{"n": 007}',
    b'{"s": 1}',
    b'{"b": "true"}',
    b'{"n": 1,}',
    b"{'n': 1}",
    b'{"n": 1} // x',
    b'\xef\xbb\xbf{"n": 1}',
    b'{"x": {"y": [1}, "n": 1}',
    b'{"x": [1 2], "n": 1}',
    b'{"x": [}], "n": 1}',
    b'{"x": {]}, "n": 1}',
    b'{"x": {"y": 1}}, "n": 1}',
    b'{"x": [NaN], "n": 1}',
    b'{"x": {"y": [1, {"n": "deep"}]}, "n": 1}',
    b'{"x": ' + b"[" * 2000 + b"]" * 2000 + b"}",
    b'{"x": ' + b"[" * 20 + b"]" * 20 + b"}",
    b'{"x": 1' + b"0" * 1200 + b"}",
    b'{"s": "' + b"1" * 3000 + b'"}',
    b'{"s": "' + b"x" * LONGEST + b'"}',
    b'{"' + b"x" * 2 * LONG + b'": 1}',
    b'{"' + b"x" * 2 * LONG + b'" : 1}',
    b'{"s": {"' + b"x" * 2 * LONG + b'": 1}, "n": 1}',
    b'{"' + b"x" * 2 * LONG + b'\\\\": ",", "n": 1}',
    b'{"' + b"x" * LONG + b'\\"' + b"x" * LONG + b'": 1, "n": 1}',
    b" \t\r\n" + PLAIN + b"\n ",
]


def test_a_hostile_corpus_is_read_as_a_strict_parser_reads_it_or_left():
    check(HOSTILE)
    check([each for value in HOSTILE for each in (PLAIN, value, PLAIN)])


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_one_hostile_value_costs_no_other_record(value):
    found = read([PLAIN, value, PLAIN])
    assert {0, 2} <= found.keys()
    assert found[0] == found[2] == json.loads(PLAIN)


@pytest.mark.parametrize(
    "value",
    [
        b'{"' + b"x" * 60_000 + b'": 1, "n": 1}',
        b'{"n": 1, "x": {"' + b"x" * 60_000 + b'" : 1}}',
        b'{"' + b"x" * 60_000 + b'\\\\": ",", "n": 1}',
        b'{"' + b"x" * 30_000 + b'\\"' + b"x" * 30_000 + b'": 1, "n": 1}',
        b'{"' + b"\\u0022" * 60_000 + b'": 1, "n": 1}',
    ],
    ids=["last", "inner", "backslash", "quote", "code"],
)
def test_a_name_that_is_longer_than_spark_takes_is_left(value):
    assert sorted(read([PLAIN, value, PLAIN])) == [0, 2]


@pytest.mark.parametrize("shift", range(25))
def test_a_wide_object_is_read_however_its_members_lie(shift):
    members = ", ".join(f'"text_{n:02}": "ten signs."' for n in range(100))  # one in twenty-five signs
    value = f'{{"n": 1, "s": "{"x" * shift}", {members}}}'.encode()
    assert list(read([value])) == [0]


def test_texts_of_a_megabyte_are_read_wherever_they_stand():
    text = b"x, y} ] :" * 110_000
    values: list[bytes | None] = [
        b'{"s": "' + text.replace(b"}", b"") + b'", "n": 1}',
        b'{"n": 1, "s": "' + text.replace(b"}", b"") + b'"}',
        b'{"n": 1, "x": ["' + text.replace(b"}", b"") + b'"]}',
    ]
    found = read(values)
    assert sorted(found) == [0, 1, 2]
    assert [len(found[row]["s"] or "") for row in range(3)] == [880_000, 880_000, 0]


def test_plain_objects_are_all_read_whatever_else_they_have():
    values: list[bytes | None] = [
        b'{"n": 1}',
        b'{ "n" : 1 , "d" : -1.5e-7 }',
        b'{"unknown": {"a": [1, {"b": null}]}, "n": 3, "nn": "x", "": 0}',
        '{"s": "ä😀\\u00e4\\n"}'.encode(),
        b'{"s": "}{"}',
        b'{"n": null}',
        b"{}",
    ]
    assert sorted(read(values)) == list(range(len(values)))


def test_records_of_many_blocks_keep_their_places():
    values: list[bytes | None] = [b'{"n": %d}' % n if n % 7 else b'{"n": "%d"}' % n for n in range(3 * BLOCK)]
    found = read(values)
    assert sorted(found) == [n for n in range(3 * BLOCK) if n % 7]
    assert all(row["n"] == place for place, row in found.items())


def test_a_value_that_is_cut_does_not_send_the_others_through_the_pattern():
    reader = BlockReader(SCHEMA)
    sent: list[int] = []
    by_pattern = reader._by_pattern

    def noted(values: pa.Array, rows: Any) -> Any:
        sent.append(len(rows))
        return by_pattern(values, rows)

    reader._by_pattern = noted  # type: ignore[method-assign]
    values = [b'{"n": %d}' % n for n in range(1000)]
    values[500], values[700] = b'{"n": 500', b'{"x": {}, "n": 700}'
    found = reader.read(pa.array(values, pa.binary()))
    assert found.table["n"].to_pylist() == [n for n in range(1000) if n != 500]
    assert sent == [2]


def test_a_slice_of_a_larger_array_is_read_from_its_own_beginning():
    values = pa.array([b'{"n": %d}' % n for n in range(10)], pa.binary()).slice(3, 4)
    found = BlockReader(SCHEMA).read(values)
    assert found.table["n"].to_pylist() == [3, 4, 5, 6]
    assert np.array_equal(found.rows, np.arange(4))


def test_records_that_only_the_parser_can_refuse_do_not_make_it_read_them_one_by_one():
    reader, calls = BlockReader(SCHEMA), 0
    parse = reader._parse

    def counted(values: pa.Array) -> pa.Table:
        nonlocal calls
        calls += 1
        return parse(values)

    reader._parse = counted  # type: ignore[method-assign]
    twice = pa.array([b'{"n": 1, "n": 2}'] * 5000, pa.binary())
    assert not len(reader.read(twice).rows)
    assert calls < 500


_TEXTS = st.text(max_size=6)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-5, 5),
    st.floats(allow_nan=True, allow_infinity=True),
    _TEXTS,
    st.sampled_from(["}", "{", '"', "\\", "NaN", "\ud83d", "\x00", "\n"]),
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3)
)
_NAMES = st.sampled_from([*SCHEMA.names, "N", "nn", "", "x", "\u00e4"])
_OBJECTS = st.dictionaries(_NAMES, _VALUES, max_size=4)
_DUMPED = st.builds(
    lambda value, ascii_, gap: json.dumps(
        value, ensure_ascii=ascii_, separators=(f"{gap},", f":{gap}")
    ).encode("utf-8", "surrogatepass"),
    _OBJECTS,
    st.booleans(),
    st.sampled_from(["", " ", "\n", "\t"]),
)
_CUT = st.builds(lambda value, at: value[: at % (len(value) + 1)], _DUMPED, st.integers(0, 1000))
_BROKEN = st.builds(
    lambda value, at, what: value[: at % (len(value) + 1)] + what + value[at % (len(value) + 1) :],
    _DUMPED,
    st.integers(0, 1000),
    st.sampled_from([b"{", b"}", b"[", b"]", b'"', b",", b":", b"\x00", b"\xff", b"0", b"-", b" ", b"NaN"]),
)
_JOINED = st.builds(
    lambda parts, by: by.join(parts),
    st.lists(_DUMPED, min_size=2, max_size=3),
    st.sampled_from([b"", b" ", b"\n", b",", b"null", b" 17 ", b"[]"]),
)
_ANY = st.one_of(_DUMPED, _CUT, _BROKEN, _JOINED, st.binary(max_size=8), st.none())


@settings(max_examples=300, deadline=None)
@given(st.lists(_ANY, min_size=1, max_size=12))
def test_whatever_comes_is_read_as_a_strict_parser_reads_it_or_left(values):
    check(values)
