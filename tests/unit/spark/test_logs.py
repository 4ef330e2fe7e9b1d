from __future__ import annotations

import logging
import sys
from types import TracebackType

import pytest

from spark.logs import begin_log, worth_a_line
from spark.stop import StopRequestedError

Raised = tuple[type[BaseException], BaseException, TracebackType | None]


def _raised(error: BaseException) -> Raised:
    try:
        raise error
    except type(error):
        found = sys.exc_info()
    assert found[0] is not None
    assert found[1] is not None
    return found[0], found[1], found[2]


def _line(level: int, exc_info: Raised | None) -> logging.LogRecord:
    return logging.LogRecord("py4j.clientserver", level, "f", 1, "There was an exception", None, exc_info)


def test_a_stop_that_was_asked_for_is_no_error_in_the_log() -> None:
    assert not worth_a_line(_line(logging.ERROR, _raised(StopRequestedError())))


def test_whatever_else_leaves_a_batch_is_logged() -> None:
    assert worth_a_line(_line(logging.ERROR, _raised(OSError("disk"))))
    assert worth_a_line(_line(logging.INFO, None))


def test_the_log_of_a_driver_leaves_out_the_stop_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    begin_log()
    for error in (StopRequestedError("asked"), OSError("disk")):
        logging.getLogger("py4j.clientserver").error("a batch ended", exc_info=_raised(error))
    told = capsys.readouterr().out
    assert told.count("a batch ended") == 1
    assert "OSError: disk" in told


def test_what_spark_logs_of_a_stop_says_that_it_is_none_of_its_faults() -> None:
    assert "no fault" in str(StopRequestedError())
