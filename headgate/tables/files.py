"""Files in the folders of tables, on a disk and on S3 alike: what no Delta library does for us."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate.errors import TablesUnavailable
from headgate.tables.access import s3_store
from headgate.tables.place import Place, S3Folder

if TYPE_CHECKING:
    from obstore import ReadableFile, WritableFile

__all__ = [
    "files_in",
    "first_line",
    "folders_in",
    "is_there",
    "make_folder",
    "open_input",
    "open_output",
    "read_text",
    "remove",
    "size_of",
    "unavailable",
]


def files_in(folder: Place, pattern: str) -> list[str]:
    """Names of the files that lie in the folder itself; none where there is no folder."""
    if isinstance(folder, Path):
        return sorted(path.name for path in folder.glob(pattern) if path.is_file())
    found = (name.rpartition("/")[2] for name in _listed(folder)["files"])
    return sorted(name for name in found if fnmatchcase(name, pattern))


def folders_in(folder: Place) -> list[str]:
    if isinstance(folder, Path):
        return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return sorted(name.rstrip("/").rpartition("/")[2] for name in _listed(folder)["folders"])


def is_there(folder: Place) -> bool:
    """Whether anything lies in the folder."""
    if isinstance(folder, Path):
        return folder.is_dir() and any(folder.iterdir())
    return any(_listed(folder).values())


def size_of(file: Place) -> int | None:
    """None where there is no such file."""
    if isinstance(file, Path):
        try:
            return file.stat().st_size
        except FileNotFoundError:
            return None
    import obstore

    with _told(file):
        try:
            return int(obstore.head(s3_store(file.access, file.bucket), file.key)["size"])
        except FileNotFoundError:
            return None


def read_text(file: Place) -> str:
    """Raises FileNotFoundError."""
    if isinstance(file, Path):
        return file.read_text(encoding="utf-8", errors="replace")
    import obstore

    with _told(file):
        found = obstore.get(s3_store(file.access, file.bucket), file.key).bytes()
    return bytes(found).decode("utf-8", errors="replace")


def make_folder(folder: Place) -> None:
    """On S3 there is nothing to make."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)


def remove(folder: Place, names: Iterable[str]) -> None:
    """Remove files as far as they are there."""
    if isinstance(folder, Path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                (folder / name).unlink()
        return
    import obstore

    keys = [(folder / name).key for name in names]
    if keys:
        with _told(folder), contextlib.suppress(FileNotFoundError):
            obstore.delete(s3_store(folder.access, folder.bucket), keys)


def open_output(file: Place) -> Any:
    """A file to be written once, for Arrow; on S3 it is there when it is closed, whole, or never."""
    if isinstance(file, Path):
        import pyarrow as pa

        return pa.OSFile(str(file), "wb")
    import obstore

    with _told(file):
        return _Upload(obstore.open_writer(s3_store(file.access, file.bucket), file.key))


def open_input(file: Place) -> Any:
    """A file that Arrow reads in pieces."""
    import pyarrow as pa

    if isinstance(file, Path):
        return pa.OSFile(str(file), "rb")
    import obstore

    with _told(file):
        found = obstore.open_reader(s3_store(file.access, file.bucket), file.key)
    return pa.PythonFile(_Download(found), mode="r")


class _Upload:
    """A file of Python's as Arrow wants it. One that is let go is not completed: no object comes of it."""

    def __init__(self, writer: WritableFile) -> None:
        self._writer = writer
        self.closed = False

    def write(self, data: bytes) -> int:
        return self._writer.write(data)

    def flush(self) -> None:
        """Parts go when they are full."""

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._writer.close()


class _Download:
    """The same for reading."""

    def __init__(self, reader: ReadableFile) -> None:
        self._reader = reader
        self.closed = False

    def read(self, size: int | None = None) -> bytes:
        return bytes(self._reader.read(size))

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()

    def close(self) -> None:
        self.closed = True


def _listed(folder: S3Folder) -> dict[str, list[str]]:
    import obstore

    with _told(folder):
        found = obstore.list_with_delimiter(
            s3_store(folder.access, folder.bucket), f"{folder.key}/" if folder.key else None
        )
    return {"files": [str(each["path"]) for each in found["objects"]], "folders": [*found["common_prefixes"]]}


@contextmanager
def _told(place: S3Folder) -> Iterator[None]:
    """What the store says, as an error that tells where. Its own text holds no credentials."""
    from obstore.exceptions import BaseError

    try:
        yield
    except BaseError as error:
        raise unavailable(place, error) from error


def unavailable(place: S3Folder, error: Exception) -> TablesUnavailable:
    return TablesUnavailable(
        f"{place} cannot be reached: {first_line(error)}",
        expected=f"a store that answers at {place.access.endpoint or 'the address of AWS'}, "
        "with the credentials of [s3]",
        help="headgate doctor",
    )


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
