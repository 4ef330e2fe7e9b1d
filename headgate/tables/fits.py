"""What of a contract cannot have its tables on S3, and why: from the contract alone, so a plan can say it.

There, a commit is a conditional put by deltalake. Spark's own writer knows none: it would rename, which S3
does not have, or overwrite what another one has committed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from headgate.arrow.choice import record_lane
from headgate.contract.frozen import FrozenContract
from headgate.tables.place import Place, S3Folder

__all__ = ["Unfit", "unfit"]


@dataclass(frozen=True, slots=True)
class Unfit:
    """One output, or the records, that only tables on a disk can have."""

    what: str
    why: str
    help: str


def unfit(frozen: FrozenContract, tables: Place) -> list[Unfit]:
    """Nothing where the tables are on a disk."""
    return list(_unfit(frozen)) if isinstance(tables, S3Folder) else []


def _unfit(frozen: FrozenContract) -> Iterator[Unfit]:
    records = record_lane(frozen)
    if records.lane != "arrow":
        yield Unfit(
            "records",
            f"the quarantine and the outputs that pass records on run in the JVM lane ({records.why}), in "
            "which Spark writes, and Spark does not fence its commits on S3",
            "`lane: arrow` in the contract's `job`, which says what keeps it from that; or roots.tables on a "
            "disk",
        )
    for name in frozen.stateful_outputs:
        table = next((target.delta for target in frozen.contract.outputs[name].to if target.delta), None)
        if table is not None:
            yield Unfit(
                f"output {name}",
                "it keeps state, and a large result of it is written by Spark, which does not fence its "
                "commits on S3",
                f"leave `delta: {table}` out and serve it from Redis; or roots.tables on a disk",
            )
