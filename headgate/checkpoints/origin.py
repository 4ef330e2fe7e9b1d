"""Where a generation begins: an origin is part of its order, and is carried out once, by its driver.

The order says where to begin in offsets that were looked up when it was given, so that all queries of a
pipeline begin at the same place and a person has seen what that repeats or skips. The supervisor hands
it to each driver of that generation; the first that holds the claim begins a lineage that carries the
generation's number, and whoever comes later in the same generation finds it there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.lineage import Lineage, begin_lineage, lineage_of, make_current, open_lineage
from headgate.checkpoints.wayback import NOT_KEPT
from headgate.errors import RefusedError, UsageError
from headgate.tables.place import Place

__all__ = [
    "KINDS",
    "Offsets",
    "Origin",
    "read_origin",
    "settle",
    "starts_of",
    "unsettled",
    "write_origin",
]

Offsets = Mapping[str, Mapping[int, int]]
KINDS = ("checkpoint", "snapshot", "earliest", "latest", "timestamp", "offsets")
_EARLIEST = -2  # Spark's word for it


@dataclass(frozen=True, slots=True)
class Origin:
    """`offsets` by topic and partition, for the kinds that read the topic from somewhere else.

    For the kind `snapshot`: its id, and the `way` that was announced, where one was. `keep` is the id of
    a snapshot that is taken before anything else runs, of what `contract` has left. `replay` is one whose
    `tables` are swapped in before anything runs.
    """

    kind: str
    offsets: Offsets = field(default_factory=dict)
    snapshot: str = ""
    way: str = ""
    note: str = ""
    keep: str = ""
    contract: str = ""
    replay: str = ""
    tables: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """For people: `the timestamp 2026-01-01T00:00:00Z`."""
        what = {"snapshot": f"snapshot {self.snapshot}", "timestamp": f"the timestamp {self.note}"}
        told = what.get(self.kind, self.kind)
        return f"{told}, with replay {self.replay} swapped in" if self.replay else told

    def to_json(self) -> dict[str, Any]:
        data = {**asdict(self), "tables": list(self.tables)}
        data["offsets"] = {
            topic: {str(number): offset for number, offset in sorted(partitions.items())}
            for topic, partitions in sorted(self.offsets.items())
        }
        return data

    def noted(self, not_kept: str = "") -> dict[str, Any]:
        """As the lineage that begins here keeps it, with why nothing was kept of what was before."""
        return {**self.to_json(), NOT_KEPT: not_kept} if not_kept else self.to_json()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Origin:
        """Raises UsageError."""
        try:
            tables = tuple(data.get("tables", ()))
            found = cls(**{**data, "offsets": _offsets(data.get("offsets", {})), "tables": tables})
        except (TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"this is not an origin: {error}", expected="`Origin.to_json`") from error
        if found.kind not in KINDS:
            raise UsageError(f"{found.kind!r} is not an origin", expected=", ".join(KINDS))
        return found


def write_origin(path: Path, origin: Origin) -> None:
    """The supervisor's note for the drivers of one generation."""
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(origin.to_json()), encoding="utf-8")
    draft.replace(path)


def read_origin(path: Path) -> Origin:
    """Raises RefusedError for a note that is missing or damaged: to begin elsewhere would be worse."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Origin.from_json(data)
    except (OSError, ValueError) as error:  # a UsageError is a ValueError
        told = error.message if isinstance(error, UsageError) else str(error)
        raise RefusedError(
            f"the order's origin {path} cannot be used: {told}",
            help="headgate restart PIPELINE --from …, once more",
        ) from error


def settle(
    layout: CheckpointLayout,
    origin: Origin | None,
    *,
    generation: int,
    queries: Iterable[str],
    contract_hash: str,
    spark_version: str,
    at: float,
    tables: Iterable[Place],
    not_kept: str = "",
) -> Lineage:
    """The lineage that this generation runs on. Only under the claim; done again, it changes nothing.

    `not_kept` is noted in one that begins. Raises RefusedError as `open_lineage` does.
    """
    if origin is None or origin.kind == "checkpoint":
        return open_lineage(
            layout, contract_hash=contract_hash, spark_version=spark_version, at=at, tables=tables
        )
    begun = lineage_of(layout, generation)
    if begun is not None:
        if layout.current_lineage() != begun.id:  # a driver was killed before it could point at it
            make_current(layout, begun.id)
        return begun
    note = {**origin.noted(not_kept), "queries": sorted(queries)}
    return begin_lineage(
        layout,
        contract_hash=contract_hash,
        spark_version=spark_version,
        at=at,
        generation=generation,
        origin=note,
    )


def unsettled(layout: CheckpointLayout, origin: Origin | None, generation: int) -> bool:
    """Whether the checkpoint that is there is one that this generation will leave: what a look at it finds
    wrong is then no reason not to start."""
    if origin is None or origin.kind == "checkpoint":
        return False
    begun = lineage_of(layout, generation)
    return begun is None or layout.current_lineage() != begun.id


def starts_of(lineage: Lineage, query: str, partitions: Mapping[str, int]) -> dict[str, dict[int, int]]:
    """Where a query of this lineage begins, by topic; nothing where the contract's own start holds.

    `partitions` is how many each topic has now: those that came after the order are read from their
    first record. A query that the contract got later has no part in the lineage's origin.
    """
    note = lineage.origin or {}
    if query not in note.get("queries", ()):
        return {}
    known = _offsets(note.get("offsets", {}))
    return {
        topic: {number: offsets.get(number, _EARLIEST) for number in range(partitions.get(topic, 0))}
        for topic, offsets in known.items()
    }


def _offsets(data: Mapping[str, Mapping[Any, Any]]) -> dict[str, dict[int, int]]:
    return {
        str(topic): {int(number): int(offset) for number, offset in partitions.items()}
        for topic, partitions in data.items()
    }
