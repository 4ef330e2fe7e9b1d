"""Whether a store keeps two writers apart: it must refuse to put an object where there is one.

A commit to a Delta table is the next file of its log, put with `If-None-Match: *`. A store that does not know
the header takes both of two such files, and the second hides the rows of the first: no error tells it. So it
is tried before anything is written, one after the other and several at once; and with it all else that tables
need of a store, since a batch that may write and not remove would never end.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from headgate.errors import HeadgateError, RefusedError
from headgate.tables.answers import cause_of, first_line, is_denial, unavailable
from headgate.tables.place import Place, S3Folder

if TYPE_CHECKING:
    from obstore.store import RetryConfig, S3Store

__all__ = ["StoreRefused", "require_conditional_put"]

_FOLDER = "_headgate"  # beside the pipelines, whose names begin with a letter
_AT_ONCE, _ROUNDS = 4, 3
_CONTENT = b"headgate"
_NOT_KNOWN = "501 Not Implemented"
# A store that is away is told in seconds: who asks here asks again. A put whose answer was lost is not tried
# again: it would be refused by its own first one.
_PATIENCE: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(seconds=10)}
_SECONDS = "10s"


class StoreRefused(RefusedError):
    """A store on which tables could lose rows, or that does not let us write."""


def require_conditional_put(tables: Place) -> None:
    """Nothing is left behind. Raises StoreRefused, TablesUnavailable, and SettingsError where a credential
    is not there."""
    if not isinstance(tables, S3Folder):
        return
    folder = tables / _FOLDER
    keys = [(folder / f"probe-{uuid.uuid4().hex}").key for _ in range(1 + _ROUNDS)]
    with _told(tables):
        store = _impatient(tables)
        try:
            _one_after_the_other(store, tables, keys[0])
            for key in keys[1:]:
                _at_once(store, tables, key)
            _read(store, tables, folder.key, keys[0])
        except BaseException:
            _forget(store, keys)
            raise
        _remove(store, keys)


def _impatient(tables: S3Folder) -> S3Store:
    from obstore.store import S3Store

    options = tables.access.for_objects(timeout=_SECONDS, connect_timeout=_SECONDS)
    return S3Store(tables.bucket, **options, retry_config=_PATIENCE)


def _one_after_the_other(store: S3Store, tables: S3Folder, key: str) -> None:
    if not _put(store, key):
        raise _refused(tables, "it refuses to put an object where there is none")
    if _put(store, key):
        raise _refused(tables, "of two puts of one key with If-None-Match: * it takes both")


def _at_once(store: S3Store, tables: S3Folder, key: str) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        taken = sum(pool.map(lambda _: _put(store, key), range(_AT_ONCE)))
    if taken > 1:
        raise _refused(
            tables, f"of {_AT_ONCE} puts of one key at once with If-None-Match: * it takes {taken}: it looks "
            "first and writes then"
        )  # fmt: skip


def _put(store: S3Store, key: str) -> bool:
    """Whether the store took it; a refusal is 412, or 409 while another one is under way."""
    import obstore
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    try:
        obstore.put(store, key, _CONTENT, mode="create", use_multipart=False)
    except (AlreadyExistsError, PreconditionError):
        return False
    return True


def _read(store: S3Store, tables: S3Folder, folder: str, key: str) -> None:
    import obstore

    listed = [str(each["path"]) for each in obstore.list_with_delimiter(store, f"{folder}/")["objects"]]
    if key not in listed:
        raise _stale(tables, "a list of its folder does not name it")
    if bytes(obstore.get(store, key).bytes()) != _CONTENT:
        raise _stale(tables, "something else is read")


def _remove(store: S3Store, keys: list[str]) -> None:
    import obstore

    with contextlib.suppress(FileNotFoundError):
        obstore.delete(store, keys)


def _forget(store: S3Store, keys: list[str]) -> None:
    """The same after an error, which says what is wrong; a few bytes below `_headgate` are nobody's table."""
    from obstore.exceptions import BaseError

    with contextlib.suppress(BaseError, OSError):
        _remove(store, keys)


@contextmanager
def _told(tables: S3Folder) -> Iterator[None]:
    from obstore.exceptions import BaseError, NotSupportedError

    try:
        yield
    except HeadgateError:
        raise
    except (BaseError, OSError) as error:
        if isinstance(error, NotSupportedError) or _NOT_KNOWN in str(error):
            raise _refused(tables, first_line(error)) from cause_of(error)
        if not (isinstance(error, FileNotFoundError) or is_denial(error)):
            raise unavailable(tables, error) from cause_of(error)
        raise StoreRefused(
            f"{tables} cannot be written to: {first_line(error)}",
            expected=f"a bucket {tables.bucket} that is there, and credentials that may put, read, list and "
            "delete its objects",
            help="correct roots.tables or [s3]; then headgate doctor",
        ) from cause_of(error)


def _refused(tables: S3Folder, why: str) -> StoreRefused:
    return StoreRefused(
        f"the store of {tables} has no conditional put: {why}",
        expected="a second put with If-None-Match: * to be refused with 412, as S3 does it: else two writers "
        "of a table would overwrite each other's commits, and rows would be lost without an error",
        help="another store, or roots.tables on a disk",
    )


def _stale(tables: S3Folder, why: str) -> StoreRefused:
    return StoreRefused(
        f"the store of {tables} does not show what was put into it: {why}",
        expected="what was put to be there at once, in lists too, as S3 does it: else a reader of a log "
        "would miss its newest commits",
        help="another store, or roots.tables on a disk",
    )
