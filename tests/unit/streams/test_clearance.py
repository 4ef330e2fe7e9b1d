from __future__ import annotations

import io
import threading
from dataclasses import replace

import pytest

from headgate.errors import KafkaUnavailable, NotFoundError, ServiceError
from headgate.streams.clearance import Preflights
from headgate.streams.journal import Journal
from headgate.streams.model import FailureClass
from headgate.streams.record import StreamRecord
from headgate.streams.steps import Clearance

RECORD = StreamRecord("s", "s", "a" * 64, version=4)


class Asked:
    """A preflight that is let go by the test."""

    def __init__(self, answer: Clearance | Exception = Clearance()) -> None:  # noqa: B008 - immutable
        self.answer = answer
        self.questions: list[int] = []
        self.go = threading.Event()
        self.woken = threading.Event()
        self.now = 0.0
        self.preflights = Preflights(self, self.woken.set, Journal(io.StringIO()), monotonic=lambda: self.now)

    def __call__(self, record: StreamRecord) -> Clearance:
        self.questions.append(record.version)
        self.go.wait(10)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def let(self) -> None:
        self.go.set()
        assert self.woken.wait(10), "the supervisor is woken by the answer"


def test_an_answer_is_seen_once_it_is_there_and_only_one_is_asked_for_at_a_time() -> None:
    asked = Asked()
    assert asked.preflights.answer(RECORD) is None
    for _ in range(3):
        asked.preflights.begin(RECORD)
    assert asked.preflights.answer(RECORD) is None
    asked.let()
    assert asked.preflights.answer(RECORD) == Clearance()
    assert asked.questions == [4]


def test_an_answer_is_for_the_record_as_it_was_and_not_for_later() -> None:
    asked = Asked()
    asked.preflights.begin(RECORD)
    asked.let()
    assert asked.preflights.answer(replace(RECORD, version=5)) is None
    asked.now = 16.0
    assert asked.preflights.answer(RECORD) is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KafkaUnavailable("Kafka does not answer"), FailureClass.DEPENDENCY),
        (ServiceError("Kafka answered with an error"), FailureClass.DEPENDENCY),
        (OSError("the disk is away"), FailureClass.DEPENDENCY),
        (NotFoundError("no contract abc is stored"), FailureClass.DETERMINISTIC),
        (ZeroDivisionError("a defect"), FailureClass.UNKNOWN),
    ],
)
def test_what_breaks_the_look_is_never_a_clearance(error: Exception, kind: FailureClass) -> None:
    asked = Asked(error)
    asked.preflights.begin(RECORD)
    asked.let()
    found = asked.preflights.answer(RECORD)
    assert found is not None
    assert found.failure is kind
    assert str(error) in found.text
