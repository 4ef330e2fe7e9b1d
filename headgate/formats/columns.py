"""The fast road: the records of one writer's schema as columns, a block of them at once.

It takes what it surely reads as one record at a time is read (`headgate.formats.decoder`), which stays the
definition of what a record is; the rest it leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headgate.formats.binding import Bound
from headgate.formats.lockstep import Buffer, Lanes, Places
from headgate.formats.schema import LoadedSchema, ReadVectors
from headgate.formats.shapes import SchemaProblem, taking_apart
from headgate.formats.vectors import Make, vector_converter

__all__ = ["BLOCK", "Block", "Columns", "columns_of"]

BLOCK = 10_000  # records: what is known of them stays in the processor's cache


@dataclass(frozen=True, slots=True)
class Block:
    """Columns of the records that were read, and which of the records these are."""

    rows: Places
    columns: Sequence[pa.Array]


@dataclass(frozen=True, slots=True)
class Columns:
    """`makes` has what makes each column, or the constant that it is; `written` the fields they are of."""

    vectors: ReadVectors
    written: Sequence[str | None]
    makes: Sequence[Make | pa.Scalar]

    def read(
        self,
        buffer: Buffer,
        starts: Places,
        ends: Places,
        *,
        least: int | None = None,
        on_fault: Callable[[Exception], None] | None = None,
    ) -> list[Block]:
        """Records that are in none of the blocks are left: those of a block of fewer than `least`, too.

        `on_fault` is told what a block raised, which is left then; without it that is raised."""
        worth = self.vectors.least if least is None else least
        blocks = []
        for first in range(0, len(starts), BLOCK):
            lanes = Lanes(buffer, starts[first : first + BLOCK], ends[first : first + BLOCK])
            if len(lanes.at) < worth:
                continue
            try:
                block = self._block(lanes, first)
            except MemoryError:  # says nothing of the block, which may be read when the batch runs again
                raise
            except Exception as fault:
                if on_fault is None:
                    raise
                on_fault(fault)
                continue
            if block is not None:
                blocks.append(block)
        return blocks

    def _block(self, lanes: Lanes, first: int) -> Block | None:
        """Nothing is made of what is not `ok` by now."""
        found = self.vectors.read(lanes)
        lanes.unread()
        kept = lanes.narrow(1)
        if not len(lanes.at):
            return None
        if kept is not None:
            found = {name: vector.only(kept) for name, vector in found.items()}
        arrays = []
        for name, make in zip(self.written, self.makes, strict=True):
            if name is None:
                arrays.append(pa.repeat(make, len(lanes.at)))
            else:
                arrays.append(make(lanes, found[name]))
        rows = np.flatnonzero(lanes.ok)
        if len(rows) < len(lanes.at):
            made = pa.array(rows)
            arrays = [each.take(made) for each in arrays]
        return Block((rows if lanes.rows is None else lanes.rows[rows]) + first, arrays)


def columns_of(schema: LoadedSchema, bound: Sequence[Bound], types: Sequence[pa.DataType]) -> Columns | None:
    """None where something in the schema, or in what becomes of it, is read one record at a time; that is
    also where a schema goes, or a default, that this road stumbles over."""
    try:
        with taking_apart():
            return _columns(schema, bound, types)
    except SchemaProblem:
        return None


def _columns(schema: LoadedSchema, bound: Sequence[Bound], types: Sequence[pa.DataType]) -> Columns | None:
    vectors = schema.vectors({column.written for column in bound if column.written is not None})
    if vectors is None:
        return None
    makes: list[Make | pa.Scalar] = []
    for column, kind in zip(bound, types, strict=True):
        if column.written is None:
            makes.append(pa.array([column.get(None)], kind)[0])
            continue
        make = vector_converter(column.shape, kind, column.convert)
        if make is None:
            return None
        makes.append(make)
    return Columns(vectors, [column.written for column in bound], makes)
