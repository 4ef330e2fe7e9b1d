"""Values of the plain shapes are converted; what might be read otherwise is doubtful, and never guessed."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest

from headgate.arrow.convert import Converted, convert
from headgate.contract.model import Column


def column(kind: str, **more: Any) -> Column:
    return Column.model_validate({"name": "c", "type": kind, **more})


def outcome(found: Converted) -> str | Any:
    """Of one value: what it is, `unreadable`, or `doubtful`."""
    if found.doubtful is not None and found.doubtful[0]:
        return "doubtful"
    if found.unreadable is not None and found.unreadable[0]:
        return "unreadable"
    return found.value[0].as_py()


NOON = datetime(2025, 10, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2025-10-01 12:00:00", NOON),
        ("2025-10-01T12:00:00", NOON),
        ("2025-10-01T12:00:00Z", NOON),
        ("2025-10-01 14:00:00+02:00", NOON),
        ("2025-10-01 06:30:00-05:30", NOON),
        ("2025-10-01 12:00:00.5", NOON.replace(microsecond=500_000)),
        ("2025-10-01 12:00:00.123456", NOON.replace(microsecond=123_456)),
        ("2025-02-28 00:00:00", datetime(2025, 2, 28, tzinfo=UTC)),
        (None, None),
        ("", "unreadable"),
        ("now", "unreadable"),
        ("12:00:00", "unreadable"),
        ("01/10/2025 12:00", "unreadable"),
        ("2025-02-29 00:00:00", "doubtful"),
        ("2025-10-01", "doubtful"),
        ("2025-10-01 12:00", "doubtful"),
        ("2025-10-01 12:00:00.1234567", "doubtful"),
        ("2025-10-01 12:00:00 Europe/Paris", "doubtful"),
        ("2025-10-01 12:00:00 ", "doubtful"),
        ("2025-10-01 24:00:00", "doubtful"),
        ("0000-10-01 12:00:00", "doubtful"),
        ("9999-12-31 23:59:59-05:00", "doubtful"),
    ],
)
def test_times_of_the_plain_shape_are_moments_in_utc(text, wanted):
    assert outcome(convert(pa.array([text], pa.string()), column("timestamp"))) == wanted


def test_times_of_several_shapes_in_one_block_do_not_disturb_each_other():
    texts = [
        "2025-10-01 12:00:00",
        "2025-10-01T12:00:00Z",
        None,
        "soon",
        "2025-10-01",
        "2025-10-01 13:00:00+01:00",
    ]
    found = convert(pa.array(texts), column("timestamp"))
    assert found.value.to_pylist() == [NOON, NOON, None, None, None, NOON]
    assert found.unreadable is not None and found.doubtful is not None
    assert found.doubtful.tolist() == [False, False, False, False, True, False]
    assert found.unreadable.tolist()[:4] == [False, False, False, True]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2025-02-28", date(2025, 2, 28)),
        ("2025-12-31", date(2025, 12, 31)),
        (None, None),
        ("yesterday", "unreadable"),
        ("2025-02-30", "doubtful"),
        ("2025-02-28 12:00", "doubtful"),
        ("0001-01-01", "doubtful"),
    ],
)
def test_dates(text, wanted):
    assert outcome(convert(pa.array([text], pa.string()), column("date"))) == wanted


@pytest.mark.parametrize(
    ("kind", "number", "wanted"),
    [
        ("epoch_seconds", 1_759_320_000, NOON),
        ("epoch_seconds", 0, datetime(1970, 1, 1, tzinfo=UTC)),
        ("epoch_seconds", None, None),
        ("epoch_seconds", 1_759_320_000_000, "unreadable"),
        ("epoch_seconds", -(2**63), "unreadable"),
        ("epoch_millis", 1_759_320_000_000, NOON),
        ("epoch_millis", 10**14, "unreadable"),
    ],
)
def test_numbers_since_the_epoch(kind, number, wanted):
    assert outcome(convert(pa.array([number], pa.int64()), column("timestamp", format=kind))) == wanted


@pytest.mark.parametrize(
    ("number", "wanted"),
    [(1.5, 1.5), (0.0, 0.0), (None, None), (-0.0, "doubtful"), (float("inf"), "doubtful")],
)
def test_the_negative_zero_is_left_to_spark(number, wanted):
    assert outcome(convert(pa.array([number], pa.float64()), column("double"))) == wanted
