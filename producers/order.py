"""From a command to a producer: which contract, which source, which kind of input, which file."""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from headgate.contract.frozen import ContractStore
from headgate.contract.loader import load_contracts
from headgate.contract.model import Column, Contract, Source
from headgate.errors import NotFoundError, RefusedError, UsageError
from headgate.settings import Settings
from producers.datetimes import PatternError
from producers.event_times import event_time_column
from producers.files import check_file
from producers.inputs import FileInput, Look, Outgoing, Watch
from producers.log_lines import log_lines
from producers.look_ahead import Place, ahead_of, judge, shift_to, stream_watermark
from producers.readings import default_key, readings
from producers.record_files import record_file
from producers.run import Order
from producers.text_file import TextFile

__all__ = ["Request", "Target", "make_order", "target_of"]

# Kafka's own default for the largest batch that a topic takes.
MAX_MESSAGE_BYTES = 1_048_588
DEFAULT_RATE = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """The options of `headgate produce`."""

    file: Path | None = None
    rate: float | None = None
    count: int | None = None
    key: str | None = None
    shift_to_now: bool = False
    late_ok: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A source of a pipeline, and its topic in this environment."""

    pipeline: str
    contract: Contract
    source_name: str
    source: Source
    topic: str

    @property
    def max_message_bytes(self) -> int:
        value = self.source.config.get("max.message.bytes", MAX_MESSAGE_BYTES)
        return int(value) if str(value).isdigit() else MAX_MESSAGE_BYTES

    @property
    def headers(self) -> tuple[tuple[str, bytes], ...]:
        return (("headgate.contract", f"{self.pipeline}/{self.contract.version}".encode()),)


def target_of(settings: Settings, pipeline: str, source: str | None, say: Callable[[str], None]) -> Target:
    """The applied contract, or the file where none is applied. Raises NotFoundError and UsageError."""
    contract, topics = _contract(settings, pipeline, say)
    names = list(contract.sources)
    if source is None and len(names) > 1:
        raise UsageError(
            f"the pipeline {pipeline!r} has {len(names)} sources", help=f"--source, one of {', '.join(names)}"
        )
    name = source or names[0]
    if name not in contract.sources:
        raise NotFoundError(
            f"the pipeline {pipeline!r} has no source {name!r}", expected=f"one of {', '.join(names)}"
        )
    chosen = contract.sources[name]
    return Target(pipeline, contract, name, chosen, topics.get(name, f"{settings.prefix}{chosen.topic}"))


def _contract(
    settings: Settings, pipeline: str, say: Callable[[str], None]
) -> tuple[Contract, dict[str, str]]:
    store = ContractStore(settings.state)
    if pipeline in store.applied():
        frozen = store.current(pipeline)
        return frozen.contract, dict(frozen.topics)
    known = {item.contract.pipeline: item for item in load_contracts(settings.pipelines_dir)}
    if pipeline not in known:
        names = ", ".join(sorted({*known, *store.applied()})) or "none"
        raise NotFoundError(
            f"there is no pipeline {pipeline!r}, applied or in {settings.pipelines_dir}",
            expected=f"one of: {names}",
        )
    say(f"the contract of {pipeline} is not applied yet: {known[pipeline].path} is used as it is")
    return known[pipeline].contract, {}


def make_order(
    settings: Settings, target: Target, request: Request, say: Callable[[str], None], watch: Watch
) -> Order:
    """The records to send. Reads a file once before, and raises RefusedError for one that would be lost."""
    if request.rate is not None and not (math.isfinite(request.rate) and request.rate > 0):
        raise UsageError(f"--rate {request.rate:g}", expected="a number of records a second above 0")
    if request.count is not None and request.count < 0:
        raise UsageError(f"--count {request.count}", expected="a number of records")
    _check_key(target, request.key)
    if request.file is not None:
        return _file_order(settings, target, request, say, watch)
    if request.shift_to_now or request.late_ok:
        raise UsageError("--shift-to-now and --late-ok are for files", help="--from-file FILE")
    return Order(
        pipeline=target.pipeline,
        records=iter(()) if request.count == 0 else _limited(_made_up(target, request.key), request.count),
        rate=request.rate or DEFAULT_RATE,
        endless=request.count is None,
        key=None,
        headers=target.headers,
    )


def _sent(target: Target, records: Iterator[Outgoing], name: str) -> Iterator[Outgoing]:
    """The records in the source's format: files and what is made up are JSON, or lines of text."""
    if not target.source.with_schema:
        return records
    from producers.encoding import encoded

    return encoded(records, target.source, name)


def _made_up(target: Target, key: str | None) -> Iterator[Outgoing]:
    def now() -> datetime:
        return datetime.now(UTC)

    try:
        if target.source.format == "text":
            return log_lines(target.source, now=now)
        key = key or default_key(target.contract, target.source)
        made = readings(target.source, key=key, now=now, chance=random.Random())
    except PatternError as error:
        raise RefusedError(
            f"records cannot be made up for {target.pipeline!r}: {error}",
            help=f"headgate produce {target.pipeline} --from-file FILE --late-ok",
        ) from error
    return _sent(target, made, "those made up")


def _file_order(
    settings: Settings, target: Target, request: Request, say: Callable[[str], None], watch: Watch
) -> Order:
    path = request.file
    if path is None:
        raise AssertionError("a file is asked for")
    check_file(path)
    column = event_time_column(target.source)
    file, timed = _open(target, path, column, request, say)
    shift = 0
    if timed and (request.shift_to_now or not request.late_ok):
        shift = _look(settings, target, request, file=file, say=say, watch=watch)
    return Order(
        pipeline=target.pipeline,
        records=_limited(_sent(target, file.records(shift), str(path)), request.count),
        rate=request.rate,
        endless=False,
        key=path.name.encode("utf-8", "surrogateescape"),
        headers=target.headers,
        fraction=lambda: file.fraction,
        left_out=lambda: file.too_long,
    )


def _open(
    target: Target, path: Path, column: Column | None, request: Request, say: Callable[[str], None]
) -> tuple[FileInput, bool]:
    """The file, and whether its times can be read."""
    options = {"max_line": target.max_message_bytes, "key": request.key}

    def make(times: Column | None) -> FileInput:
        if target.source.format == "text":
            return TextFile(path, target.source, times, **options)  # type: ignore[arg-type]
        return record_file(path, target.source, times, **options)  # type: ignore[arg-type]

    try:
        return make(column), column is not None
    except PatternError as error:
        if request.shift_to_now:
            raise RefusedError(f"the times of {path} cannot be shifted: {error}") from error
        say(f"the times of {path} are not looked at before: {error}")
        return make(None), False


def _look(
    settings: Settings,
    target: Target,
    request: Request,
    *,
    file: FileInput,
    say: Callable[[str], None],
    watch: Watch,
) -> int:
    place = Place(target.pipeline, str(request.file))
    watermark = stream_watermark(settings, target.pipeline)
    look: Look = file.look(watermark, watch)
    if request.shift_to_now:
        return shift_to(place, file, look, int(time.time() * 1e6))
    if look.timed == 0:
        say(
            f"no record of {place.file} has a time that the contract can read: "
            "the stream will put them into the quarantine"
        )
    judge(place, look, watermark)
    warning = ahead_of(target.source, look)
    if warning is not None:
        say(warning)
    return 0


def _check_key(target: Target, key: str | None) -> None:
    names = [column.name for column in target.source.columns]
    if key is not None and key not in names:
        raise UsageError(
            f"--key {key}: the source {target.source_name!r} has no such column",
            expected=f"one of {', '.join(names) or 'none'}",
        )


def _limited(records: Iterator[Outgoing], count: int | None) -> Iterator[Outgoing]:
    return records if count is None else islice(records, min(count, sys.maxsize))
