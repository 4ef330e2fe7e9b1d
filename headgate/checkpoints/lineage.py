"""Lineages: one history of batch ids each. Begun on purpose, noted beside the checkpoint."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headgate import __version__
from headgate.checkpoints.layout import CheckpointLayout
from headgate.errors import RefusedError
from headgate.tables.files import files_in, read_text
from headgate.tables.place import Place

__all__ = [
    "Lineage",
    "begin_lineage",
    "has_history",
    "last_contract",
    "lineage_of",
    "make_current",
    "new_lineage",
    "note_contract",
    "note_query",
    "noted_query",
    "open_lineage",
    "read_lineage",
    "tables_with_history",
    "write_lineage",
]


@dataclass(frozen=True, slots=True)
class Lineage:
    """What stands in lineage.json. `id` is unique for ever: sinks know batches by it.

    `generation` and `origin` are those of the order that began it, or that restored it; 0 and None for
    one that began by itself.
    """

    id: str
    pipeline: str
    contract_hash: str
    begun_at: float
    headgate_version: str
    spark_version: str
    generation: int = 0
    origin: dict[str, Any] | None = None


def open_lineage(
    layout: CheckpointLayout,
    *,
    contract_hash: str,
    spark_version: str,
    at: float,
    tables: Iterable[Place],
    origin: Callable[[], dict[str, Any] | None] = lambda: None,
) -> Lineage:
    """The lineage that runs, or a first one where the pipeline has no history at all: `origin` says where
    that begins, and is asked for nothing else.

    Raises RefusedError when the checkpoint is gone but tables hold what it committed, or when it belongs
    to another pipeline: starting afresh there would read everything again.
    """
    current = layout.current_lineage()
    if current is not None:
        return read_lineage(layout, current)
    written = tables_with_history(tables, layout.pipeline)
    if written:
        names = ", ".join(table.name for table in written)
        raise RefusedError(
            f"the checkpoint of {layout.pipeline} is gone ({layout.current} does not exist), "
            f"and its tables hold what an earlier one committed: {names}",
            expected="the checkpoint that goes with the tables",
            help=_gone_help(layout),
        )
    return begin_lineage(
        layout, contract_hash=contract_hash, spark_version=spark_version, at=at, origin=origin()
    )


def begin_lineage(
    layout: CheckpointLayout,
    *,
    contract_hash: str,
    spark_version: str,
    at: float,
    generation: int = 0,
    origin: dict[str, Any] | None = None,
) -> Lineage:
    """A new history of batch ids, which becomes the current one."""
    lineage = new_lineage(
        layout,
        contract_hash=contract_hash,
        spark_version=spark_version,
        at=at,
        generation=generation,
        origin=origin,
    )
    folder = layout.lineage(lineage.id)
    folder.mkdir(parents=True)
    write_lineage(folder, lineage)
    make_current(layout, lineage.id)
    return lineage


def new_lineage(
    layout: CheckpointLayout,
    *,
    contract_hash: str,
    spark_version: str,
    at: float,
    generation: int,
    origin: dict[str, Any] | None,
) -> Lineage:
    """One that never was, with the next number; nothing is written."""
    number = sum(1 for _ in layout.folder.glob("*/lineage.json")) + 1
    return Lineage(
        id=f"{number}-{secrets.token_hex(4)}",
        pipeline=layout.pipeline,
        contract_hash=contract_hash,
        begun_at=at,
        headgate_version=__version__,
        spark_version=spark_version,
        generation=generation,
        origin=origin,
    )


def write_lineage(folder: Path, lineage: Lineage) -> None:
    draft = folder / "lineage.new"
    draft.write_text(json.dumps(asdict(lineage), indent=1), encoding="utf-8")
    draft.replace(folder / "lineage.json")


def make_current(layout: CheckpointLayout, lineage: str) -> None:
    draft = layout.current.with_suffix(".new")
    draft.write_text(lineage + "\n", encoding="utf-8")
    draft.replace(layout.current)


def lineage_of(layout: CheckpointLayout, generation: int) -> Lineage | None:
    """The lineage that a generation began or restored, whether it is the current one yet or not."""
    for path in sorted(layout.folder.glob("*/lineage.json")):
        # What was moved aside, and what is still being made, has a dot in its name; ids have none.
        if "." not in path.parent.name and generation:
            try:
                found = read_lineage(layout, path.parent.name)
            except RefusedError:
                continue  # a damaged lineage may be why another one is begun
            if found.generation == generation:
                return found
    return None


def read_lineage(layout: CheckpointLayout, lineage: str) -> Lineage:
    """Read lineage.json. Raises RefusedError when it is missing, damaged or another pipeline's."""
    path = layout.lineage(lineage) / "lineage.json"
    try:
        found = Lineage(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RefusedError(
            f"the checkpoint of {layout.pipeline} is damaged: {path} cannot be read ({error})",
            help=f"restore {layout.folder} from a backup",
        ) from error
    if found.pipeline != layout.pipeline:
        raise RefusedError(
            f"the checkpoint in {path.parent} belongs to pipeline {found.pipeline}, not {layout.pipeline}",
            help="set roots.checkpoints of this environment to a folder of its own",
        )
    return found


def note_contract(layout: CheckpointLayout, lineage: str, query: str, contract_hash: str) -> None:
    """Note which contract runs on a query's checkpoint from now on; written before the query starts."""
    path = layout.contract_note(lineage, query)
    if last_contract(layout, lineage, query, begun=False) == contract_hash:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(contract_hash + "\n", encoding="utf-8")
    draft.replace(path)


def note_query(layout: CheckpointLayout, lineage: str, query: str, query_id: str) -> None:
    """Note the id that Spark gave a query, by which a folder of another query is told from its own."""
    path = layout.query_note(lineage, query)
    if noted_query(layout, lineage, query) == query_id:
        return
    draft = path.with_suffix(".new-id")
    draft.write_text(query_id + "\n", encoding="utf-8")
    draft.replace(path)


def noted_query(layout: CheckpointLayout, lineage: str, query: str) -> str | None:
    """None where nothing was noted: by an older driver, or before a restore."""
    try:
        return layout.query_note(lineage, query).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def last_contract(layout: CheckpointLayout, lineage: str, query: str, *, begun: bool = True) -> str:
    """The contract that last ran on a query's checkpoint; without a note the one that the lineage began
    with, or (`begun=False`) nothing. Raises RefusedError for a damaged lineage."""
    try:
        return layout.contract_note(lineage, query).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return read_lineage(layout, lineage).contract_hash if begun else ""


def tables_with_history(tables: Iterable[Place], pipeline: str) -> list[Place]:
    """Those of the tables that this pipeline has committed to."""
    return [table for table in tables if has_history(table, pipeline)]


def _gone_help(layout: CheckpointLayout) -> str:
    name = layout.pipeline
    return (
        f"headgate snapshot list {name}; headgate restart {name} --from snapshot, where there is one; "
        f"headgate restart {name} --from earliest (latest, timestamp, offsets) begins a new lineage and "
        f"first says what that repeats or loses; or restore {layout.folder} from a backup"
    )


def has_history(table: Place, pipeline: str) -> bool:
    """Whether a transaction of this pipeline was committed to a table."""
    log, mark = table / "_delta_log", f'"appId":"headgate/{pipeline}/'
    if any(mark in _log_text(log / name) for name in files_in(log, "*.json")):
        return True
    return bool(files_in(log, "*.checkpoint*.parquet"))


def _log_text(file: Place) -> str:
    """Nothing of a file that was cleaned up since it was listed: the log has a checkpoint instead of it."""
    try:
        return read_text(file)
    except FileNotFoundError:
        return ""
