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
    """Write the page of a batch from its predecessor's totals, and drop pages too old to matter."""
    folder.mkdir(parents=True, exist_ok=True)
    before = read_page(folder, batch_id - 1)
    page = Page(batch_id, batch, (before.total if before else Totals()).plus(batch))
    if before is None and batch_id > 0:
        raise FileNotFoundError(f"the books of batch {batch_id - 1} are missing in {folder}")
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
    try:
        data = json.loads((folder / f"{batch_id}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Page(data["batch_id"], _totals(data["batch"]), _totals(data["total"]))


def last_page(folder: Path, committed: int) -> Page | None:
    """The newest page that is committed: that of batch `committed`, or of one before it."""
    for batch_id in range(committed, max(committed - KEEP_PAGES, -1), -1):
        page = read_page(folder, batch_id)
        if page is not None:
            return page
    return None


def _totals(data: Mapping[str, Any]) -> Totals:
    return Totals(**data)
