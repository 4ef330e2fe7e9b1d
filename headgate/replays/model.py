"""A replay: a past range of a pipeline's topics, read again beside the live stream.

    <state>/replays/<pipeline>/<id>/replay.json      what was asked for; written first, never changed
    <state>/replays/<pipeline>/<id>/checkpoints/…    a checkpoint of its own, with claims of its own
    <state>/replays/<pipeline>/<id>/tables/…         tables of its own
    <state>/replays/<pipeline>/<id>/status.json      its driver's report, beside the notes of its runner
    <state>/replays/<pipeline>/<id>/evidence.json    which windows lie wholly inside the range
    <state>/replays/<pipeline>/<id>/judged/…         event times of what either quarantine has of the range
    <state>/replays/<pipeline>/<id>/done.json        its range is read, and the evidence is there
    <state>/replays/<pipeline>/<id>/ordered.json     the generation that was there when a swap was ordered
    <state>/replays/<pipeline>/<id>/swap.json        a swap that is begun, what it did, or why it did not
    <state>/replays/<pipeline>/<id>/counts.json      by table, what a swap has taken out and put in

Nothing of it has the live stream's name at a sink: other roots, another lineage, no Redis.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headgate.checkpoints.layout import CheckpointLayout
from headgate.errors import NotFoundError, RefusedError
from headgate.settings import Settings

__all__ = [
    "BEGUN",
    "KIND",
    "Offsets",
    "Replay",
    "ReplayLayout",
    "damaged",
    "damaged_replays",
    "find_replays",
    "read_note",
    "read_replay",
    "size_of",
    "write_note",
]

KIND = "replay"  # of its operation in the store
BEGUN = "begun"  # what swap.json says from before the first commit on, until the last one

Offsets = Mapping[str, Mapping[int, int]]


@dataclass(frozen=True, slots=True)
class Replay:
    """`begin` and `end` by topic and partition: records from `begin` to the one before `end`."""

    id: str
    pipeline: str
    contract_hash: str
    begin: Offsets
    end: Offsets
    topics: Mapping[str, str]  # their ids
    told: str  # the range in the words it was asked for
    asked_by: str
    asked_at: float

    @property
    def records(self) -> int:
        return sum(
            last - self.begin[topic][number]
            for topic, partitions in self.end.items()
            for number, last in partitions.items()
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Replay:
        return cls(**{**data, "begin": _offsets(data["begin"]), "end": _offsets(data["end"])})


@dataclass(frozen=True, slots=True)
class ReplayLayout:
    state: Path
    pipeline: str
    id: str

    @property
    def folder(self) -> Path:
        return self.state / "replays" / self.pipeline / self.id

    @property
    def manifest(self) -> Path:
        return self.folder / "replay.json"

    @property
    def checkpoints(self) -> CheckpointLayout:
        return CheckpointLayout(self.folder / "checkpoints", self.pipeline)

    @property
    def tables(self) -> Path:
        return self.folder / "tables"

    @property
    def report(self) -> Path:
        return self.folder / "status.json"

    @property
    def log(self) -> Path:
        return self.folder / "driver.log"

    @property
    def evidence(self) -> Path:
        return self.folder / "evidence.json"

    @property
    def judged(self) -> Path:
        return self.folder / "judged"

    @property
    def done(self) -> Path:
        return self.folder / "done.json"

    @property
    def ordered(self) -> Path:
        return self.folder / "ordered.json"

    @property
    def swap(self) -> Path:
        return self.folder / "swap.json"

    @property
    def counts(self) -> Path:
        return self.folder / "counts.json"

    def side(self, settings: Settings) -> Settings:
        """The same installation with checkpoints and tables of the replay."""
        roots = {"checkpoints": str(self.folder / "checkpoints"), "tables": str(self.tables)}
        changed = {
            "roots": settings.roots.model_copy(update=roots),
            "spark": settings.spark.model_copy(update={"ui": False}),
        }
        return settings.model_copy(update=changed)

    def clear(self) -> None:
        """Remove all but what was asked for and what a swap did. Only when nothing of it runs."""
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            if path in (self.manifest, self.swap, self.counts):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def find_replays(state: Path, pipeline: str = "*") -> list[Replay]:
    """Those whose manifest can be read, the newest first."""
    found = [each for _, each in _manifests(state, pipeline) if isinstance(each, Replay)]
    return sorted(found, key=lambda each: (each.asked_at, each.id), reverse=True)


def damaged_replays(state: Path, pipeline: str = "*") -> list[tuple[Path, RefusedError]]:
    """The folders of those whose manifest cannot be read, each with the reason."""
    found = _manifests(state, pipeline)
    return [(path.parent, each) for path, each in found if isinstance(each, RefusedError)]


def _manifests(state: Path, pipeline: str) -> Iterator[tuple[Path, Replay | RefusedError]]:
    for path in sorted((state / "replays").glob(f"{pipeline}/*/replay.json")):
        try:
            yield path, _read(path)
        except RefusedError as error:
            yield path, error


def read_replay(state: Path, id: str) -> Replay:
    """Raises NotFoundError, RefusedError for a manifest that is damaged."""
    paths = [path for path in (state / "replays").glob("*/*/replay.json") if path.parent.name == id]
    if not paths:
        raise NotFoundError(f"there is no replay {id!r}", help="headgate replay list")
    return _read(paths[0])


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_note(path: Path, data: Mapping[str, Any]) -> None:
    """A JSON file that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(data, indent=1), encoding="utf-8")
    draft.replace(path)


def read_note(path: Path) -> dict[str, Any] | None:
    """None where there is none. Raises RefusedError for one that is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from error
    if not isinstance(found, dict):
        raise damaged(path, "it is not a JSON object")
    return found


def damaged(path: Path, why: str) -> RefusedError:
    """What is said of a file of a replay that cannot be used."""
    help = f"headgate replay discard {path.parent.name}, then make the replay again"
    if path.name == "replay.json":
        help = f"restore {path} from a backup, or remove {path.parent}"
    return RefusedError(f"{path} cannot be read: {why}", help=help)


def _read(path: Path) -> Replay:
    try:
        return Replay.from_json(read_note(path) or {})
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise damaged(path, f"it is not a replay ({error!r})") from error


def _offsets(data: Mapping[str, Mapping[Any, Any]]) -> dict[str, dict[int, int]]:
    return {
        str(topic): {int(number): int(offset) for number, offset in partitions.items()}
        for topic, partitions in data.items()
    }
