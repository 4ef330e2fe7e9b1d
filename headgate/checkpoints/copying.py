"""Copies a query's checkpoint up to one committed batch, also while the query runs.

Spark writes a file of the offset and commit logs and of the state once, under a temporary name, and never
changes it. What batch N left behind is therefore complete as soon as `commits/N` is there: offsets and
commits up to N, state up to version N + 1 (the version that batch N + 1 reads). Old files are removed from
the oldest on, and all by the same count of batches: as long as N's own log files are still there after
the copy, nothing that N needs was removed during it. Otherwise the copy is made again, from a newer N.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headgate.checkpoints.logs import newest

__all__ = ["FileMark", "PurgedError", "copy_file", "copy_query", "mark_of"]

_BLOCK = 1024 * 1024
# `12.delta`, `12.snapshot`, `12_<id>.zip`, and Hadoop's checksum beside each: `.12.delta.crc`.
_VERSION = re.compile(r"^\.?(\d+)(?:[._].*)?$")
_LOGS = ("offsets", "commits")


class PurgedError(Exception):
    """Files were removed while they were copied: the copy may lack some."""


@dataclass(frozen=True, slots=True)
class FileMark:
    size: int
    sha256: str


def copy_query(query: Path, target: Path) -> tuple[int, dict[str, FileMark]]:
    """Copy to `target`; the newest batch that is in the copy (-1: none) and what was copied.

    Raises PurgedError.
    """
    last = newest(query / "commits")
    batch = -1 if last is None else last
    marks = {}
    try:
        for path in _files(query, batch):
            name = str(path.relative_to(query))
            marks[name] = copy_file(path, target / name)
    except FileNotFoundError as error:
        raise PurgedError(str(error)) from error
    if batch >= 0:
        for log in _LOGS:
            if not (query / log / str(batch)).is_file() or f"{log}/{batch}" not in marks:
                raise PurgedError(f"{query / log / str(batch)} was removed")
    return batch, marks


def copy_file(source: Path, target: Path) -> FileMark:
    """A real copy: a hard link would share the damage of its source."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(_BLOCK):
            writer.write(block)
            digest.update(block)
            size += len(block)
        writer.flush()
        os.fsync(writer.fileno())
    return FileMark(size, digest.hexdigest())


def mark_of(path: Path) -> FileMark:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as reader:
        while block := reader.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return FileMark(size, digest.hexdigest())


def _files(query: Path, batch: int) -> Iterator[Path]:
    """What a copy up to `batch` needs. Temporary files of Spark and Hadoop are no part of it."""
    if not query.is_dir():
        return
    for path in sorted(query.rglob("*")):
        if not path.is_file() or ".tmp" in path.name:
            continue
        area = path.relative_to(query).parts[0]
        version = _VERSION.match(path.name)
        limit = {"offsets": batch, "commits": batch, "state": batch + 1}.get(area)
        if limit is not None and version is not None and int(version[1]) > limit and _counted(path, area):
            continue
        yield path


def _counted(path: Path, area: str) -> bool:
    """Whether the number in a file's name is a version: below `state/…/_metadata` it is not."""
    return area in _LOGS or "_metadata" not in path.parts
