"""Texts as values of a column's type: what is plain is read, what is there and is not plain is doubtful."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest

from headgate.arrow.kinds import Unsupported
from headgate.arrow.texts import check_text, convert_text
from headgate.contract.model import Column

AT = datetime(2025, 10, 1, 12, tzinfo=UTC)
DOUBTFUL, UNREADABLE = "doubtful", "unreadable"


def read(text: str | None, **column: Any) -> Any:
    one = Column(name="v", **column)
    check_text(one)
    found = convert_text(pa.array([text, None], pa.string()), one)
    assert found.value[1].as_py() is None
    for mask in (found.doubtful, found.unreadable):
        assert mask is None or not mask[1]
    if found.doubtful is not None and found.doubtful[0]:
        return DOUBTFUL
    if found.unreadable is not None and found.unreadable[0]:
        return UNREADABLE
    return found.value[0].as_py()


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("string", "", ""),
        ("string", " ä ", " ä "),
        ("int", "0", 0),
        ("int", "-999999999", -999999999),
        ("int", "2147483648", DOUBTFUL),
        ("int", " 7", DOUBTFUL),
        ("int", "007", DOUBTFUL),
        ("int", "x", DOUBTFUL),
        ("long", "999999999999999999", 999999999999999999),
        ("long", "9223372036854775808", DOUBTFUL),
        ("double", "-0", -0.0),
        ("double", "0.30000000000000004", DOUBTFUL),
        ("double", "0.1", 0.1),
        ("double", "1e3", DOUBTFUL),
        ("double", "NaN", DOUBTFUL),
        ("float", "16777217", 16777216.0),
        ("boolean", "true", True),
        ("boolean", "T", DOUBTFUL),
        ("date", "2025-10-01", date(2025, 10, 1)),
        ("date", "2025-02-30", DOUBTFUL),
        ("date", "soon", UNREADABLE),
        ("timestamp", "2025-10-01 12:00:00", AT),
        ("timestamp", "2025-10-01 12:00", DOUBTFUL),
        ("timestamp", "soon", UNREADABLE),
    ],
)
def test_a_text_is_its_value_or_left_to_spark(kind: str, text: str, value: Any) -> None:
    found = read(text, type=kind)
    assert found == value
    assert str(found) == str(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1759320000", AT), ("1759320000.5", DOUBTFUL), ("999999999999999999", UNREADABLE), ("", DOUBTFUL)],
)
def test_seconds_since_1970_are_read_from_texts(text: str, value: Any) -> None:
    assert read(text, type="timestamp", format="epoch_seconds") == value


@pytest.mark.parametrize(
    ("column", "why"),
    [
        ({"type": "timestamp", "zone": "Europe/Paris"}, "Paris"),
        ({"type": "timestamp", "format": "MMM d"}, "format"),
        ({"type": "date", "format": "dd.MM.yyyy"}, "format"),
        ({"type": "binary"}, "binary"),
        ({"type": "decimal(10,2)"}, "decimal"),
    ],
)
def test_what_a_text_does_not_become_here_is_said(column: dict[str, Any], why: str) -> None:
    with pytest.raises(Unsupported, match=why):
        check_text(Column(name="v", **column))


def test_a_zone_has_no_say_over_seconds_since_1970() -> None:
    assert read("1759320000", type="timestamp", format="epoch_seconds", zone="Europe/Paris") == AT
