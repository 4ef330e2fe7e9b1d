"""Lines of text: which are read, and what a pattern takes out of them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from headgate.arrow.lines import LineReader
from headgate.contract.model import Source

LEVELS = r"(?<level>[A-Z]+):(?<text>.*)"


def source(pattern: str | None, *names: str) -> Source:
    columns = [{"name": name, "type": "string"} for name in names]
    return Source.model_validate({"topic": "t", "format": "text", "pattern": pattern, "columns": columns})


def read(own: Source, *values: bytes | None) -> tuple[list[int], dict[str, Any]]:
    found = LineReader(own).read(pa.array(values, pa.binary()))
    assert len(found.lines) == len(found.rows)
    return found.rows.tolist(), {name: texts.to_pylist() for name, texts in found.fields.items()}


def test_a_pattern_gives_each_column_its_group_and_null_where_it_is_empty_or_nothing_matches() -> None:
    rows, fields = read(source(LEVELS, "level", "text"), b"INFO:x y", b"WARN:", b"nothing", "ERR:ä".encode())
    assert rows == [0, 1, 2, 3]
    assert fields == {"level": ["INFO", "WARN", None, "ERR"], "text": ["x y", None, None, "ä"]}


def test_a_column_without_a_group_has_the_whole_line() -> None:
    _, fields = read(source(LEVELS, "line", "level"), b"on INFO:x")
    assert fields == {"line": ["on INFO:x"], "level": ["INFO"]}


def test_without_a_pattern_any_text_is_a_line() -> None:
    rows, fields = read(source(None, "line"), b"a\nb", b"", "\u2028".encode(), None, b"\xff")
    assert (rows, fields) == ([0, 1, 2], {"line": ["a\nb", "", "\u2028"]})


@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\f", "\x85", "\u2028", "\u2029"])
def test_with_a_pattern_a_value_with_several_lines_is_left(end: str) -> None:
    rows, fields = read(source(LEVELS, "level"), f"INFO:x{end}".encode(), b"INFO:\xff", b"INFO:x", None)
    assert (rows, fields) == ([2], {"level": ["INFO"]})


def test_a_line_that_is_not_ascii_is_left_where_the_pattern_asks_for_the_edge_of_a_word() -> None:
    rows, _ = read(source(r"\b(?<level>[A-Z]+)\b", "level"), "ä INFO".encode(), b"INFO")
    assert rows == [1]
