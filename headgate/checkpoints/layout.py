"""Where a pipeline's history lives on disk, and the names it has at the sinks.

    <checkpoints>/<pipeline>/current            the lineage that runs, one line
    <checkpoints>/<pipeline>/_owner/<epoch>     a driver's claim, created exclusively
    <checkpoints>/<pipeline>/_schemas/<lineage>-<contract>.jsonl   what was learned of a registry's ids
    <checkpoints>/<pipeline>/contracts.json     every contract that has run here (headgate.checkpoints.ran)
    <checkpoints>/<pipeline>/sizes.json         how large records lately were (headgate.batches.kept)
    <checkpoints>/<pipeline>/<lineage>/lineage.json
    <checkpoints>/<pipeline>/<lineage>/books/<batch id>.json     counts of the record query
    <checkpoints>/<pipeline>/<lineage>/queries/<query>/          Spark's checkpoint
    <checkpoints>/<pipeline>/<lineage>/queries/<query>.contract  the contract that last ran on it
    <checkpoints>/<pipeline>/<lineage>/queries/<query>.id        the id that Spark gave it
    <checkpoints>/<pipeline>/<lineage>/redo/<query>/<batch id>   offsets of batches that run again (restore)
    <checkpoints>/<pipeline>/<lineage>.before-<generation>/      what a restore moved aside
    <checkpoints>/<pipeline>/<lineage>.restored-<generation>/    made whole, about to take its place

Paths and transaction ids hold pipeline, query, output and lineage, never generation or epoch: a batch
that two epochs try is the same batch at the sink.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from headgate.tables.place import S3Folder

__all__ = ["RECORDS", "CheckpointLayout", "quarantine_table", "table_path", "transaction_id"]

Root = TypeVar("Root", Path, S3Folder, Path | S3Folder)

RECORDS = "records"  # the name of the record query; no output may have it


@dataclass(frozen=True, slots=True)
class CheckpointLayout:
    root: Path
    pipeline: str

    @property
    def folder(self) -> Path:
        return self.root / self.pipeline

    @property
    def owners(self) -> Path:
        return self.folder / "_owner"

    @property
    def sizes(self) -> Path:
        return self.folder / "sizes.json"

    @property
    def current(self) -> Path:
        return self.folder / "current"

    def lineage(self, lineage: str) -> Path:
        return self.folder / lineage

    def query(self, lineage: str, query: str) -> Path:
        return self.lineage(lineage) / "queries" / query

    def contract_note(self, lineage: str, query: str) -> Path:
        return self.lineage(lineage) / "queries" / f"{query}.contract"

    def query_note(self, lineage: str, query: str) -> Path:
        return self.lineage(lineage) / "queries" / f"{query}.id"

    def schemas(self, lineage: str, contract_hash: str) -> Path:
        """Beside the lineage, for a restore leaves it in its place: what ran again is judged as before."""
        return self.folder / "_schemas" / f"{lineage}-{contract_hash[:16]}.jsonl"

    def books(self, lineage: str) -> Path:
        return self.lineage(lineage) / "books"

    def current_lineage(self) -> str | None:
        """The lineage that runs, or None before the first start."""
        try:
            return self.current.read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None


def transaction_id(pipeline: str, query: str, output: str, lineage: str) -> str:
    """Delta's application id: `headgate/<pipeline>/<query>/<output>/<lineage>`."""
    return f"headgate/{pipeline}/{query}/{output}/{lineage}"


def table_path(tables: Root, pipeline: str, table: str) -> Root:
    return tables / pipeline / table


def quarantine_table(tables: Root, pipeline: str) -> Root:
    """`_quarantine` cannot clash: the contract's names start with a letter."""
    return tables / pipeline / "_quarantine"
