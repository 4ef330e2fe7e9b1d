"""The newest records of a quarantine, with their bytes and the reasons, for people who look for a cause.

A quarantine can be larger than memory, and its records can be large. By the table's own statistics the
files are read from the newest on, without the records' bytes; those are read of the row groups alone that the
chosen ones are in. A record's own time may be any number that a producer has sent: it stays one.
"""

from __future__ import annotations

import base64
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from headgate.checkpoints.layout import quarantine_table
from headgate.contract.frozen import ContractStore
from headgate.delta_rows import delta_rows, reading
from headgate.errors import NotFoundError
from headgate.settings import Settings
from headgate.suggest import did_you_mean
from headgate.tables.delta import open_table
from headgate.tables.place import Place

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.dataset
    from deltalake import DeltaTable

__all__ = ["Quarantined", "newest_quarantined", "require_rule"]

_AT = "quarantined_at"
_WHOLE = (
    _AT, "topic", "partition", "offset", "rules", "timestamp", "source", "contract_version", "contract_hash",
    "batch_id", "key", "value",
)  # fmt: skip
# Delta's statistics cut a moment to milliseconds: the newest row of a file may be younger by so much.
_STATISTICS = timedelta(milliseconds=1)
_BEGINNING = datetime.min.replace(tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One record as it came, and every reason why it was kept out."""

    quarantined_at: datetime
    topic: str
    partition: int
    offset: int
    rules: tuple[str, ...]
    timestamp: int | None  # as Kafka has it, in microseconds since 1970
    source: str
    contract_version: int
    contract_hash: str
    batch_id: int
    key: bytes | None
    value: bytes | None

    def to_json(self) -> dict[str, Any]:
        """Bytes that are no text are given in base64, under `key_base64` and `value_base64`; a time that is
        in no calendar as its microseconds since 1970."""
        found = {name: getattr(self, name) for name in self.__slots__ if name not in ("key", "value")}
        found.update(quarantined_at=self.quarantined_at.isoformat(), timestamp=_moment(self.timestamp))
        return {**found, **_text_of("key", self.key), **_text_of("value", self.value)}


def newest_quarantined(
    settings: Settings, pipeline: str, *, limit: int, rule: str | None = None
) -> list[Quarantined]:
    """The newest first, of one rule where it is named. Raises NotFoundError where there is no table."""
    from deltalake.exceptions import TableNotFoundError

    path = quarantine_table(settings.tables, pipeline)
    try:
        table = open_table(path)
    except TableNotFoundError as error:
        raise NotFoundError(
            f"pipeline {pipeline} has no quarantine",
            expected=f"a table at {path}",
            help="headgate apply makes it; headgate status names the pipelines",
        ) from error
    with reading(path):
        return _newest(_files(table, path), limit, rule)


def _newest(files: Sequence[_File], limit: int, rule: str | None) -> list[Quarantined]:
    chosen: list[tuple[datetime, int, int]] = []
    for number, file in enumerate(files):
        if len(chosen) == limit and file.newest + _STATISTICS < chosen[0][0]:
            break
        for at, row in file.places(rule):
            heapq.heappush(chosen, (at, number, row))
            if len(chosen) > limit:
                heapq.heappop(chosen)
    found = {
        (number, row): record
        for number in {number for _, number, _ in chosen}
        for row, record in files[number].read({row for _, each, row in chosen if each == number})
    }
    return [found[number, row] for _, number, row in sorted(chosen, reverse=True)]


def require_rule(settings: Settings, pipeline: str, rule: str) -> None:
    """Raises NotFoundError for a rule that the contract does not have: that nothing breaks it says nothing.
    Reasons of headgate's own begin with `_`."""
    sources = ContractStore(settings.state).current(pipeline).contract.sources.values()
    known = sorted(each.name for source in sources for each in source.rules)
    if rule not in known and not rule.startswith("_"):
        raise NotFoundError(
            f"pipeline {pipeline} has no rule {rule!r}, and no quarantined record broke one of that name",
            expected=f"one of {', '.join(known)}"
            if known
            else "a reason such as `_parse`: there are no rules",
            help=did_you_mean(rule, known) or f"headgate status {pipeline} has the records of each rule",
        )


@dataclass(frozen=True, slots=True)
class _File:
    """One file, read by the table's schema: Spark writes times in a type of its own, without a zone."""

    newest: datetime
    fragment: pyarrow.dataset.ParquetFileFragment
    schema: pyarrow.Schema

    def places(self, rule: str | None) -> Iterator[tuple[datetime, int]]:
        """When each record was quarantined, and its row."""
        rows = self._scan(self.fragment, (_AT, "rules"))
        broken = rows.column("rules").to_pylist() if rule is not None else None
        for row, at in enumerate(rows.column(_AT).to_pylist()):
            if broken is None or rule in (broken[row] or ()):
                yield at, row

    def read(self, rows: set[int]) -> Iterator[tuple[int, Quarantined]]:
        """These rows whole."""
        begin = 0
        for group in self.fragment.row_groups:
            mine = sorted(row for row in rows if begin <= row < begin + group.num_rows)
            if mine:
                part = self.fragment.subset(row_group_ids=[group.id])
                taken = self._scan(part, _WHOLE).take([row - begin for row in mine])
                for row, values in zip(mine, taken.to_pylist(), strict=True):
                    yield row, Quarantined(**{**values, "rules": tuple(values["rules"] or ())})
            begin += group.num_rows

    def _scan(self, fragment: pyarrow.dataset.Fragment, columns: Iterable[str]) -> pyarrow.Table:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.dataset as ds

        wanted = {name: pc.field(name) for name in columns}
        if "timestamp" in wanted:
            wanted["timestamp"] = wanted["timestamp"].cast(pa.int64())
        return ds.Scanner.from_fragment(fragment, schema=self.schema, columns=wanted).to_table()


def _files(table: DeltaTable, at: Place) -> list[_File]:
    """The table's files from the newest record on; one without statistics may hold anything."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    ends = {each["path"]: each.get(f"max.{_AT}") for each in actions}
    latest = max((end for end in ends.values() if end is not None), default=_BEGINNING)
    rows = delta_rows(table, at)
    # In nanoseconds, Spark's times would end in the year 2262.
    parquet = ds.ParquetFileFormat(read_options=ds.ParquetReadOptions(coerce_int96_timestamp_unit="us"))
    found = [
        _File(ends.get(each.path) or latest, parquet.make_fragment(each.path, each.filesystem), rows.schema)
        for each in rows.get_fragments()
    ]
    return sorted(found, key=lambda file: file.newest, reverse=True)


def _moment(micros: int | None) -> str | int | None:
    try:
        return None if micros is None else (_EPOCH + timedelta(microseconds=micros)).isoformat()
    except OverflowError:
        return micros


def _text_of(name: str, value: bytes | None) -> dict[str, str | None]:
    if value is None:
        return {name: None}
    try:
        return {name: value.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode("ascii")}
