"""From an exception of the driver to a classified failure: conditions along its causes, and a message."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from headgate.checkpoints.owner import FencedError
from headgate.contract.refusal import refusal_in
from headgate.errors import HeadgateError, RefusedError, UnavailableError
from headgate.streams.failures import classify
from headgate.streams.model import FailureClass
from headgate.streams.poison import PoisonedError
from headgate.tables.answers import masked

__all__ = ["Failure", "failure_of", "fence_of"]

_log = logging.getLogger("headgate.driver")

MAX_MESSAGE = 4000


@dataclass(frozen=True, slots=True)
class Failure:
    failure_class: str
    condition: str
    message: str


def failure_of(error: BaseException) -> Failure:
    """Classify an exception. headgate's own say what they are; others are read along their causes."""
    own = _own_class(error)
    if own is not None:
        return Failure(own, type(error).__name__, masked(str(error))[:MAX_MESSAGE])
    text = _text(error)
    refused = refusal_in(text)
    if refused is not None:
        return failure_of(refused)
    conditions = list(dict.fromkeys(_conditions(error)))
    found = classify(conditions, text)
    named = [name for name in conditions if name.isupper()] or conditions
    return Failure(found.value, named[-1] if named else type(error).__name__, text[:MAX_MESSAGE])


def fence_of(look: Callable[[], None]) -> Failure | None:
    """Whether a newer epoch exists. What else an old driver meets, a lost race for a file of Spark or Delta
    above all, follows from that, and must not be read as a failure of the stream. `look` raises
    FencedError."""
    try:
        look()
    except FencedError as error:
        return failure_of(error)
    except OSError:
        _log.exception("the claims cannot be looked at")
    return None


def _own_class(error: BaseException) -> str | None:
    if isinstance(error, FencedError):
        return FailureClass.FENCED.value
    if isinstance(error, PoisonedError):
        return FailureClass.POISON.value
    if isinstance(error, UnavailableError):
        return FailureClass.DEPENDENCY.value
    if isinstance(error, RefusedError):
        return FailureClass.CHECKPOINT.value
    return FailureClass.DETERMINISTIC.value if isinstance(error, HeadgateError) else None


def _conditions(error: BaseException) -> Iterator[str]:
    """Names from the outside in: Spark's conditions, then the Java exceptions behind them."""
    seen: BaseException | None = error
    while seen is not None:
        condition = getattr(seen, "getCondition", None)
        name = condition() if callable(condition) else None
        if name:
            yield str(name)
        yield type(seen).__name__
        yield from _java_conditions(getattr(seen, "_origin", None) or getattr(seen, "java_exception", None))
        seen = seen.__cause__ or seen.__context__


def _java_conditions(throwable: Any) -> Iterator[str]:
    depth = 0
    while throwable is not None and depth < 20:
        try:
            yield str(throwable.getClass().getSimpleName())
            condition = throwable.getCondition()
        except Exception:  # noqa: BLE001 - py4j: most Java exceptions have no conditions
            condition = None
        if condition:
            yield str(condition)
        throwable, depth = throwable.getCause(), depth + 1


def _text(error: BaseException) -> str:
    text = str(error)
    throwable = getattr(error, "_origin", None) or getattr(error, "java_exception", None)
    causes: list[str] = []
    while throwable is not None and len(causes) < 20:
        causes.append(str(throwable.toString()))
        throwable = throwable.getCause()
    return masked("\nCaused by: ".join([text, *causes]))
