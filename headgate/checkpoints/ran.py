"""Every contract that has run on a pipeline's checkpoints, in any lineage: its tables may hold rows of each.

    <checkpoints>/<pipeline>/contracts.json    {"whole": true, "contracts": [hash, …]}

It lies beside the lineages, so that no restore puts it back or aside. `whole` says that it was begun with
the pipeline's first lineage, before any row was written.
"""

from __future__ import annotations

import json
from pathlib import Path

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.lineage import Lineage
from headgate.errors import RefusedError

__all__ = ["contracts_ran", "note_ran"]


def note_ran(layout: CheckpointLayout, lineage: Lineage, contract_hash: str) -> None:
    """Before the first query of a driver starts, under its claim."""
    path = _path(layout)
    try:
        ran, whole = contracts_ran(layout)
    except RefusedError:
        ran, whole = [], False  # what it said is lost, and that must not stop a stream
    if not path.exists():
        whole = _first(layout, lineage)
    elif contract_hash in ran:
        return
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps({"whole": whole, "contracts": [*ran, contract_hash]}), encoding="utf-8")
    draft.replace(path)


def contracts_ran(layout: CheckpointLayout) -> tuple[list[str], bool]:
    """Their hashes, the oldest first, and whether there can be no other. Raises RefusedError where the file
    is damaged."""
    path = _path(layout)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [str(each) for each in found["contracts"]], bool(found["whole"])
    except FileNotFoundError:
        return [], False
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RefusedError(
            f"{path} cannot be read: {error!r}", help=f"restore {path} from a backup"
        ) from error


def _first(layout: CheckpointLayout, lineage: Lineage) -> bool:
    """Whether nothing has run yet: a lineage that began by itself did so on empty tables."""
    lineages = list(layout.folder.glob("*/lineage.json"))
    begun = any((layout.lineage(lineage.id) / "queries").glob("*"))
    return len(lineages) == 1 and lineage.generation == 0 and not begun


def _path(layout: CheckpointLayout) -> Path:
    return layout.folder / "contracts.json"
