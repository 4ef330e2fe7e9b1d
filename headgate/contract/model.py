"""The contract: what one pipeline reads, requires, computes and promises.

These models are the format's reference: the JSON Schema for editors is generated from them. They
check what can be said of one value; what needs two places at once is in `headgate.contract.checks`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from headgate.contract.record_schema import RecordSchema
from headgate.suggest import did_you_mean

__all__ = [
    "Column",
    "Contract",
    "EventTime",
    "Expectation",
    "Job",
    "Output",
    "Quality",
    "RecordSchema",
    "Rule",
    "Slo",
    "Source",
    "Target",
    "seconds",
    "size",
]

_UNITS = {"millisecond": 0.001, "second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_DURATION = re.compile(r"^(\d+(?:\.\d+)?) (millisecond|second|minute|hour|day|week)s?$")

_DURATION_LOOKS = "expected a number and a unit, such as `10 minutes` or `500 milliseconds`"
_SIZES = {"k": 1024, "m": 1024**2, "g": 1024**3}

NAME = r"^[a-z][a-z0-9_]{0,62}$"
PIPELINE = r"^[a-z][a-z0-9-]{0,62}$"
TOPIC = r"^[a-zA-Z0-9._-]{1,200}$"
REDIS_KEY = r"^[a-zA-Z0-9_.:-]{1,200}$"
COLUMN = r"^[A-Za-z_][A-Za-z0-9_]{0,126}$"
FUNCTION = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
EXPECTATION = r"^Expect[A-Za-z]+$"
MEMORY = r"^[1-9]\d{0,5}[mg]$"
SIZE = r"^[1-9]\d{0,5}[kmg]$"

SIMPLE_TYPES = ("string", "boolean", "int", "long", "float", "double", "date", "timestamp", "binary")
_DECIMAL = re.compile(r"^decimal\((\d{1,2}),\s*(\d{1,2})\)$")
_NESTED = re.compile(r"^(array|map|struct)<[A-Za-z0-9_:,<>() ]{1,2000}>$")


def seconds(duration: str) -> float:
    """`10 minutes` as seconds. Raises ValueError for anything that is not a number and a unit; of seconds
    alone there are fractions, for Spark knows no others."""
    match = _DURATION.match(duration.strip())
    if match is None:
        raise ValueError(_DURATION_LOOKS)
    if "." in match[1] and match[2] != "second":
        raise ValueError(f"expected a whole number of {match[2]}s: only seconds have fractions")
    return float(match[1]) * _UNITS[match[2]]


def size(text: str) -> int:
    """`256m` as bytes, of what the pattern of its key has let pass."""
    return int(text[:-1]) * _SIZES[text[-1]]


def _written_duration(value: object) -> object:
    """A bare number is no text, and in quotes it would be no duration either."""
    if isinstance(value, int | float):
        raise ValueError(_DURATION_LOOKS)
    return value


def _duration(value: str) -> str:
    seconds(value)
    return value


def _positive_duration(value: str) -> str:
    if seconds(value) <= 0:
        raise ValueError("expected a duration greater than zero")
    return value


def _column_type(value: str) -> str:
    decimal = _DECIMAL.match(value)
    if decimal and int(decimal[1]) <= 38 and int(decimal[2]) <= int(decimal[1]):
        return value
    if value in SIMPLE_TYPES or _NESTED.match(value):
        return value
    if value.count("(") != value.count(")") or value.count("<") != value.count(">"):
        raise ValueError(f'inside braces a type with a comma is quoted, such as "{value}, …"')
    known = ", ".join((*SIMPLE_TYPES, "decimal(p,s)", "array<…>", "map<…>", "struct<…>"))
    hint = did_you_mean(value, SIMPLE_TYPES)
    raise ValueError(f"expected one of {known}{f'; {hint}' if hint else ''}")


Duration = Annotated[str, BeforeValidator(_written_duration), AfterValidator(_duration)]
PositiveDuration = Annotated[str, BeforeValidator(_written_duration), AfterValidator(_positive_duration)]
Name = Annotated[str, Field(pattern=NAME)]
Scalar = str | int | float | bool
Lane = Literal["jvm", "arrow", "auto"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Column(_Model):
    """One column that the decoded record has.

    `zone` is the zone of timestamps that carry none; `format` is a Spark datetime pattern, or
    `epoch_seconds` / `epoch_millis`; `default_year` completes times that have no year.
    """

    name: str = Field(pattern=COLUMN)
    type: Annotated[str, AfterValidator(_column_type)]
    required: bool = False
    zone: str | None = None
    format: str | None = Field(default=None, max_length=80)
    default_year: int | None = Field(default=None, strict=True, ge=1970, le=9999)
    description: str = ""


class EventTime(_Model):
    """When a record happened: one of its columns, or (`arrival: true`) when Kafka received it."""

    column: str | None = None
    arrival: bool = False
    watermark: Duration = "10 minutes"
    max_future: PositiveDuration = "10 minutes"

    @model_validator(mode="after")
    def _one_of_both(self) -> EventTime:
        if (self.column is None) == (not self.arrival):
            raise ValueError("expected either `column: NAME` or `arrival: true`, never both")
        return self


class Rule(_Model):
    """A Spark SQL boolean that each record must satisfy. NULL counts as failed."""

    name: Name
    expect: str = Field(min_length=1, max_length=4000)
    otherwise: Literal["warn", "quarantine", "fail"] = "quarantine"


class StartAt(_Model):
    timestamp: str


class Source(_Model):
    """A topic, how its records are decoded, and what they must satisfy."""

    # `schema` in the file: pydantic's models have a method of that name.
    model_config = ConfigDict(serialize_by_alias=True)

    topic: str = Field(pattern=TOPIC)
    partitions: int = Field(default=1, strict=True, ge=1, le=10_000)
    config: dict[str, Scalar] = {}
    start: Literal["earliest", "latest"] | StartAt = "earliest"
    format: Literal["json", "text", "avro", "protobuf"] = "json"
    record_schema: RecordSchema | None = Field(default=None, alias="schema")
    pattern: str | None = Field(default=None, max_length=4000)
    columns: tuple[Column, ...] = ()
    event_time: EventTime | None = None
    rules: tuple[Rule, ...] = ()
    options: dict[str, Scalar] = {}

    @property
    def with_schema(self) -> bool:
        """Whether the records are binary, and their fields come from a schema."""
        return self.format in {"avro", "protobuf"}


class Target(_Model):
    """Where an output goes: exactly one of a Delta table's name or a Redis key."""

    delta: str | None = Field(default=None, pattern=NAME)
    redis: str | None = Field(default=None, pattern=REDIS_KEY)
    partition_by: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _exactly_one(self) -> Target:
        if (self.delta is None) == (self.redis is None):
            raise ValueError("expected exactly one of `delta: TABLE` or `redis: KEY`")
        if self.partition_by and self.delta is None:
            raise ValueError("`partition_by` goes with `delta`")
        return self


class Output(_Model):
    """One result: its SQL over the sources (or a Python function), and where it goes.

    `mode: update` upserts on `key`; `append` adds rows. `event_time` names the output's column that
    orders what Redis keeps (`keep` event times) and publishes; by default the timestamp in `key`.
    `lane` says how records are read and written: `jvm` takes every contract, `arrow` is faster and takes
    not all, `auto` is the faster one that takes it. Both give the same rows. Of an output with windows, joins
    or other state it says how its records are read; the rest is Spark's.
    """

    sql: str | None = Field(default=None, max_length=20_000)
    python: str | None = Field(default=None, pattern=FUNCTION)
    mode: Literal["append", "update"] = "append"
    key: tuple[str, ...] = ()
    event_time: str | None = None
    keep: int = Field(default=100, strict=True, ge=1, le=100_000)
    lane: Lane | None = None
    to: tuple[Target, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _sql_or_python(self) -> Output:
        if (self.sql is None) == (self.python is None):
            raise ValueError("expected exactly one of `sql` or `python`")
        return self


class Expectation(_Model):
    """One Great Expectations expectation on an output's Delta table; extra keys are its arguments."""

    model_config = ConfigDict(frozen=True, extra="allow")

    output: Name
    expect: str = Field(pattern=EXPECTATION)
    severity: Literal["critical", "warning", "info"] = "critical"

    @property
    def arguments(self) -> dict[str, object]:
        return dict(self.model_extra or {})


class Quality(_Model):
    """What Great Expectations checks on what was committed, and how often.

    `window` limits a check to the rows whose event time lies in the last so-much of the table.
    """

    every: PositiveDuration = "5 minutes"
    window: PositiveDuration | None = None
    expectations: tuple[Expectation, ...] = Field(min_length=1)


class Slo(_Model):
    freshness: PositiveDuration = "60 seconds"
    quarantined_ratio: float = Field(default=0.01, ge=0, le=1)


class Job(_Model):
    """How the Spark job runs: its rhythm, its size, and tuning. Where it runs is the environment's.

    A stream that has been stalled for `stall_restart` is restarted. One that has quarantined more than
    `poison_ratio` of what it read, in every batch for `poison_park`, is parked; 1 switches that off.
    `lane` is that of all outputs that pass records on and do not say their own; with `jvm` those with state
    have it, too. A batch ends at the first of
    `max_records_per_batch` and `max_bytes_per_batch`; without the latter it is a quarter of `memory`, on a
    cluster of an executor's.
    """

    trigger: PositiveDuration = "2 seconds"
    max_records_per_batch: int = Field(default=500_000, strict=True, ge=1, le=1_000_000_000)
    max_bytes_per_batch: str | None = Field(default=None, pattern=SIZE)
    cores: int = Field(default=2, strict=True, ge=1, le=256)
    memory: str = Field(default="1g", pattern=MEMORY)
    shuffle_partitions: int = Field(default=2, strict=True, ge=1, le=10_000)
    stall_restart: PositiveDuration = "10 minutes"
    poison_ratio: float = Field(default=0.9, gt=0, le=1)
    poison_park: PositiveDuration = "5 minutes"
    lane: Lane | None = None
    spark: dict[str, Scalar] = {}


class Contract(_Model):
    """One pipeline."""

    headgate: Literal[1]
    pipeline: str = Field(pattern=PIPELINE)
    version: int = Field(strict=True, ge=1, le=2_147_483_647)
    description: str = ""
    owner: str = Field(min_length=1)
    sources: dict[Name, Source] = Field(min_length=1)
    outputs: dict[Name, Output] = Field(min_length=1)
    quality: Quality | None = None
    slo: Slo = Slo()
    job: Job = Job()
