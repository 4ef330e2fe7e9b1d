"""From Kafka's bytes to the contract's columns, as Spark expressions that never raise.

What cannot be decoded is not dropped and does not become a silent NULL: each way it can go wrong is a
reason, a boolean beside the columns.

    _parse              not a JSON object, or a field of another type than the contract says; not one whole
                        record of the schema
    _no_event_time      no readable event time
    _unreadable_<col>   the column is there and cannot be converted
    _missing_<col>      a required column is absent or null
    _future             the event time is more than max_future after the record's arrival
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql import types as T

from headgate.contract.facts import event_time_name
from headgate.contract.model import Column as ContractColumn
from headgate.contract.model import Source, seconds
from headgate.contract.text import group_numbers, java_pattern
from headgate.formats.decoder import carriers
from spark.binary import binary_fields, unreadable_mark

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from headgate.formats.decoder import Writers

__all__ = ["ARRIVAL", "Decoded", "decode", "json_type", "raw_columns", "time_format"]

ARRIVAL = "_arrival"
NOW = "_now"
_CORRUPT = "_corrupt"
# Everything that a cast reads as a time and that says no zone: after `+02:00`, `Z` or `Europe/Paris` the
# contract's zone has no say.
_UNZONED = r"^\d{4}-\d\d-\d\d(?:[T ](?:\d{1,2}(?::\d{1,2}(?::\d{1,2}(?:\.\d*)?)?)?)?)?\s*$"
# The years 1 to 9999, which every reader of a table knows, in microseconds and in days; a cast reads more.
_YEARS = (-62_135_596_800_000_000, 253_402_300_799_999_999)
_DAYS = (-719_162, 2_932_896)
# Spark reads more than JSON by default. What is not JSON goes to the quarantine, whichever lane reads it.
_STRICT = {"allowSingleQuotes": "false", "allowNonNumericNumbers": "false"}


@dataclass(frozen=True, slots=True)
class Decoded:
    """A frame with the source's columns beside where each record is from, and what went wrong, by reason."""

    frame: DataFrame
    reasons: tuple[tuple[str, Column], ...]


def raw_columns(frame: DataFrame) -> DataFrame:
    """Kafka's columns under headgate's names, with the batch's time.

    `current_timestamp()` before `writeStream` is the time that Spark noted in the offset log: it is the
    same when a batch runs again. Inside foreachBatch it would not be. It is an element of an array, because
    Spark writes a plain literal into the code that it generates, which it would compile anew for each batch.
    """
    now = F.get(F.array(F.current_timestamp()), F.spark_partition_id() * 0)
    return frame.select(
        F.col("key").alias("_key"),
        F.col("value").alias("_value"),
        F.col("topic").alias("_topic"),
        F.col("partition").alias("_partition"),
        F.col("offset").alias("_offset"),
        F.col("timestamp").alias(ARRIVAL),
        now.alias(NOW),
    )


def decode(
    raw: DataFrame, source: Source, writers: Writers | None = None, beside: Sequence[str] = ()
) -> Decoded:
    """Decode a frame of `raw_columns`; works on streaming and batch frames alike.

    `writers` finds the schemas of records that carry a registry's id. Columns `beside` a record's own are
    passed on as they are.
    """
    frame, texts, reasons = _fields(raw, source, writers)
    shown = carriers(source) if source.with_schema else {}
    columns = []
    for column in source.columns:
        text = texts[column.name]
        if shown.get(column.name, "text") == "text":
            value = _convert(text, column, parsed=source.format == "json")
        else:
            value = _in_zone(text, column) if shown[column.name] == "local" else text
        columns.append(value.alias(column.name))
    if source.format == "text" and not any(c.name == "line" for c in source.columns):
        columns.append(F.col("_line").alias("line"))
    origin = ["_key", "_value", "_topic", "_partition", "_offset", ARRIVAL, NOW]
    # Whether there was something travels beside the columns: a reason needs both.
    given = [
        _given(texts[c.name], c, source).alias(f"_given_{c.name}")
        for c in source.columns
        if _converts(c, source)
    ]
    checks = [column.alias(name) for name, column in reasons]
    frame = frame.select(*origin, *beside, *columns, *given, *checks)
    # In a step of its own, for which the conversion is a value: Spark would convert twice within one.
    frame = frame.withColumns({c.name: _known(c) for c in source.columns if c.type in {"timestamp", "date"}})
    return Decoded(frame, tuple(_reasons(source, [name for name, _ in reasons])))


def _fields(
    raw: DataFrame, source: Source, writers: Writers | None
) -> tuple[DataFrame, dict[str, Column], list[tuple[str, Column]]]:
    if source.with_schema:
        return binary_fields(raw, source, writers)
    return _json_fields(raw, source) if source.format == "json" else _text_fields(raw, source)


def _given(field: Column, column: ContractColumn, source: Source) -> Column:
    """Whether a record has something in a column, whether or not it could be read."""
    mark = unreadable_mark(field, column.name) if source.with_schema else field
    return mark.isNotNull()


def _json_fields(
    raw: DataFrame, source: Source
) -> tuple[DataFrame, dict[str, Column], list[tuple[str, Column]]]:
    schema = T.StructType(
        [
            *(T.StructField(c.name, json_type(c), nullable=True) for c in source.columns),
            T.StructField(_CORRUPT, T.StringType()),
        ]
    )
    text = F.col("_value").cast("string")
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": _CORRUPT, **_STRICT}
    parsed = raw.withColumn("_json", F.from_json(text, schema, options))
    # from_json takes bytes that are not UTF-8 as replacement signs.
    broken = (
        F.col("_json").isNull()
        | F.col(f"_json.{_CORRUPT}").isNotNull()
        | ~F.coalesce(F.is_valid_utf8(text), F.lit(False))
        | ~F.coalesce(_one_object(text), F.lit(False))
    )
    texts = {c.name: F.col("_json").getField(c.name) for c in source.columns}
    return parsed, texts, [("_parse", broken)]


def _one_object(text: Column) -> Column:
    """Whether an object is all there is: from_json takes the first object of an array, and stops after the
    first of `{…}{…}`, which would lose a record. Where the first brace that closes is the last sign, nothing
    can follow; otherwise the text is read again, as an array's first element, and the second one must be the
    mark that was put behind it."""
    array = F.concat(F.lit("["), text, F.lit(',{"_":"behind"}]'))
    elements = F.from_json(array, "array<struct<_:string>>", _STRICT)
    alone = (F.size(elements) == 2) & (F.get(elements, 1).getField("_") == "behind")
    opened = F.expr(r"TRIM(LEADING ' \t\r\n' FROM CAST(_value AS STRING))").startswith("{")
    # What most records are is found out cheaply: locate() and length() walk a text sign by sign.
    but_the_last = F.substring("_value", 1, F.octet_length("_value") - 1).cast("string")
    flat = text.startswith("{") & text.endswith("}") & ~but_the_last.contains("}")
    return F.when(flat, F.lit(True)).otherwise(opened & alone)


def _text_fields(
    raw: DataFrame, source: Source
) -> tuple[DataFrame, dict[str, Column], list[tuple[str, Column]]]:
    frame = raw.withColumn("_line", F.make_valid_utf8(F.col("_value").cast("string")))
    numbers = group_numbers(source.pattern) if source.pattern else {}
    pattern = java_pattern(source.pattern or "")
    texts: dict[str, Column] = {}
    for column in source.columns:
        if column.name in numbers:
            found = F.regexp_extract(F.col("_line"), pattern, numbers[column.name])
            texts[column.name] = F.nullif(found, F.lit(""))
        else:
            texts[column.name] = F.col("_line")
    return frame, texts, [("_parse", F.col("_value").isNull())]


def json_type(column: ContractColumn) -> T.DataType:
    """Times and dates are read as text: how they are converted is the contract's, not the parser's."""
    if column.type in {"timestamp", "date", "binary"}:
        return T.StringType()
    return T._parse_datatype_string(_spark_type(column.type))


def _spark_type(name: str) -> str:
    return {"long": "bigint"}.get(name, name)


def _converts(column: ContractColumn, source: Source) -> bool:
    """Whether a column's value is converted, which can fail."""
    if source.with_schema:
        return True
    if source.format == "json":
        return column.type in {"timestamp", "date", "binary", "float", "double"}
    return column.type != "string"


def _convert(text: Column, column: ContractColumn, *, parsed: bool) -> Column:
    if column.type == "timestamp":
        return _timestamp(text, column)
    if column.type == "date":
        return _date(text, column)
    if column.type == "binary":
        return F.try_to_binary(text, F.lit("base64"))
    if parsed and column.type in {"float", "double"}:
        # The parser makes infinity of a number that is too large for the type.
        return F.when(F.abs(text) < F.lit(float("inf")), text)
    if parsed or column.type == "string":
        return text
    return text.try_cast(_spark_type(column.type))


def _known(column: ContractColumn) -> Column:
    """A converted date or time, or NULL where its year is not one that every reader knows."""
    value = F.col(column.name)
    if column.type == "date":
        return F.when(F.unix_date(value).between(*_DAYS), value)
    return F.when(F.unix_micros(value).between(*_YEARS), value)


def _date(text: Column, column: ContractColumn) -> Column:
    if column.format:
        return F.try_to_timestamp(text, F.lit(time_format(column))).cast("date")
    return F.when(_dated(text), text.try_cast("date"))


def time_format(column: ContractColumn) -> str:
    """The pattern that Spark gets for a column's `format`."""
    pattern = str(column.format)
    if column.type == "date":
        return pattern
    if column.default_year is not None:
        pattern = f"yyyy {pattern}"
    return " ".join(pattern.split())


def _timestamp(text: Column, column: ContractColumn) -> Column:
    zone = column.zone or "UTC"
    if column.format in {"epoch_seconds", "epoch_millis"}:
        scale = 1_000_000 if column.format == "epoch_seconds" else 1_000
        number = text.try_cast("decimal(20,6)")
        return F.timestamp_micros((number * F.lit(scale)).try_cast("bigint"))
    if column.format:
        value = F.regexp_replace(F.trim(text), r"\s+", " ")
        if column.default_year is not None:
            value = F.concat(F.lit(f"{column.default_year} "), value)
        moment = F.try_to_timestamp(value, F.lit(time_format(column)))
        zoned = any(letter in _without_quotes(column.format) for letter in "XxZzVO")
        return moment if zoned or zone == "UTC" else F.to_utc_timestamp(moment, zone)
    # Without a date at the front, a cast would take today's.
    moment = F.when(_dated(text), text.try_cast("timestamp"))
    if zone == "UTC":
        return moment
    return F.when(text.rlike(_UNZONED), F.to_utc_timestamp(moment, zone)).otherwise(moment)


def _in_zone(wall: Column, column: ContractColumn) -> Column:
    """The moment at which a clock in the column's zone shows this time."""
    return F.to_utc_timestamp(wall, column.zone or "UTC")


def _dated(text: Column) -> Column:
    """Whether a text that a cast can read has `2023-10-01` at its front: the cast itself also takes `2023`,
    `2023-1-5` and a time alone. That the other signs are digits, it sees to; a pattern would be one more
    reading of each text."""
    dashes = (F.substring(text, 5, 1) == "-") & (F.substring(text, 8, 1) == "-")
    return dashes & F.substring(text, 10, 1).between("0", "9")


def _without_quotes(pattern: str) -> str:
    return "".join(pattern.split("'")[::2])


def _reasons(source: Source, decoding: list[str]) -> list[tuple[str, Column]]:
    reasons = [(name, F.col(name)) for name in decoding]
    whole = ~F.col("_parse")
    event_time = event_time_name(source)
    for column in source.columns:
        absent = F.col(column.name).isNull()
        if column.name == event_time:
            reasons.append(("_no_event_time", whole & absent))
            continue
        if _converts(column, source):
            given = F.col(f"_given_{column.name}")
            reasons.append((f"_unreadable_{column.name}", whole & given & absent))
            absent = absent & ~given
        if column.required:
            reasons.append((f"_missing_{column.name}", whole & absent))
    if source.event_time is not None and event_time is not None and not source.event_time.arrival:
        # Arrival is Kafka's clock (LogAppendTime), so every query and every run judges alike; the batch's
        # own time bounds it where a topic takes the producer's word.
        # In microseconds: an interval would go through a calendar for each record.
        bound = round(seconds(source.event_time.max_future) * 1_000_000)
        arrived = F.unix_micros(F.least(F.col(ARRIVAL), F.col(NOW)))
        ahead = F.unix_micros(F.col(event_time)) - arrived > F.lit(bound)
        reasons.append(("_future", F.coalesce(ahead, F.lit(False))))
    return reasons
