from __future__ import annotations

import pytest
from monitoring_examples import NOW, event, orders, readings

from monitoring import wording


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "400 ms"),
        (1.4, "1 s"),
        (119, "119 s"),
        (150, "2 min"),
        (7200, "2 h"),
        (200_000, "2 d"),
    ],
)
def test_durations_have_one_unit(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


def test_an_age_tells_past_from_future() -> None:
    assert wording.age(NOW - 5, NOW) == "5 s ago"
    assert wording.age(NOW + 5, NOW) == "in 5 s"
    assert wording.age(NOW + 0.2, NOW) == "0 s ago"
    assert wording.age(None, NOW) == "–"


def test_what_is_not_known_is_never_zero() -> None:
    unknown = orders(readings(lags=None, checkpoints=None))
    assert wording.lag(unknown) == "?"
    assert wording.quarantined(unknown) == "–"
    assert wording.count(None) == "?" and wording.rate(None) == "?"


def test_great_numbers_are_grouped() -> None:
    assert wording.count(1_234_567) == "1\u202f234\u202f567"
    assert wording.rate(0) == "0" and wording.rate(3.25) == "3.2" and wording.rate(1500) == "1\u202f500"


def test_an_event_says_what_happened_and_each_reason_once() -> None:
    assert wording.happened(event(1)) == "starting → running"
    assert wording.happened(event(1, kind="order", from_phase="", to_phase="")) == "order"
    repeated = event(1, kind="order", cause="order", detail="start", actor="cli:ada")
    assert wording.because(repeated) == "start · by cli:ada"
