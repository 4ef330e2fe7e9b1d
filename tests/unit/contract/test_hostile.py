"""Whatever bytes a contract file holds, loading it gives a contract or a ContractError."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from contract_examples import ORDERS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate.contract.loader import LoadedContract, parse_contract
from headgate.errors import Problem

SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

WORDS = """
    { } [ ] : - ? & * ! | > ' " % @ ` # , ~ null true .inf .nan 0x1f 1e999 -1 0 '' "" [] {} - --- ...
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
