"""The books of the record query: one small file per batch, with running totals.

A batch's file is written before Spark commits the batch, and again with the same content when the
batch is run again, so the totals of the newest *committed* batch never count a record twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from headgate.errors import RefusedError

__all__ = ["Page", "Totals", "last_page", "read_page", "write_page"]

KEEP_PAGES = 200  # twice Spark's minBatchesToRetain, so every batch that can be replayed has its page


@dataclass(frozen=True, slots=True)
class Totals:
    """Records counted: read = good + quarantined. `rules` counts failures by rule name."""

    read: int = 0
    good: int = 0
    quarantined: int = 0
    warned: int = 0
    rules: Mapping[str, int] = field(default_factory=dict)

    def plus(self, other: Totals) -> Totals:
        names = {*self.rules, *other.rules}
        return Totals(
            self.read + other.read,
            self.good + other.good,
            self.quarantined + other.quarantined,
            self.warned + other.warned,
            {name: self.rules.get(name, 0) + other.rules.get(name, 0) for name in sorted(names)},
        )


@dataclass(frozen=True, slots=True)
class Page:
    """One batch: what it counted, and the totals of the lineage up to and with it."""

    batch_id: int
    batch: Totals
    total: Totals


def write_page(folder: Path, batch_id: int, batch: Totals) -> Page:
    """Write the page of a batch from its predecessor's totals, and drop pages too old to matter.

    Raises RefusedError when the predecessor's page is missing or damaged: totals cannot be guessed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = read_page(folder, batch_id - 1)
    if before is None and batch_id > 0:
        raise RefusedError(
            f"the books of batch {batch_id - 1} are missing in {folder}",
            expected=f"{batch_id - 1}.json, which was written before that batch was committed",
            help="restore the pipeline's checkpoint folder from a backup",
        )
    page = Page(batch_id, batch, (before.total if before else Totals()).plus(batch))
    target = folder / f"{batch_id}.json"
    draft = target.with_suffix(".tmp")
    with draft.open("w", encoding="utf-8") as stream:
        json.dump(asdict(page), stream)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(target)
    (folder / f"{batch_id - KEEP_PAGES}.json").unlink(missing_ok=True)
    return page


def read_page(folder: Path, batch_id: int) -> Page | None:
    """The page of a batch, None where there is none. Raises RefusedError when it is damaged."""
    path = folder / f"{batch_id}.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Page(data["batch_id"], _totals(data["batch"]), _totals(data["total"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise RefusedError(
            f"the page {path} of the books cannot be read ({error})",
            help="restore the pipeline's checkpoint folder from a backup",
        ) from error


def last_page(folder: Path, committed: int) -> Page | None:
    """The newest page that is committed: that of batch `committed`, or of one before it."""
    for batch_id in range(committed, max(committed - KEEP_PAGES, -1), -1):
        page = read_page(folder, batch_id)
        if page is not None:
            return page
    return None


def _totals(data: Mapping[str, Any]) -> Totals:
    return Totals(**data)
