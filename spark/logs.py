"""The log of a driver: lines on stdout, which its runner puts into the stream's file."""

from __future__ import annotations

import logging
import sys

from spark.stop import StopRequestedError

__all__ = ["begin_log", "worth_a_line"]


def begin_log() -> None:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stdout
    )
    logging.getLogger("py4j").setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(worth_a_line)


def worth_a_line(record: logging.LogRecord) -> bool:
    """Py4J logs whatever leaves a batch as an error with its traceback; a stop that was asked for is none."""
    return not (record.exc_info and isinstance(record.exc_info[1], StopRequestedError))
