"""The newest records of a quarantine, with their bytes and the reasons, for people who look for a cause.

A quarantine can be larger than memory, and its records can be large. By the tables' own statistics the
files are read from the newest on, without the records' bytes; those are read of the chosen ones alone.
"""

from __future__ import annotations

import base64
import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from headgate.checkpoints.layout import quarantine_table
from headgate.delta_rows import delta_rows
from headgate.errors import NotFoundError
from headgate.settings import Settings

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.dataset
    from deltalake import DeltaTable

__all__ = ["Quarantined", "newest_quarantined"]

_AT = "quarantined_at"
_PLACE = (_AT, "topic", "partition", "offset", "rules")
_REST = ("timestamp", "source", "contract_version", "contract_hash", "batch_id", "key", "value")
# Delta's statistics cut a moment to milliseconds: the newest row of a file may be younger by so much.
_STATISTICS = timedelta(milliseconds=1)
_BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One record as it came, and every reason why it was kept out."""

    quarantined_at: datetime
    topic: str
    partition: int
    offset: int
    rules: tuple[str, ...]
    timestamp: datetime | None
    source: str
    contract_version: int
    contract_hash: str
    batch_id: int
    key: bytes | None
    value: bytes | None

    def to_json(self) -> dict[str, Any]:
        """Bytes that are no text are given in base64, under `key_base64` and `value_base64`."""
        found = {name: getattr(self, name) for name in self.__slots__ if name not in ("key", "value")}
        arrived = self.timestamp.isoformat() if self.timestamp else None
        found.update(quarantined_at=self.quarantined_at.isoformat(), timestamp=arrived)
        return {**found, **_text_of("key", self.key), **_text_of("value", self.value)}


def newest_quarantined(
    settings: Settings, pipeline: str, *, limit: int, rule: str | None = None
) -> list[Quarantined]:
    """The newest first, of one rule where it is named. Raises NotFoundError where there is no table."""
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    path = quarantine_table(settings.tables, pipeline)
    try:
        table = DeltaTable(path)
    except TableNotFoundError as error:
        raise NotFoundError(
            f"pipeline {pipeline} has no quarantine",
            expected=f"a table at {path}",
            help="headgate apply makes it; headgate status names the pipelines",
        ) from error
    chosen: list[tuple[datetime, int, int]] = []
    files = list(_files(table))
    for number, (newest, fragment) in enumerate(files):
        if len(chosen) == limit and newest + _STATISTICS < chosen[0][0]:
            break
        for at, row in _places(fragment, rule):
            heapq.heappush(chosen, (at, number, row))
            if len(chosen) > limit:
                heapq.heappop(chosen)
    return _read(files, sorted(chosen, reverse=True))


def _files(table: DeltaTable) -> Iterator[tuple[datetime, pyarrow.dataset.Fragment]]:
    """The table's files from the newest record on; one without statistics may hold anything."""
    import pyarrow as pa

    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    ends = {each["path"]: each.get(f"max.{_AT}") for each in actions}
    fragments = {fragment.path: fragment for fragment in delta_rows(table).get_fragments()}
    latest = max((end for end in ends.values() if end is not None), default=_BEGINNING)
    known = [(ends.get(path) or latest, path) for path in fragments]
    return ((end, fragments[path]) for end, path in sorted(known, reverse=True))


def _places(fragment: pyarrow.dataset.Fragment, rule: str | None) -> Iterator[tuple[datetime, int]]:
    """When each record of a file was quarantined, and its row there."""
    rows = fragment.to_table(columns=[_AT, "rules"])
    broken = rows.column("rules").to_pylist() if rule is not None else None
    for row, at in enumerate(rows.column(_AT).to_pylist()):
        if broken is None or rule in (broken[row] or ()):
            yield at, row


def _read(
    files: list[tuple[datetime, pyarrow.dataset.Fragment]], chosen: list[tuple[datetime, int, int]]
) -> list[Quarantined]:
    """The chosen rows whole, in their order; each file is opened once."""
    found: dict[tuple[int, int], Quarantined] = {}
    for number in {number for _, number, _ in chosen}:
        rows = sorted(row for _, each, row in chosen if each == number)
        taken = files[number][1].take(rows, columns=[*_PLACE, *_REST]).to_pylist()
        for row, values in zip(rows, taken, strict=True):
            found[number, row] = Quarantined(**{**values, "rules": tuple(values["rules"] or ())})
    return [found[number, row] for _, number, row in chosen]


def _text_of(name: str, value: bytes | None) -> dict[str, str | None]:
    if value is None:
        return {name: None}
    try:
        return {name: value.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode("ascii")}
