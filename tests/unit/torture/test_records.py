from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.contract.model import Column, Contract, Rule, Source
from headgate.contract.text import python_pattern
from headgate.errors import RefusedError
from headgate.torture.records import SourceRecords, refuse_unmakeable
from headgate.torture.texts import Sampler

NOW = datetime(2026, 1, 1, tzinfo=UTC)
READINGS = Source.model_validate(
    {
        "topic": "t",
        "columns": [
            {"name": "at", "type": "timestamp", "required": True},
            {"name": "value", "type": "double", "required": True},
            {"name": "shop", "type": "string"},
        ],
        "event_time": {"column": "at", "watermark": "10 minutes"},
        "rules": [
            {"name": "in_range", "expect": "value BETWEEN -50 AND 100"},
            {"name": "known", "expect": "shop IN ('north', 'south')"},
        ],
    }
)
LOG = r"(?<time>\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:.*?\b(?<level>INFO|WARN(?:ING)?)\b)?"


def made(source: Source, count: int, seed: str = "s") -> list[bytes]:
    records = SourceRecords(source, seed, 1000, NOW)
    return [records.make(number) for number in range(count)]


def objects(values: list[bytes]) -> list[dict[str, object]]:
    found = []
    for value in values:
        try:
            one = json.loads(value)
        except ValueError:
            continue
        if isinstance(one, dict):
            found.append(one)
    return found


def test_a_record_is_a_function_of_seed_and_number() -> None:
    assert made(READINGS, 50) == made(READINGS, 50)
    assert made(READINGS, 50) != made(READINGS, 50, "another")


def test_most_records_are_good_and_every_rule_is_broken_now_and_then() -> None:
    records = [one for one in objects(made(READINGS, 3000)) if isinstance(one.get("value"), int | float)]
    inside = sum(1 for one in records if -50 <= float(str(one["value"])) <= 100)
    assert 0.85 * len(records) < inside < len(records)
    shops = [one.get("shop") for one in records]
    assert 0.7 * len(shops) < sum(1 for shop in shops if shop in ("north", "south")) < len(shops)
    assert len(records) < 2990


@settings(deadline=None)
@given(st.integers(0, 100_000), st.floats(0, 1, exclude_max=True), st.integers(0, 100))
def test_no_event_time_is_late_for_what_came_before_or_in_the_future(
    number: int, jitter: float, ahead: int
) -> None:
    """A batch may have read up to `ahead` records beyond this one in another partition."""
    records = SourceRecords(READINGS, "s", 5000, NOW)
    mine = records.moment(number, jitter)
    newest = records.moment(number + ahead, 0.0)
    assert mine > newest - timedelta(minutes=10)
    assert newest < NOW


def test_a_line_fits_the_pattern_of_its_source_and_carries_the_time() -> None:
    source = Source.model_validate(
        {
            "topic": "t",
            "format": "text",
            "pattern": LOG,
            "columns": [{"name": "time", "type": "timestamp"}, {"name": "level", "type": "string"}],
            "event_time": {"column": "time"},
        }
    )
    lines = [value.decode(errors="replace") for value in made(source, 500)]
    fitting = [line for line in lines if re.search(python_pattern(LOG), line)]
    assert 0.85 * len(lines) < len(fitting) < len(lines)
    assert any("INFO" in line for line in fitting)


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_sample_matches_its_pattern(chance: object) -> None:
    pattern = r"(?<a>[A-F]{2,4})-(?:x|y\d+)*[^0-9](?<b>\w\s.)?"
    text = Sampler(pattern, {"a": "ABC"}).sample(chance)  # type: ignore[arg-type]
    match = re.fullmatch(python_pattern(pattern), text)
    assert match is not None
    assert match["a"] == "ABC"


@pytest.mark.parametrize(
    "change",
    [
        {"rules": (Rule(name="never", expect="value > 0", otherwise="fail"),)},
        {"event_time": READINGS.event_time.model_copy(update={"watermark": "0 seconds"})},  # type: ignore[union-attr]
    ],
)
def test_a_contract_whose_records_nobody_can_make_up_is_refused(change: dict[str, object]) -> None:
    contract = Contract.model_validate(
        {
            "headgate": 1,
            "pipeline": "p",
            "version": 1,
            "owner": "o",
            "sources": {"readings": READINGS.model_dump()},
            "outputs": {"o": {"sql": "SELECT 1", "to": [{"delta": "o"}]}},
        }
    )
    refuse_unmakeable(contract)
    spoiled = contract.model_copy(update={"sources": {"readings": READINGS.model_copy(update=change)}})
    with pytest.raises(RefusedError, match="--from-file"):
        refuse_unmakeable(spoiled)


@pytest.mark.parametrize(
    "kind",
    [
        "string",
        "boolean",
        "int",
        "long",
        "float",
        "double",
        "date",
        "binary",
        "decimal(10,2)",
        "array<string>",
    ],
)
def test_a_value_of_every_simple_type_can_be_made(kind: str) -> None:
    source = READINGS.model_copy(update={"columns": (*READINGS.columns, Column(name="more", type=kind))})
    assert any(one.get("more") is not None for one in objects(made(source, 50)))
