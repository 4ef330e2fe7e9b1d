"""`stop --drain` and `retire` against a supervisor that only answers."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.cli import endings
from headgate.cli.output import confirm
from headgate.errors import HeadgateError, RefusedError
from headgate.streams.model import Desired, Phase, StreamStatus


class Answers:
    """Statuses in turn; the last one again and again."""

    def __init__(self, *statuses: StreamStatus) -> None:
        self.statuses = list(statuses)
        self.asked: dict[str, Any] = {}

    def drain(self, _stream: str, **asked: Any) -> StreamStatus:
        self.asked = asked
        return self.statuses[0]

    def status(self, _stream: str) -> StreamStatus:
        if len(self.statuses) > 1:
            self.statuses.pop(0)
        return self.statuses[0]


def status(phase: Phase = Phase.RUNNING, left: int | None = 9, **changes: Any) -> StreamStatus:
    draining = {"left": left, "deadline_at": 1.0, "by": "cli:a", "given_up": None}
    values: dict[str, Any] = {"desired": Desired.RUNNING, "generation": 1, "draining": draining, **changes}
    return StreamStatus("s", "s", phase, epoch=1, contract_hash="c", **values)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "_POLL_SECONDS", 0.0)


def drain(client: Any) -> StreamStatus:
    return endings.drain_and_stop(client, "s", "cli:a", "", seconds=5.0)


def test_a_drain_is_followed_until_the_stream_is_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    over = {"desired": Desired.STOPPED, "draining": None}
    client = Answers(status(), status(left=3), status(Phase.STOPPING, **over), status(Phase.STOPPED, **over))
    assert drain(client).phase is Phase.STOPPED
    assert client.asked["deadline_seconds"] == 5.0
    told = capsys.readouterr()
    assert "9 records left" in told.err
    assert told.out == ""


def test_a_drain_that_is_given_up_is_an_error_that_says_what_to_do() -> None:
    given_up = {"left": 4, "deadline_at": 1.0, "by": "cli:a", "given_up": "4 records were left"}
    with pytest.raises(HeadgateError, match="4 records were left") as caught:
        drain(Answers(status(), status(draining=given_up)))
    assert caught.value.exit_code == 1
    assert "headgate stop s --drain --deadline" in str(caught.value.help)


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (status(generation=2), "given another order"),
        (status(draining=None), "given another order"),
        (status(Phase.PARKED), "is parked"),
    ],
)
def test_a_drain_that_something_else_ended_is_told_as_such(after: StreamStatus, words: str) -> None:
    with pytest.raises(HeadgateError, match=words):
        drain(Answers(status(), after))


def test_nothing_is_confirmed_without_a_terminal_but_by_yes() -> None:
    confirm("retire s?", yes=True)
    with pytest.raises(RefusedError, match="no terminal"):
        confirm("retire s?", yes=False)
