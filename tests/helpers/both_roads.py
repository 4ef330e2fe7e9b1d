"""Records decoded in columns and one at a time: both give the same, or a test fails here."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from headgate.contract.model import Source
from headgate.formats.decoder import DecodedBatch, Decoder, Writers

__all__ = ["ALWAYS", "NEVER", "decoded", "raised", "same"]

# From how many records on they are read in columns.
ALWAYS, NEVER = 1, 2**62


def raised(fault: Exception) -> None:
    """For a decoder: a fault in its columns is not made good by the other road."""
    raise fault


def decoded(source: Source, values: Sequence[bytes | None], writers: Writers | None = None) -> DecodedBatch:
    array = pa.array(values, pa.binary())
    fast = Decoder(source, writers, least=ALWAYS, on_fault=raised).decode(array)
    exact = Decoder(source, writers, least=NEVER).decode(array)
    same(fast, exact)
    return fast


def same(one: DecodedBatch, other: DecodedBatch) -> None:
    """Bit by bit: a zero has a sign."""
    assert one.broken.equals(other.broken)
    for mine, its in zip((*one.columns, *one.unreadable), (*other.columns, *other.unreadable), strict=True):
        mine.validate(full=True)
        assert mine.equals(its)
        assert [repr(each) for each in mine.to_pylist()] == [repr(each) for each in its.to_pylist()]
