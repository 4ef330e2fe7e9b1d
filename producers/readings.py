"""JSON records made up for a contract: by default one a second, stamped with the time they are made."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from headgate.contract.model import Contract, Source
from producers.encoding import enum_names
from producers.inputs import Outgoing
from producers.values import column_values

__all__ = ["default_key", "readings"]


def readings(
    source: Source, *, key: str | None, now: Callable[[], datetime], chance: random.Random
) -> Iterator[Outgoing]:
    """Records without end, `{"timestamp": "2023-10-01 12:00:00", "value": 10}` for such columns.

    Raises PatternError, at once, for times that cannot be written.
    """
    makers = {column.name: column_values(column, chance) for column in source.columns}
    for name, words in enum_names(source).items():
        makers[name] = _one_of(words, chance)
    for column in source.columns:
        if column.type in {"timestamp", "date"}:
            makers[column.name](now())

    def made() -> Iterator[Outgoing]:
        while True:
            moment = now()
            record = {name: make(moment) for name, make in makers.items()}
            marker = None if key is None else str(record[key]).encode()
            yield Outgoing(json.dumps(record).encode(), marker)

    return made()


def _one_of(words: Sequence[str], chance: random.Random) -> Callable[[datetime], str]:
    return lambda _: chance.choice(words)


def default_key(contract: Contract, source: Source) -> str | None:
    """The first column of the source that an output's key names: what is grouped travels together."""
    names: Sequence[str] = [column.name for column in source.columns]
    return next((name for output in contract.outputs.values() for name in output.key if name in names), None)
