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

__all__ = ["ARRIVAL", "Decoded", "decode", "raw_columns", "time_format"]

ARRIVAL = "_arrival"
NOW = "_now"
_CORRUPT = "_corrupt"
_DATED = r"^\d{4}-\d\d-\d\d"
# Everything that a cast reads as a time and that says no zone: after `+02:00`, `Z` or `Europe/Paris` the
# contract's zone has no say.
_UNZONED = r"^\d{4}-\d\d-\d\d(?:[T ](?:\d{1,2}(?::\d{1,2}(?::\d{1,2}(?:\.\d*)?)?)?)?)?\s*$"
# The years 1 to 9999, which every reader of a table knows, in microseconds and in days; a cast reads more.
_YEARS = (-62_135_596_800_000_000, 253_402_300_799_999_999)
_DAYS = (-719_162, 2_932_896)
_JSON_SPACE = " \t\r\n"
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
    same when a batch runs again. Inside foreachBatch it would not be.
    """
    return frame.select(
        F.col("key").alias("_key"),
        F.col("value").alias("_value"),
        F.col("topic").alias("_topic"),
        F.col("partition").alias("_partition"),
        F.col("offset").alias("_offset"),
        F.col("timestamp").alias(ARRIVAL),
        F.current_timestamp().alias(NOW),
    )


def decode(raw: DataFrame, source: Source, writers: Writers | None = None) -> Decoded:
    """Decode a frame of `raw_columns`; works on streaming and batch frames alike.

    `writers` finds the schemas of records that carry a registry's id.
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
    # The texts travel beside the columns: a reason needs both, and Spark prunes what nobody reads.
    marks = {
        c.name: unreadable_mark(texts[c.name], c.name) if source.with_schema else texts[c.name]
        for c in source.columns
        if _converts(c, source)
    }
    kept = [mark.alias(f"_raw_{name}") for name, mark in marks.items()]
    checks = [column.alias(name) for name, column in reasons]
    frame = frame.select(*origin, *columns, *kept, *checks)
    return Decoded(frame, tuple(_reasons(source, [name for name, _ in reasons])))


def _fields(
    raw: DataFrame, source: Source, writers: Writers | None
) -> tuple[DataFrame, dict[str, Column], list[tuple[str, Column]]]:
    if source.with_schema:
        return binary_fields(raw, source, writers)
    return _json_fields(raw, source) if source.format == "json" else _text_fields(raw, source)


def _json_fields(
    raw: DataFrame, source: Source
) -> tuple[DataFrame, dict[str, Column], list[tuple[str, Column]]]:
    schema = T.StructType(
        [
            *(T.StructField(c.name, _json_type(c), nullable=True) for c in source.columns),
            T.StructField(_CORRUPT, T.StringType()),
        ]
    )
    text = F.col("_value").cast("string")
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": _CORRUPT, **_STRICT}
    parsed = raw.withColumn("_json", F.from_json(text, schema, options))
    # from_json takes the first object of an array, and bytes that are not UTF-8 as replacement signs.
    broken = (
        F.col("_json").isNull()
        | F.col(f"_json.{_CORRUPT}").isNotNull()
        | ~F.coalesce(F.startswith(F.ltrim(text, F.lit(_JSON_SPACE)), F.lit("{")), F.lit(False))
        | ~F.coalesce(F.is_valid_utf8(text), F.lit(False))
        | ~F.coalesce(_nothing_behind(text), F.lit(False))
    )
    texts = {c.name: F.col("_json").getField(c.name) for c in source.columns}
    return parsed, texts, [("_parse", broken)]


def _nothing_behind(text: Column) -> Column:
    """Whether an object is all there is: from_json stops after the first one, and `{…}{…}` would lose a
    record. Where the first brace that closes is the last sign, nothing can follow; otherwise the text is
    read again, as an array's first element, and the second one must be the mark that was put behind it."""
    closed = F.locate("}", text) == F.length(text)
    array = F.concat(F.lit("["), text, F.lit(',{"_":"behind"}]'))
    elements = F.from_json(array, "array<struct<_:string>>", _STRICT)
    alone = (F.size(elements) == 2) & (F.get(elements, 1).getField("_") == "behind")
    return F.when(closed, F.lit(True)).otherwise(F.coalesce(alone, F.lit(False)))


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


def _json_type(column: ContractColumn) -> T.DataType:
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
        moment = _timestamp(text, column)
        return F.when(F.unix_micros(moment).between(*_YEARS), moment)
    if column.type == "date":
        day = _date(text, column)
        return F.when(F.unix_date(day).between(*_DAYS), day)
    if column.type == "binary":
        return F.try_to_binary(text, F.lit("base64"))
    if parsed and column.type in {"float", "double"}:
        # The parser makes infinity of a number that is too large for the type.
        return F.when(F.abs(text) < F.lit(float("inf")), text)
    if parsed or column.type == "string":
        return text
    return text.try_cast(_spark_type(column.type))


def _date(text: Column, column: ContractColumn) -> Column:
    if column.format:
        return F.try_to_timestamp(text, F.lit(time_format(column))).cast("date")
    return F.when(text.rlike(_DATED), text.try_cast("date"))


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
    moment = F.when(text.rlike(_DATED), text.try_cast("timestamp"))
    if zone == "UTC":
        return moment
    return F.when(text.rlike(_UNZONED), F.to_utc_timestamp(moment, zone)).otherwise(moment)


def _in_zone(wall: Column, column: ContractColumn) -> Column:
    """The moment at which a clock in the column's zone shows this time."""
    moment = F.to_utc_timestamp(wall, column.zone or "UTC")
    return F.when(F.unix_micros(moment).between(*_YEARS), moment)


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
            unreadable = F.col(f"_raw_{column.name}").isNotNull() & absent
            reasons.append((f"_unreadable_{column.name}", whole & unreadable))
            absent = absent & F.col(f"_raw_{column.name}").isNull()
        if column.required:
            reasons.append((f"_missing_{column.name}", whole & absent))
    if source.event_time is not None and event_time is not None and not source.event_time.arrival:
        # Arrival is Kafka's clock (LogAppendTime), so every query and every run judges alike; the batch's
        # own time bounds it where a topic takes the producer's word.
        bound = seconds(source.event_time.max_future)
        arrived = F.least(F.col(ARRIVAL), F.col(NOW))
        ahead = F.col(event_time) > arrived + F.make_dt_interval(secs=F.lit(bound))
        reasons.append(("_future", F.coalesce(ahead, F.lit(False))))
    return reasons
