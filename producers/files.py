"""Files to be sent: opened with clear errors, read line by line in constant memory."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self, cast

from headgate.errors import HeadgateError, UsageError

__all__ = ["FileReader", "check_file"]

_GZIP = b"\x1f\x8b"
_PROBE_BYTES = 8192


def check_file(path: Path) -> None:
    """Raises UsageError for what is not a readable file with text in it."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder", expected="a file", help=f"ls {path}")
    if not path.exists():
        raise UsageError(f"there is no file {path}", help=f"ls {path.parent}")
    if not path.is_file():
        raise UsageError(f"{path} is not a regular file", expected="a file that can be read twice")
    try:
        with _open(path) as file:
            probe = file.read(_PROBE_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not probe:
        raise UsageError(f"{path} is empty", expected="a file with records, one a line")
    if b"\0" in probe:
        raise UsageError(
            f"{path} is binary: there are zero bytes at its beginning",
            expected="text, one record a line, plain or compressed with gzip",
        )


class FileReader:
    """The lines of a file, plain or gzip, any size. Lines that are too long are counted and left out."""

    def __init__(self, path: Path, max_line: int) -> None:
        self.path = path
        self.max_line = max_line
        self.too_long: list[int] = []
        self.lines = 0
        with self._errors():
            self._size = max(path.stat().st_size, 1)
            self._file = _open(path)
        self._text: io.TextIOWrapper | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._text is not None:
            self._text.close()
        self._file.close()

    @property
    def fraction(self) -> float:
        """How much of the file is read, 0 to 1."""
        raw = getattr(self._file, "fileobj", None) or self._file
        try:
            return min(float(raw.tell()) / self._size, 1.0)
        except (OSError, ValueError):
            return 0.0

    def __iter__(self) -> Iterator[bytes]:
        """Lines without their ends, as the bytes they are."""
        with self._errors():
            while line := self._file.readline(self.max_line + 2):
                self.lines += 1
                content = line.removesuffix(b"\n").removesuffix(b"\r")
                if len(content) <= self.max_line:
                    yield content
                    continue
                self.too_long.append(self.lines)
                if not line.endswith(b"\n"):
                    self._skip_line()

    def text(self) -> Iterator[str]:
        """Lines as text with their ends, for the CSV reader; other bytes than UTF-8 keep their place."""
        self._text = io.TextIOWrapper(self._file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        with self._errors():
            for line in self._text:
                self.lines += 1
                yield line

    def _skip_line(self) -> None:
        while part := self._file.readline(1024 * 1024):
            if part.endswith(b"\n"):
                return

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, zlib.error) as error:
            raise HeadgateError(
                f"{self.path} cannot be read after line {self.lines}: {error}",
                expected="a whole file; what came before was sent",
            ) from error


def _open(path: Path) -> BinaryIO:
    file = path.open("rb")
    compressed = file.read(2) == _GZIP
    file.seek(0)
    if compressed:
        file.close()
        return cast(BinaryIO, gzip.open(path, "rb"))
    return file
