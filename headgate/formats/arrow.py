"""Decoding in a worker of Spark: batches of Arrow in, the same batches with the source's fields out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from headgate.contract.model import Source
from headgate.formats.decoder import BROKEN, Decoder, Writers

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["decode_batches"]

_VALUE = "_value"


def decode_batches(
    source: str, writers: Writers | None, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """`source` is the source's JSON: a worker builds a decoder once and keeps it over tasks and batches."""
    import pyarrow as pa

    decoder = _decoder(source, writers)
    for batch in batches:
        found = decoder.decode(batch.column(_VALUE))
        names = [*batch.schema.names, *decoder.field_names, BROKEN]
        arrays = [*batch.columns, *found.columns, *found.unreadable, found.broken]
        yield pa.RecordBatch.from_arrays(arrays, names)


@lru_cache(maxsize=64)
def _decoder(source: str, writers: Writers | None) -> Decoder:
    return Decoder(Source.model_validate_json(source), writers)
