"""Reads Spark's offset and commit logs of a query, without Spark.

    <checkpoint>/offsets/N   version line, metadata (watermark, time, pinned confs), one line per source
    <checkpoint>/commits/N   version line, the watermark of the next batch

A batch that has offsets and no commit runs again at the next start, with the same offsets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headgate.checkpoints.checksums import verify_checksum
from headgate.errors import RefusedError

__all__ = [
    "CommittedOffsets",
    "batch_offsets",
    "batch_watermark",
    "committed_offsets",
    "newest",
    "query_id",
    "verify_log",
]

Offsets = dict[str, dict[int, int]]


@dataclass(frozen=True, slots=True)
class CommittedOffsets:
    """A batch's end: topic to partition to the offset that is read next. Times in milliseconds.

    `watermark_ms` is the watermark that the query has reached with it, None before the first.
    `pinned` are the confs that Spark noted with the batch: later changes of them are ignored.
    """

    batch_id: int
    offsets: Offsets
    watermark_ms: int | None
    batch_timestamp_ms: int
    pinned: Mapping[str, str]


def newest(folder: Path) -> int | None:
    """The highest batch id in an offset or commit log, None when it is empty or not there."""
    if not folder.is_dir():
        return None
    return max((int(path.name) for path in folder.iterdir() if path.name.isdigit()), default=None)


def committed_offsets(query: Path) -> CommittedOffsets | None:
    """The newest committed batch of a query's checkpoint, None before the first commit.

    Raises RefusedError when the log is damaged: cut, empty or not Spark's.
    """
    batch_id = newest(query / "commits")
    return None if batch_id is None else batch_offsets(query, batch_id)


def batch_offsets(query: Path, batch_id: int) -> CommittedOffsets:
    """One batch, committed or not. Raises RefusedError when its file is missing or damaged."""
    path = query / "offsets" / str(batch_id)
    lines = _lines(path)
    metadata = _metadata(path, lines)
    try:
        offsets = _offsets(lines[2:])
    except (ValueError, TypeError, AttributeError) as error:
        raise _damaged(path, f"not an offset log of Spark ({error})") from error
    watermark = _next_watermark(query, batch_id) or _number(path, metadata, "batchWatermarkMs")
    timestamp = _number(path, metadata, "batchTimestampMs")
    return CommittedOffsets(batch_id, offsets, watermark or None, timestamp, metadata.get("conf", {}))


def batch_watermark(query: Path, batch_id: int) -> float | None:
    """The watermark with which a batch runs, in Unix seconds; None before the first."""
    path = query / "offsets" / str(batch_id)
    milliseconds = _number(path, _metadata(path, _lines(path)), "batchWatermarkMs")
    return milliseconds / 1000 if milliseconds else None


def query_id(query: Path) -> str:
    """The id that Spark gave a query. Without it Spark takes the folder for another's: RefusedError."""
    path = query / "metadata"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(found, dict) or not found.get("id"):
        raise _damaged(path, "it has no query id")
    return str(found["id"])


def verify_log(query: Path) -> None:
    """Spark reads an old batch's file only when it needs it, so a gap would stop the stream much later.

    Raises RefusedError for a gap, for a newest file that cannot be read, for a damaged `metadata`, and
    where the first offsets of a source are gone.
    """
    offsets, commits = _batch_ids(query / "offsets"), _batch_ids(query / "commits")
    for name, ids in (("offsets", offsets), ("commits", commits)):
        gaps = sorted(set(range(ids[0], ids[-1] + 1)) - set(ids)) if ids else []
        if gaps:
            raise RefusedError(f"{query / name} lacks the files of the batches {', '.join(map(str, gaps))}")
    if commits and (not offsets or offsets[-1] not in (commits[-1], commits[-1] + 1)):
        raise RefusedError(
            f"{query} holds batch {commits[-1]} as committed, and offsets/ does not go with it"
        )
    if not commits and len(offsets) > 1:
        raise RefusedError(
            f"{query} holds the offsets of the batches {offsets[0]} to {offsets[-1]}, and commits/ is empty"
        )
    if offsets:
        batch_offsets(query, offsets[-1])
        query_id(query)
        _verify_sources(query, offsets[-1])
        newest_files = [query / "metadata", query / "offsets" / str(offsets[-1])]
        newest_files += [query / "commits" / str(commits[-1])] if commits else []
        for path in newest_files:
            verify_checksum(path)


def _verify_sources(query: Path, batch_id: int) -> None:
    """Where each source began. A first batch that runs again would otherwise begin somewhere else."""
    folder = query / "sources"
    read = [line for line in _lines(query / "offsets" / str(batch_id))[2:] if line.strip() not in {"", "-"}]
    known = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if len(known) < len(read):
        raise RefusedError(
            f"{folder} holds the first offsets of {len(known)} sources, and {len(read)} have been read"
        )
    for source in known:
        path = source / "0"
        try:
            json.loads(path.read_bytes().lstrip(b"\0").partition(b"\n")[2])
        except (OSError, ValueError) as error:
            raise _damaged(path, str(error)) from error


def _batch_ids(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def _offsets(lines: list[str]) -> Offsets:
    found: Offsets = {}
    for line in lines:
        if line.strip() in {"", "-"}:
            continue  # a source that had no data yet
        for topic, partitions in json.loads(line).items():
            into = found.setdefault(topic, {})
            into.update({int(number): int(offset) for number, offset in partitions.items()})
    return found


def _next_watermark(query: Path, batch_id: int) -> int:
    path = query / "commits" / str(batch_id)
    if not path.is_file():
        return 0
    return _number(path, _metadata(path, _lines(path)), "nextBatchWatermarkMs")


def _metadata(path: Path, lines: list[str]) -> dict[str, Any]:
    """The second line of either log."""
    try:
        found = json.loads(lines[1])
    except ValueError as error:
        raise _damaged(path, f"its second line is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise _damaged(path, "its second line is not an object")
    return found


def _number(path: Path, metadata: Mapping[str, Any], name: str) -> int:
    value = metadata.get(name)
    if not isinstance(value, int):
        raise _damaged(path, f"`{name}` is not a number")
    return value


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, str(error)) from error
    if len(lines) < 2 or not lines[0].startswith("v"):
        raise _damaged(path, "empty or cut")
    return lines


def _damaged(path: Path, why: str) -> RefusedError:
    return RefusedError(
        f"the checkpoint file {path} cannot be used: {why}",
        expected="a complete file written by Spark",
        help="docs/runbooks/StreamParked.md says how to go on without losing what was committed",
    )
