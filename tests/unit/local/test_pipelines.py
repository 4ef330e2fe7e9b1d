from __future__ import annotations

from datetime import UTC, datetime

import pytest

from headgate.local.pipelines import has_committed, held_back
from headgate.streams.model import Desired, Phase, StreamStatus


def _status(phase: Phase, desired: Desired = Desired.RUNNING, **more: object) -> StreamStatus:
    values = {"generation": 1, "epoch": 1, "contract_hash": "h", **more}
    return StreamStatus("p", "p", phase, desired, **values)  # type: ignore[arg-type]


def test_a_stream_that_was_never_ordered_is_not_held_back() -> None:
    assert held_back(None, "p") is None
    assert held_back(_status(Phase.STOPPED, Desired.STOPPED, generation=0), "p") is None


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.RUNNING, Phase.BACKOFF, Phase.STOPPED])
def test_a_stream_that_shall_run_is_not_held_back(phase: Phase) -> None:
    assert held_back(_status(phase), "p") is None


def test_a_stopped_stream_names_who_stopped_it_and_how_to_start_it() -> None:
    held = held_back(_status(Phase.STOPPED, Desired.STOPPED, stopped_by="cli:ann, upgrade"), "p")
    assert held is not None
    assert held.reason == "stopped by cli:ann, upgrade"
    assert held.help == "headgate start p"


def test_a_parked_stream_gives_its_reason_even_though_it_is_desired() -> None:
    held = held_back(_status(Phase.PARKED, reason="crash loop"), "p")
    assert held is not None
    assert held.reason == "parked: crash loop"
    assert "headgate restart p" in held.help


def test_a_retired_stream_stays_retired() -> None:
    held = held_back(_status(Phase.RETIRED, Desired.STOPPED), "p")
    assert held is not None
    assert held.reason == "retired"


@pytest.mark.parametrize(
    ("seen", "committed"),
    [
        ({"state": "running", "last_commit": "2026-01-02T03:04:05+00:00"}, True),
        ({"state": "running", "last_commit": "2026-01-02T03:04:04+00:00"}, False),
        ({"state": "running", "last_commit": None}, False),
        ({"state": "starting", "last_commit": "2026-01-02T03:04:05+00:00"}, False),
        ({}, False),
    ],
)
def test_what_was_committed_before_a_stream_came_up_is_no_sign_of_it(
    seen: dict[str, object], committed: bool
) -> None:
    up = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
    assert has_committed(_status(Phase.RUNNING, phase_since=up), seen) is committed
    assert not has_committed(None, seen)
