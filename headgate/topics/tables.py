"""Output tables: the schema they should have, and how the one they have differs from it.

Tables use only what Spark, deltalake, DuckDB and Polars all read and write: reader 1, writer 2, no
column mapping, no deletion vectors, no NOT NULL. Every column is nullable, because an expression is
free to become nullable later and Delta could not follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headgate.checkpoints.layout import quarantine_table
from headgate.contract.frozen import FrozenContract
from headgate.topics.differences import Action, Note, Refusal
from headgate.topics.schemas import (
    QUARANTINE_SCHEMA,
    columns,
    nullable_schema,
    type_text,
    unportable_types,
)

__all__ = [
    "QUARANTINE_SCHEMA",
    "DesiredTable",
    "LiveTable",
    "compare_table",
    "desired_tables",
]


_INSTEAD = {
    "timestamp_ntz": "CAST(… AS TIMESTAMP): a time without a zone is another moment to each reader",
    "void": "CAST(NULL AS …) with the type that is meant",
}


# A reader that streams from an appended table may be away for a day: the files and the log that it needs are
# kept so long. `vacuum` and the log's clean-up look here; who needs longer sets the properties of the table.
_APPENDED = {
    "delta.logRetentionDuration": "interval 24 hours",
    "delta.deletedFileRetentionDuration": "interval 24 hours",
}
# Nobody streams from a table whose rows change, so only queries that run read a replaced file. And an upsert
# rewrites every file that it touches, together with the rows that it adds: without a bound each would rewrite
# the whole table before long.
_UPSERTED = {
    "delta.logRetentionDuration": "interval 1 hours",
    "delta.deletedFileRetentionDuration": "interval 1 hours",
    "delta.targetFileSize": str(2 * 1024 * 1024),
}


@dataclass(frozen=True, slots=True)
class DesiredTable:
    """A Delta table that a contract asks for. `output` is empty for the quarantine."""

    pipeline: str
    table: str
    output: str
    schema: Mapping[str, Any]
    partition_by: tuple[str, ...] = ()
    key: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        return f"{self.pipeline}/{self.table}"

    @property
    def properties(self) -> dict[str, str]:
        """What the table says of itself: whose it is, so that a key change is seen without the old
        contract, and how long what was replaced is kept."""
        return {
            **(_UPSERTED if self.key else _APPENDED),
            "headgate.pipeline": self.pipeline,
            "headgate.output": self.output,
            "headgate.key": ",".join(self.key),
        }


@dataclass(frozen=True, slots=True)
class LiveTable:
    """A Delta table as it is. `problem` is set, and the rest empty, when it cannot be read."""

    table_id: str = ""
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "struct", "fields": []})
    partition_by: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    reader_version: int = 1
    problem: str | None = None


def desired_tables(contract: FrozenContract) -> list[DesiredTable]:
    """The output tables of a contract and its quarantine."""
    tables = [
        DesiredTable(
            pipeline=contract.pipeline,
            table=target.delta,
            output=name,
            schema=nullable_schema(contract.outputs[name].schema),
            partition_by=target.partition_by,
            key=output.key if output.mode == "update" else (),
        )
        for name, output in contract.contract.outputs.items()
        for target in output.to
        if target.delta is not None
    ]
    name = quarantine_table(Path(), contract.pipeline).name
    return [*tables, DesiredTable(contract.pipeline, name, "", QUARANTINE_SCHEMA)]


def compare_table(
    wanted: DesiredTable, live: LiveTable | None
) -> tuple[list[Action], list[Refusal], list[Note]]:
    """What makes the live table the wanted one, and what stands against it."""
    refusals = list(_unportable(wanted))
    if live is None:
        return ([] if refusals else [_create(wanted)]), refusals, []
    if live.problem is not None:
        return [], [_refuse(wanted, "table_unreadable", live.problem, _SEE_TABLE)], []
    refusals += [*_owner_refusals(wanted, live), *_shape_refusals(wanted, live)]
    have = columns(live.schema)
    added = [each for each in wanted.schema["fields"] if each["name"] not in have]
    notes = [_reader_note(wanted, live)] if live.reader_version > 1 else []
    if refusals or not added:
        return [], refusals, notes
    return [_add_columns(wanted, added)], [], notes


_SEE_TABLE = "repair or move the folder, then run headgate plan again"


def _create(wanted: DesiredTable) -> Action:
    names = ", ".join(each["name"] for each in wanted.schema["fields"])
    return Action(
        kind="create_table",
        address=f"table {wanted.address}",
        pipeline=wanted.pipeline,
        summary=f"create with {names}"
        + (f", by {', '.join(wanted.partition_by)}" * bool(wanted.partition_by)),
        reason=f"output {wanted.output} writes it" if wanted.output else "what the rules reject goes there",
        arguments={
            "table": wanted.table,
            "schema": wanted.schema,
            "partition_by": list(wanted.partition_by),
            "properties": wanted.properties,
        },
    )


def _add_columns(wanted: DesiredTable, added: list[dict[str, Any]]) -> Action:
    names = ", ".join(f"{each['name']} {type_text(each['type'])}" for each in added)
    return Action(
        kind="add_columns",
        address=f"table {wanted.address}",
        pipeline=wanted.pipeline,
        summary=f"add {names}",
        reason="the output has new columns; rows written before hold NULL there",
        arguments={"table": wanted.table, "columns": added},
    )


def _unportable(wanted: DesiredTable) -> Iterable[Refusal]:
    for each in wanted.schema["fields"]:
        for kind in unportable_types(each["type"]):
            yield _refuse(
                wanted,
                "type_not_portable",
                f"column {each['name']} has the type {kind}, which not every reader of Delta knows",
                _INSTEAD.get(kind, "CAST it to a string, a number, a date or a timestamp"),
            )


def _owner_refusals(wanted: DesiredTable, live: LiveTable) -> Iterable[Refusal]:
    owner = live.properties.get("headgate.pipeline")
    output = live.properties.get("headgate.output")
    if owner not in (None, wanted.pipeline):
        yield _refuse(wanted, "table_owned", f"the table belongs to pipeline {owner}", _ANOTHER_TABLE)
    elif output not in (None, wanted.output):
        yield _refuse(wanted, "table_owned", f"the table belongs to output {output}", _ANOTHER_TABLE)
    key = live.properties.get("headgate.key")
    if key is not None and key != ",".join(wanted.key):
        yield _refuse(
            wanted,
            "key_changed",
            f"its rows are kept by the key ({key or 'none'}), and the contract asks for "
            f"({','.join(wanted.key) or 'none'})",
            _ANOTHER_TABLE,
        )


_ANOTHER_TABLE = (
    "give the output another name and table (delta: NAME), and keep the old table for its readers"
)


def _shape_refusals(wanted: DesiredTable, live: LiveTable) -> Iterable[Refusal]:
    have, want = columns(nullable_schema(live.schema)), columns(wanted.schema)
    for name in have:
        if name not in want:
            yield _refuse(
                wanted,
                "column_dropped",
                f"the table has the column {name}, and the output does not",
                f"keep {name} in the output (NULL AS {name} will do), or {_ANOTHER_TABLE}",
            )
        elif have[name] != want[name]:
            yield _refuse(
                wanted,
                "type_changed",
                f"column {name} is {type_text(have[name])}, and the output makes it {type_text(want[name])}",
                f"CAST it to {type_text(have[name])}, or {_ANOTHER_TABLE}",
            )
    for each in live.schema["fields"]:
        if not each.get("nullable", True):
            message = f"column {each['name']} is NOT NULL, and the output may be NULL there"
            yield _refuse(wanted, "not_null", message, _ANOTHER_TABLE)
    if live.partition_by != wanted.partition_by:
        yield _refuse(
            wanted,
            "partitioning_changed",
            f"the table is partitioned by ({', '.join(live.partition_by)}), and the contract asks for "
            f"({', '.join(wanted.partition_by)})",
            _ANOTHER_TABLE,
        )


def _reader_note(wanted: DesiredTable, live: LiveTable) -> Note:
    return Note(
        "table_features",
        f"table {wanted.address}",
        wanted.pipeline,
        f"needs Delta reader version {live.reader_version}; tables made by headgate need version 1",
    )


def _refuse(wanted: DesiredTable, code: str, message: str, help: str) -> Refusal:
    return Refusal(code, f"table {wanted.address}", wanted.pipeline, message, help)
