"""Snapshots: a consistent copy of a pipeline's checkpoint, and what goes with it at the sinks.

    <snapshots>/<pipeline>/<id>/snapshot.json
    <snapshots>/<pipeline>/<id>/queries/<query>/…      each query up to a batch of its own
    <snapshots>/<pipeline>/<id>/books/<batch id>.json

One is made under a temporary name and renamed when it is whole: what has its name is whole. It can be
taken while the stream runs (see `headgate.checkpoints.copying`) and while it stands still.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from headgate import __version__
from headgate.checkpoints.copying import FileMark, PurgedError, copy_file, copy_query, mark_of
from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.lineage import read_lineage
from headgate.checkpoints.logs import Offsets, batch_offsets, verify_log
from headgate.checkpoints.sinks import sinks_of, versions_of
from headgate.checkpoints.state_files import CODEC_CONF, verify_state
from headgate.checkpoints.wayback import MANIFEST
from headgate.contract.frozen import FrozenContract
from headgate.errors import HeadgateError, NotFoundError, RefusedError
from headgate.tables.place import Place

__all__ = [
    "Snapshot",
    "find_snapshots",
    "new_id",
    "prune",
    "read_snapshot",
    "superfluous",
    "take_snapshot",
    "verify",
]

_ATTEMPTS = 5
_DRAFT_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What stands in snapshot.json. `queries` is the newest batch in the copy of each, -1 for none;
    `tables` the Delta version that holds just the batches of the copy."""

    id: str
    pipeline: str
    lineage: str
    reason: str  # request | schedule | upgrade
    taken_at: float
    contract_hash: str
    headgate_version: str
    spark_version: str
    topics: Mapping[str, str]
    queries: Mapping[str, int]
    offsets: Mapping[str, Offsets]
    tables: Mapping[str, int]
    files: Mapping[str, FileMark]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Snapshot:
        offsets = {
            query: {t: {int(n): o for n, o in found.items()} for t, found in topics.items()}
            for query, topics in data["offsets"].items()
        }
        files = {name: FileMark(**mark) for name, mark in data["files"].items()}
        return cls(**{**data, "offsets": offsets, "files": files})


def new_id(at: float) -> str:
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(at))}-{secrets.token_hex(2)}"


def take_snapshot(
    root: Path,
    layout: CheckpointLayout,
    frozen: FrozenContract,
    tables: Place,
    *,
    id: str,
    topics: Mapping[str, str],
    reason: str,
    at: float,
) -> Snapshot:
    """Copy the current lineage; one that has this id already is the answer.

    `frozen` is the contract that the checkpoint ran under. Raises RefusedError without a checkpoint.
    """
    folder = root / layout.pipeline / id
    if folder.is_dir():
        return read_snapshot(root, layout.pipeline, id)
    current = layout.current_lineage()
    if current is None:
        raise RefusedError(
            f"{layout.pipeline} has no checkpoint yet", help=f"headgate start {layout.pipeline}"
        )
    lineage = read_lineage(layout, current)
    draft = folder.with_name(f".{id}.new")
    with _gone_where_it_fails(draft):
        queries, files = _copy_patiently(layout, lineage.id, (RECORDS, *frozen.stateful_outputs), draft)
        snapshot = Snapshot(
            id=id,
            pipeline=layout.pipeline,
            lineage=lineage.id,
            reason=reason,
            taken_at=at,
            contract_hash=frozen.hash,
            headgate_version=__version__,
            spark_version=version("pyspark"),
            topics=topics,
            queries=queries,
            offsets={
                query: batch_offsets(draft / "queries" / query, batch).offsets
                for query, batch in queries.items()
                if batch >= 0
            },
            tables=versions_of(sinks_of(frozen), tables, layout.pipeline, lineage.id, queries),
            files=files,
        )
        _write_manifest(draft, snapshot)
        draft.rename(folder)
    return snapshot


@contextmanager
def _gone_where_it_fails(draft: Path) -> Iterator[None]:
    """A schedule tries again every few minutes, under another name: what a store that is away leaves of each
    would be a whole copy of the checkpoint."""
    try:
        yield
    except Exception:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _write_manifest(draft: Path, snapshot: Snapshot) -> None:
    with (draft / MANIFEST).open("w", encoding="utf-8") as stream:
        json.dump(snapshot.to_json(), stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())


def find_snapshots(root: Path, pipeline: str) -> list[Snapshot]:
    """All whole ones, the newest first; one whose snapshot.json cannot be read is left out."""
    found = []
    for path in (root / pipeline).glob(f"*/{MANIFEST}"):
        if path.parent.name.startswith("."):
            continue
        try:
            found.append(read_snapshot(root, pipeline, path.parent.name))
        except RefusedError:
            continue
    return sorted(found, key=lambda each: (each.taken_at, each.id), reverse=True)


def read_snapshot(root: Path, pipeline: str, id: str) -> Snapshot:
    """Raises NotFoundError, RefusedError for one that is damaged."""
    path = root / pipeline / id / MANIFEST
    try:
        return Snapshot.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{pipeline} has no snapshot {id!r}", help=f"headgate snapshot list {pipeline}"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RefusedError(
            f"the snapshot {path.parent} is damaged: {MANIFEST} cannot be read ({error})",
            help=f"headgate snapshot list {pipeline}",
        ) from error


def verify(root: Path, snapshot: Snapshot) -> list[str]:
    """What is wrong with a snapshot's files; nothing for a good one. Reads all of them."""
    folder, problems = root / snapshot.pipeline / snapshot.id, []
    for name, mark in sorted(snapshot.files.items()):
        try:
            if mark_of(folder / name) != mark:
                problems.append(f"{name} is not what was written")
        except OSError as error:
            problems.append(f"{name} cannot be read: {error.strerror}")
    return problems


def superfluous(
    newest_first: Sequence[Snapshot],
    keep: int,
    *,
    protected: Collection[str],
    good: Callable[[Snapshot], bool],
) -> list[str]:
    """Which to remove so that `keep` are left: never a protected one, never the last good one."""
    kept, rest = list(newest_first[:keep]), list(newest_first[keep:])
    if not any(good(each) for each in kept):
        saved = next((each for each in rest if good(each)), None)
        rest = [each for each in rest if saved is None or each.id != saved.id]
    return [each.id for each in rest if each.id not in protected]


def prune(root: Path, pipeline: str, keep: int, protected: Collection[str] = ()) -> list[str]:
    """Remove what is too many, and drafts of processes that died. What was removed."""
    _drop_drafts(root / pipeline)
    found = find_snapshots(root, pipeline)
    gone = superfluous(found, keep, protected=protected, good=lambda each: not verify(root, each))
    for id in gone:
        # Under its name it is whole or not there: it loses the name first.
        doomed = root / pipeline / f".{id}.old"
        (root / pipeline / id).rename(doomed)
        shutil.rmtree(doomed)
    return gone


def _drop_drafts(folder: Path) -> None:
    """What is a day old and has a draft's name, nobody works on any more."""
    for path in [*folder.glob(".*.new"), *folder.glob(".*.old")]:
        if time.time() - path.stat().st_mtime > _DRAFT_SECONDS:
            shutil.rmtree(path)


def _copy_patiently(
    layout: CheckpointLayout, lineage: str, names: Sequence[str], draft: Path
) -> tuple[dict[str, int], dict[str, FileMark]]:
    for _ in range(_ATTEMPTS):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            queries, files = _copy(layout, lineage, names, draft)
            _verify_copy(layout.pipeline, draft, queries)
            return queries, files
        except PurgedError as error:
            last = error
    raise HeadgateError(
        f"{layout.pipeline} commits and cleans up faster than its checkpoint can be copied: {last}",
        help=f"headgate stop {layout.pipeline}, then headgate snapshot take {layout.pipeline}",
    )


def _copy(
    layout: CheckpointLayout, lineage: str, names: Sequence[str], draft: Path
) -> tuple[dict[str, int], dict[str, FileMark]]:
    queries: dict[str, int] = {}
    files: dict[str, FileMark] = {}
    for name in names:
        queries[name], marks = copy_query(layout.query(lineage, name), draft / "queries" / name)
        files |= {f"queries/{name}/{path}": mark for path, mark in marks.items()}
    for page in sorted(layout.books(lineage).glob("*.json")):
        if page.stem.isdigit() and int(page.stem) <= queries[RECORDS]:
            try:
                files[f"books/{page.name}"] = copy_file(page, draft / "books" / page.name)
            except FileNotFoundError as error:
                raise PurgedError(str(error)) from error
    return queries, files


def _verify_copy(pipeline: str, draft: Path, queries: Mapping[str, int]) -> None:
    """A copy of what is damaged already is no way back. Raises RefusedError."""
    for query, batch in queries.items():
        folder = draft / "queries" / query
        if batch < 0:
            continue
        try:
            verify_log(folder)
            codec = batch_offsets(folder, batch).pinned.get(CODEC_CONF, "lz4")
            verify_state(folder, batch, codec)
        except RefusedError as error:
            raise RefusedError(
                f"no snapshot of {pipeline} was taken: query {query} is damaged "
                f"({error.message.replace(f'{folder}/', '')})",  # the copy is gone by then
                expected="a checkpoint that a restart could go on from",
                help=f"headgate preflight {pipeline}; headgate snapshot list {pipeline} has the older ones",
            ) from error
