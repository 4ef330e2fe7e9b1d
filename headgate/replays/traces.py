"""Which replays are in a live table: by the transaction of the swap, and by what came after it.

A RESTORE takes the rows of a swap away and leaves its transaction in the log. So the transaction carries the
version of its own commit as its number, the log from there on is looked at, and a swap that is made once
more has another name: `…/<replay>`, then `…/<replay>/2`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.restore import restore_transaction
from headgate.replays.model import ReplayLayout, read_note
from headgate.settings import Settings
from headgate.tables import delta
from headgate.tables.place import Place

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["Trace", "open_table", "swapped_into", "trace_of"]


@dataclass(frozen=True, slots=True)
class Trace:
    """`stands`: whether a replay's rows are in the table now; None where that is not known any more. `name`
    is the transaction of the next swap."""

    stands: bool | None
    name: str


def trace_of(settings: Settings, table: DeltaTable, pipeline: str, name: str, replay: str) -> Trace:
    """What a live table, called `name`, says of a replay."""
    following = base = f"headgate/{pipeline}/_replay/{name}/{replay}"
    versions: list[int] = []
    while (version := table.transaction_version(following)) is not None:
        versions.append(version)
        following = f"{base}/{len(versions) + 1}"
    stands = _stands(table, versions)
    if stands is None and max(_put_back(settings, table, pipeline, name), default=-1) > max(versions):
        stands = False
    return Trace(stands, following)


def swapped_into(settings: Settings, pipeline: str) -> dict[str, list[dict[str, Any]]]:
    """By table, what replays of a pipeline have changed in it: their counts, each with the replay's id. One
    of which it is not known any more counts as being there.

    Raises RefusedError for a note that is damaged.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((settings.state / "replays" / pipeline).glob("*/counts.json")):
        id = path.parent.name
        for name, counts in (read_note(ReplayLayout(settings.state, pipeline, id).counts) or {}).items():
            table = open_table(settings.tables / pipeline / name)
            if table is not None and trace_of(settings, table, pipeline, name, id).stands is not False:
                found.setdefault(name, []).append({**counts, "replay": id})
    return found


def open_table(path: Place) -> DeltaTable | None:
    return delta.open_table(path) if delta.is_table(path) else None


def _stands(table: DeltaTable, versions: Sequence[int]) -> bool | None:
    """Whether the rows of one of these commits are in the newest version: back through the log, past what
    each RESTORE went back over. None where the log does not reach so far."""
    log, at = Path(unquote(urlsplit(table.table_uri).path)) / "_delta_log", table.version()
    while versions and at >= min(versions):
        if at in versions:
            return True
        try:
            text = (log / f"{at:020}.json").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        restored = _restored_to(text)
        if restored is None:
            at -= 1
        elif restored < 0:
            return None  # to a moment: which version that was is not said
        else:
            at = restored
    return False


def _restored_to(text: str) -> int | None:
    """The version that a commit put the table back to, -1 where it does not say; None for another commit."""
    if '"RESTORE"' not in text:
        return None
    for line in text.splitlines():
        info = json.loads(line).get("commitInfo") if '"commitInfo"' in line else None
        if info is not None and info.get("operation") == "RESTORE":
            version = str((info.get("operationParameters") or {}).get("version") or "")
            return int(version) if version.isdigit() else -1
    return None


def _put_back(settings: Settings, table: DeltaTable, pipeline: str, name: str) -> Iterator[int]:
    """The versions at which a restore of a snapshot has put a table back."""
    layout = CheckpointLayout(settings.checkpoints, pipeline)
    for path in layout.folder.glob("*/lineage.json"):
        lineage = path.parent.name.partition(".")[0]
        version = table.transaction_version(restore_transaction(pipeline, name, lineage))
        if version is not None:
            yield version
