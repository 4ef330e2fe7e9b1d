"""Files in the folders of tables, on a disk and on S3 alike: what no Delta library does for us."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate.tables.access import s3_store
from headgate.tables.answers import answered, cause_of, unavailable
from headgate.tables.place import Place, S3Folder

if TYPE_CHECKING:
    from obstore import ReadableFile, WritableFile

__all__ = [
    "drop_output",
    "files_in",
    "folders_in",
    "is_there",
    "make_folder",
    "open_input",
    "open_output",
    "read_text",
    "remove",
    "size_of",
    "sizes_of",
]

_AT_ONCE = 8  # requests to a store, each of which mostly waits
_PARTS = 2  # of an upload that are under way at once, 10 MiB each: a task writes several files


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

    with answered(file):
        try:
            return int(obstore.head(s3_store(file.access, file.bucket), file.key)["size"])
        except FileNotFoundError:
            return None


def sizes_of(folder: Place, names: Sequence[str]) -> list[int | None]:
    """The same of several files, for which a store is asked at once."""
    files = [folder / name for name in names]
    if isinstance(folder, Path) or len(files) < 2:
        return [size_of(file) for file in files]
    with ThreadPoolExecutor(min(_AT_ONCE, len(files))) as pool:
        return list(pool.map(size_of, files))


def read_text(file: Place) -> str:
    """Raises FileNotFoundError."""
    if isinstance(file, Path):
        return file.read_text(encoding="utf-8", errors="replace")
    import obstore

    with answered(file):
        found = obstore.get(s3_store(file.access, file.bucket), file.key).bytes()
    return bytes(found).decode("utf-8", errors="replace")


def make_folder(folder: Place, *, parents: bool = False) -> None:
    """On S3 there is nothing to make. Without `parents` the folder that it lies in must be there: of a disk
    that is not mounted, nothing is made anew."""
    if isinstance(folder, Path):
        folder.mkdir(parents=parents, exist_ok=True)


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
        with answered(folder), contextlib.suppress(FileNotFoundError):
            obstore.delete(s3_store(folder.access, folder.bucket), keys)


def open_output(file: Place) -> Any:
    """A file to be written once, for Arrow; on S3 it is there when it is closed, whole, or never."""
    if isinstance(file, Path):
        import pyarrow as pa

        return pa.OSFile(str(file), "wb")
    import obstore

    with answered(file):
        store = s3_store(file.access, file.bucket)
        return _Upload(file, obstore.open_writer(store, file.key, max_concurrency=_PARTS))


def drop_output(output: Any) -> None:
    """Nothing more goes to a store, and no object comes of it; a file of a disk stays as it is."""
    if isinstance(output, _Upload):
        output.drop()


def open_input(file: Place) -> Any:
    """A file that Arrow reads in pieces."""
    import pyarrow as pa

    if isinstance(file, Path):
        return pa.OSFile(str(file), "rb")
    import obstore

    with answered(file):
        found = obstore.open_reader(s3_store(file.access, file.bucket), file.key)
    return pa.PythonFile(_Download(file, found), mode="r")


class _Upload:
    """A file of Python's as Arrow wants it. One that is let go is not completed: no object comes of it."""

    def __init__(self, file: S3Folder, writer: WritableFile) -> None:
        self._file = file
        self._writer: WritableFile | None = writer
        self._bytes = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        # Arrow writes the end of a file also where nothing is to come of it.
        if self._writer is None:
            return len(data)
        with self._sent():
            taken = self._writer.write(data)
        self._bytes += taken
        return taken

    def tell(self) -> int:
        """What the object holds once it is there: the store need not be asked."""
        return self._bytes

    def flush(self) -> None:
        """Parts go when they are full."""

    def close(self) -> None:
        self.closed = True
        writer, self._writer = self._writer, None
        if writer is not None:
            with self._sent():
                writer.close()

    def drop(self) -> None:
        self._writer = None

    @contextmanager
    def _sent(self) -> Iterator[None]:
        """Where the answer to its end was lost, the store no longer knows the upload when it is asked again:
        then the object may be there, and nobody has named it."""
        with answered(self._file):
            try:
                yield
            except FileNotFoundError as error:
                raise unavailable(self._file, error) from cause_of(error)


class _Download:
    """The same for reading."""

    def __init__(self, file: S3Folder, reader: ReadableFile) -> None:
        self._file = file
        self._reader = reader
        self.closed = False

    def read(self, size: int | None = None) -> bytes:
        with answered(self._file):
            return bytes(self._reader.read(size))

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()

    def close(self) -> None:
        self.closed = True


def _listed(folder: S3Folder) -> dict[str, list[str]]:
    import obstore

    with answered(folder):
        found = obstore.list_with_delimiter(
            s3_store(folder.access, folder.bucket), f"{folder.key}/" if folder.key else None
        )
    return {"files": [str(each["path"]) for each in found["objects"]], "folders": [*found["common_prefixes"]]}
