"""CSV and JSON-lines files as JSON records with the contract's columns."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from headgate import exact_json
from headgate.contract.model import Column, Source
from headgate.errors import HeadgateError, UsageError
from producers.datetimes import DAY
from producers.event_times import TimeColumn, time_column
from producers.files import FileReader
from producers.inputs import Look, Outgoing, Watch

__all__ = ["CsvFile", "JsonLines", "record_file"]

WATCH_EVERY = 20_000
TELL_EVERY = 100  # records that are sent may be few in a second
_WHOLE = re.compile(r"[+-]?\d{1,30}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_DELIMITERS = ",;\t|"


def record_file(
    path: Path, source: Source, column: Column | None, *, max_line: int, key: str | None
) -> CsvFile | JsonLines:
    """The file as CSV or as JSON lines: by its name, or else by how it begins."""
    stem = path.name.lower().removesuffix(".gz")
    with FileReader(path, max_line) as reader:
        beginning = next((line.strip() for line in reader if line.strip()), b"")
    if stem.endswith((".csv", ".tsv")):
        return CsvFile(path, source, column, max_line=max_line, key=key)
    if beginning.startswith(b"["):
        raise UsageError(
            f"{path} begins with a JSON array",
            expected="one JSON object a line",
            help=f"jq -c '.[]' {path.name} > {path.stem}.jsonl",
        )
    if beginning.startswith(b"{") or stem.endswith((".json", ".jsonl", ".ndjson")):
        return JsonLines(path, column, max_line=max_line, key=key)
    return CsvFile(path, source, column, max_line=max_line, key=key)


class _RecordFile:
    """What both have in common: where the event time is, and how it moves."""

    _odd = "surrogateescape"  # how bytes that were no UTF-8 come back

    def __init__(self, path: Path, column: Column | None, *, max_line: int, key: str | None) -> None:
        self.path = path
        self.max_line = max_line
        self.too_long: list[int] = []
        self.fraction = 0.0
        self._column = column.name if column is not None else None
        self._times: TimeColumn | None = time_column(column) if column is not None else None
        self._key = key
        self._like: Any = None  # a time as this file writes it

    def reads_back(self, micros: int) -> bool:
        if self._times is None or self._like is None:
            return False
        moved = self._times.moved(self._like, micros)
        return abs((self._times.micros(moved) or 0) - micros) < DAY

    def _micros(self, value: Any) -> int | None:
        found = self._times.micros(value) if self._times is not None else None
        if found is not None:
            self._like = value
        return found

    def _moved(self, value: Any, shift: int) -> Any:
        if self._times is None:
            return value
        micros = self._times.micros(value)
        return value if micros is None else self._times.moved(value, micros + shift)

    def _key_of(self, record: dict[str, Any]) -> bytes | None:
        if self._key is None or record.get(self._key) is None:
            return None
        value = record[self._key]
        text = value if isinstance(value, str) else exact_json.dumps(value, ensure_ascii=True)
        return text.encode("utf-8", self._odd)


class JsonLines(_RecordFile):
    """One JSON object a line; a line goes as it is, also one that is no JSON: the stream judges it."""

    _odd = "surrogatepass"  # JSON can escape half a character, which is no text and yet some key

    def look(self, watermark: int | None, watch: Watch) -> Look:
        look = Look()
        with FileReader(self.path, self.max_line) as reader:
            for line in reader:
                if not line.strip():
                    continue
                record = _parse(line)
                look.see(self._micros(record.get(self._column or "")) if record else None, watermark)
                if look.records % WATCH_EVERY == 0:
                    watch(look.records, reader.fraction)
        return look

    def records(self, shift: int) -> Iterator[Outgoing]:
        with FileReader(self.path, self.max_line) as reader:
            self.too_long = reader.too_long
            for number, line in enumerate(reader):
                if number % TELL_EVERY == 0:
                    self.fraction = reader.fraction
                if line.strip():
                    yield self._outgoing(line, shift)
        self.fraction = 1.0

    def _outgoing(self, line: bytes, shift: int) -> Outgoing:
        if not shift and self._key is None:
            return Outgoing(line)
        record = _parse(line, exact_json.loads)
        if record is None:
            return Outgoing(line)
        try:
            key = self._key_of(record)
            if not shift or self._column not in record:
                return Outgoing(line, key)
            record[self._column] = self._moved(record[self._column], shift)
            return Outgoing(_json(record), key)
        except RecursionError:  # nested just as deep as can be read
            return Outgoing(line)


class CsvFile(_RecordFile):
    """A header and rows. Cells become what the contract's columns say, or stay text where they cannot."""

    def __init__(
        self, path: Path, source: Source, column: Column | None, *, max_line: int, key: str | None
    ) -> None:
        super().__init__(path, column, max_line=max_line, key=key)
        self._types = {item.name: item.type for item in source.columns}

    def look(self, watermark: int | None, watch: Watch) -> Look:
        look = Look()
        with FileReader(self.path, self.max_line) as reader:
            names, rows = self._open(reader)
            index = names.index(self._column) if self._column in names else None
            for row in rows:
                cell = row[index] if index is not None and index < len(row) else None
                look.see(self._micros(cell.strip() if cell else None), watermark)
                if look.records % WATCH_EVERY == 0:
                    watch(look.records, reader.fraction)
        return look

    def records(self, shift: int) -> Iterator[Outgoing]:
        with FileReader(self.path, self.max_line) as reader:
            names, rows = self._open(reader)
            convert = [_converter(self._types.get(name, "string")) for name in names]
            for number, row in enumerate(rows):
                if number % TELL_EVERY == 0:
                    self.fraction = reader.fraction
                record = {name: change(cell) for name, change, cell in zip(names, convert, row, strict=False)}
                if len(row) > len(names):
                    record["_more"] = row[len(names) :]
                if shift and self._column in record:
                    record[self._column] = self._moved(record[self._column], shift)
                yield Outgoing(exact_json.dumps(record).encode("utf-8", self._odd), self._key_of(record))
        self.fraction = 1.0

    def _open(self, reader: FileReader) -> tuple[list[str], Iterator[list[str]]]:
        lines = reader.text()
        first = next(lines, "")
        delimiter = max(_DELIMITERS, key=first.count)
        csv.field_size_limit(self.max_line)
        rows = self._rows(csv.reader(chain([first], lines), delimiter=delimiter), reader)
        names = [name.strip() for name in next(rows, [])]
        known = [name for name in names if name in self._types]
        if not known:
            raise UsageError(
                f"the first line of {self.path} names none of the contract's columns: {first.strip()[:80]!r}",
                expected="a header with some of " + ", ".join(self._types),
                help="add a header line, or give the contract the file's columns",
            )
        twice = next((name for name in known if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(
                f"the header of {self.path} names the column {twice!r} twice",
                expected="each of the contract's columns once, or one of them would be lost",
            )
        return names, rows

    def _rows(self, rows: Iterator[list[str]], reader: FileReader) -> Iterator[list[str]]:
        try:
            for row in rows:
                if row:  # the reader gives an empty line as a row without cells
                    yield row
        except csv.Error as error:
            raise HeadgateError(
                f"{self.path}:{reader.lines}: not CSV: {error}",
                expected=f"quotes that close, and no cell of more than {self.max_line} characters",
            ) from error


def _converter(type_name: str) -> Callable[[str], Any]:
    if type_name in {"int", "long"}:
        return _whole
    if type_name in {"float", "double"} or type_name.startswith("decimal"):
        return _number
    if type_name == "boolean":
        return _boolean
    if type_name.startswith(("array<", "map<", "struct<")):
        return _nested
    if type_name in {"timestamp", "date"}:
        return lambda cell: cell if cell.strip() else None
    return lambda cell: cell


def _whole(cell: str) -> Any:
    text = cell.strip()
    return int(text) if _WHOLE.fullmatch(text) else _number(cell)


def _number(cell: str) -> Any:
    text = cell.strip()
    if not text:
        return None
    if _WHOLE.fullmatch(text):
        return int(text)
    if not _NUMBER.fullmatch(text):
        return cell
    value = exact_json.number(text)
    return value if abs(float(value)) != float("inf") else cell


def _boolean(cell: str) -> Any:
    word = cell.strip().lower()
    return {"true": True, "false": False, "": None}.get(word, cell)


def _nested(cell: str) -> Any:
    try:
        value = exact_json.loads(cell) if cell.strip() else None
        if "\\u" in cell:  # an escape can be half a character: then the cell stays text
            plain = cell.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            json.dumps(json.loads(plain), ensure_ascii=False).encode("utf-8")
        exact_json.dumps(value)  # what can be read can still be nested too deep to be written
    except (ValueError, RecursionError):
        return cell
    return value


def _parse(line: bytes, loads: Callable[[bytes], Any] = json.loads) -> dict[str, Any] | None:
    try:
        record = loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _json(record: dict[str, Any]) -> bytes:
    try:
        return exact_json.dumps(record).encode("utf-8")
    except UnicodeEncodeError:  # half a character: escaped, as it came
        return exact_json.dumps(record, ensure_ascii=True).encode("ascii")
