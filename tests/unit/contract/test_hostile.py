"""Whatever bytes a contract file holds, loading it gives a contract or a ContractError."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from contract_examples import ORDERS, changed, place_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate.contract.loader import LoadedContract, parse_contract
from headgate.errors import Problem

SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

WORDS = """
    { } [ ] : - ? & * ! | > ' " % @ ` # , ~ null true .inf .nan 0x1f 1e999 -1 0 '' "" [] {} - --- ...
    !!bool !!int !!float !!null !!str !!timestamp !!binary !
    &a *a <<: !!map !!python/name:os.system !<tag:x> \x00 \ufeff \ud7ff 😀 ä
    9999999999999999999999 2026-13-45 12:30:45 \\u0000 *orders
""".split()
SPACES = ["\n", "\n  ", "\n    - ", " ", "\r", "\r\n", "\t", "\x85", "\u2028"]
FRAGMENTS = st.sampled_from([*WORDS, *SPACES])
SQL_WORDS = st.lists(
    st.sampled_from(
        """
        SELECT FROM WHERE GROUP BY orders at shop amount ( ) , * + - / % = < > <> 1 2 'x' NULL AND OR NOT CASE
        WHEN THEN ELSE END CAST AS INT count sum window BETWEEN IN LIKE IS -> . :: [ ] { } ; -- /* */ ` " '
        DROP TABLE CREATE VIEW INSERT INTO VALUES UNION ALL WITH x LATERAL VIEW explode JOIN ON USING EXISTS
        DISTINCT HAVING INTERVAL DATE now() rand() json.`/x` ${x} :y ? @z TRANSFORM OVER ORDER LIMIT 0x1 1e400
        """.split()
    ),
    max_size=14,
).map(" ".join)


def outcome(data: bytes) -> LoadedContract | list[Problem]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.yaml"
        path.write_bytes(data)
        return parse_contract(path)


def check(data: bytes) -> None:
    result = outcome(data)
    if isinstance(result, LoadedContract):
        return
    assert result, "refused without a reason"
    for problem in result:
        assert problem.line >= 1
        assert problem.column >= 1
        assert problem.message
        assert str(problem)


@SLOW
@given(st.binary(max_size=400))
def test_random_bytes_never_raise(data):
    check(data)


@SLOW
@given(st.data())
def test_a_valid_contract_with_pieces_put_in_and_cut_out_never_raises(data):
    text = ORDERS
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 25)))
        text = text[:start] + data.draw(FRAGMENTS | st.text(max_size=6)) + text[end:]
    check(text.encode("utf-8", "surrogatepass"))


@SLOW
@given(st.data())
def test_a_valid_contract_with_swapped_values_never_raises(data):
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )
    lines = ORDERS.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        number = data.draw(st.integers(0, len(lines) - 1))
        key, colon, _ = lines[number].partition(": ")
        if colon:
            lines[number] = f"{key}: {data.draw(values)!r}".replace("None", "null")
    check("\n".join(lines).encode("utf-8", "surrogatepass"))


@SLOW
@given(SQL_WORDS, SQL_WORDS)
def test_random_words_as_sql_never_raise(output, rule):
    text = ORDERS.replace("SELECT at, shop, amount FROM orders", output.replace('"', '\\"'))
    text = text.replace("amount > 0", rule.replace('"', '\\"'))
    check(text.replace("\\\\", "").encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pipeline: orders", "pipeline: !!bool maybe"),
        ("version: 1", 'version: !!int ""'),
        ("version: 1", "version: !!float x"),
        ("version: 1", "version: !!int 1"),
        ("owner: shop", "owner: ! shop"),
        ("owner: shop", "owner: !!str shop"),
    ],
)
def test_a_tag_is_refused_in_its_place(old, new):
    text = changed(old, new)
    (problem,) = outcome(text.encode())
    assert (problem.line, problem.column) == place_of(new.partition(": ")[2], text)
    assert "is not accepted" in problem.message


@pytest.mark.parametrize("depth", [70, 1900, 20_000])
@pytest.mark.parametrize("shape", ["({}amount{}) > 0", "amount > {}1{}", "{}NOT {}amount > 0"])
def test_rules_that_are_nested_too_deeply_say_so(depth, shape):
    opened, closed = ("NOT " * depth, "") if "NOT" in shape else ("(" * depth, ")" * depth)
    (problem, *_) = outcome(changed("amount > 0", shape.format(opened, closed)).encode())
    assert problem.message
    deep = outcome(changed("amount > 0", "amount" + " + amount" * 70 + " > 0").encode())
    assert "levels deep" in deep[0].message
