"""Avro and Protobuf records in a frame: decoded by `headgate.formats`, in Python workers, over Arrow.

Spark's own `from_avro` is not used: it takes bytes behind a record and text that is no UTF-8 without a word,
knows one writer's schema, and gives a record of nulls for one that it could not read.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql import types as T

from headgate.formats.arrow import decode_batches
from headgate.formats.decoder import BROKEN, FIELD, UNREADABLE, Writers, carriers

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from headgate.contract.model import Source

__all__ = ["binary_fields", "unreadable_mark"]


def binary_fields(
    raw: DataFrame, source: Source, writers: Writers | None
) -> tuple[DataFrame, dict[str, Column], list[tuple[str, Column]]]:
    """The frame with the fields of its records beside it, each column's field, and what went wrong."""
    shown = carriers(source)
    fields = [
        T.StructField(f"{FIELD}{column.name}", _spark_type(column.type, shown[column.name]))
        for column in source.columns
    ]
    marks = [T.StructField(f"{UNREADABLE}{column.name}", T.BooleanType()) for column in source.columns]
    schema = T.StructType([*raw.schema.fields, *fields, *marks, T.StructField(BROKEN, T.BooleanType())])
    decode = partial(decode_batches, source.model_dump_json(exclude_defaults=True), writers)
    frame = raw.mapInArrow(decode, schema)
    found = {column.name: F.col(f"{FIELD}{column.name}") for column in source.columns}
    return frame, found, [("_parse", F.col(BROKEN))]


def unreadable_mark(field: Column, name: str) -> Column:
    """Not null where the record has something in the field, whether or not it could be read."""
    return F.coalesce(F.col(f"{UNREADABLE}{name}"), F.when(field.isNotNull(), F.lit(True)))


def _spark_type(name: str, carrier: str) -> T.DataType:
    if carrier == "text":
        return T.StringType()
    return T._parse_datatype_string({"long": "bigint"}.get(name, name))
