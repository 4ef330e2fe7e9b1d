"""What goes wrong in reading in columns costs time, no record and no stream, and the log says so."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from both_roads import NEVER, same
from record_schemas import avro_bytes, avro_schema, avro_source

from headgate.formats import faults
from headgate.formats.columns import BLOCK, Columns
from headgate.formats.decoder import Decoder
from headgate.formats.lockstep import Buffer, Lanes
from headgate.formats.schema import ReadVectors

SCHEMA = avro_schema(("a", "long"))
SOURCE = avro_source(SCHEMA, [{"name": "a", "type": "long"}])
VALUES = pa.array([*(avro_bytes(SCHEMA, {"a": each}) for each in range(BLOCK + 100)), b""], pa.binary())


@pytest.fixture
def log(monkeypatch, capsys):
    """Of a process that has told nothing yet."""
    monkeypatch.setattr(faults, "_first", threading.Lock())
    return lambda: capsys.readouterr().err


def columns_of(decoder: Decoder) -> Columns:
    assert decoder._own.columns is not None
    return decoder._own.columns


def failing(decoder: Decoder, error: BaseException) -> Decoder:
    """In the first of its blocks."""
    columns = columns_of(decoder)

    def read(lanes: Lanes) -> Any:
        if len(lanes.at) == BLOCK:
            raise error
        return columns.vectors.read(lanes)

    decoder._own = replace(
        decoder._own, columns=replace(columns, vectors=ReadVectors(read, columns.vectors.least))
    )
    return decoder


@pytest.mark.parametrize("error", [pa.ArrowInvalid("offsets"), IndexError("out of bounds"), RecursionError()])
def test_a_block_that_raises_is_read_one_at_a_time_and_the_log_says_so_once(log, error):
    decoder = failing(Decoder(SOURCE), error)
    exact = Decoder(SOURCE, least=NEVER).decode(VALUES)
    same(decoder.decode(VALUES), exact)
    told = log()
    assert "one at a time" in told
    assert type(error).__name__ in told
    same(decoder.decode(VALUES), exact)
    assert log() == ""


def test_the_other_blocks_are_read_in_columns(log):
    decoder = failing(Decoder(SOURCE), IndexError())
    read: list[bytes] = []
    exact = decoder._own.read

    def noted(value: bytes) -> Any:
        read.append(value)
        return exact(value)

    decoder._own = replace(decoder._own, read=noted)
    decoder.decode(VALUES)
    assert read == [*VALUES[:BLOCK].to_pylist(), b""]
    assert "IndexError" in log()


def test_a_want_of_memory_is_no_fault_of_a_block_and_is_raised(log):
    with pytest.raises(MemoryError):
        failing(Decoder(SOURCE), MemoryError()).decode(VALUES)
    assert log() == ""


def test_columns_that_are_read_without_a_decoder_raise(log):
    columns = columns_of(failing(Decoder(SOURCE), IndexError("out of bounds")))
    places = np.zeros(BLOCK, np.int64)
    with pytest.raises(IndexError, match="out of bounds"):
        columns.read(Buffer(np.zeros(1, np.uint8)), places, places + 1)
    assert log() == ""
