"""Connections to the state store: SQLite (write-ahead log, real transactions) or what the URL names."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from headgate.address import masked
from headgate.errors import SettingsError, StoreUnavailable

__all__ = ["make_engine", "reading", "writing"]

_BUSY_SECONDS = 10
# A database that neither answers nor refuses must not hold up the loop: it is away.
_PSYCOPG = {
    "connect_timeout": 5,
    "tcp_user_timeout": _BUSY_SECONDS * 1000,
    "options": f"-c statement_timeout={_BUSY_SECONDS * 1000} -c lock_timeout={_BUSY_SECONDS * 1000}",
}
_READ_ONLY = "headgate_reads"


def make_engine(url: str) -> sa.Engine:
    """An engine for the URL of the settings; the folder of an SQLite file is made. Raises SettingsError."""
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return _sqlite(parsed)
        # A connection that a restart of the database has cut is found out before it is used.
        limits = _PSYCOPG if parsed.get_driver_name() == "psycopg" else {}
        return sa.create_engine(
            parsed, pool_pre_ping=True, pool_size=4, pool_timeout=_BUSY_SECONDS, connect_args=limits
        )
    except (sa.exc.ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise SettingsError(
            f"store.url cannot be used: {masked(str(error))}",
            expected="sqlite:///<path> or postgresql+psycopg://<user>@<host>/<database>",
            help="set HEADGATE_STORE_URL",
        ) from error


def _sqlite(url: sa.URL) -> sa.Engine:
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": _BUSY_SECONDS})
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # Python's driver would begin transactions late and behind our back.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
    _use_write_ahead_log(cursor)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _use_write_ahead_log(cursor: Any) -> None:
    """A fresh file is switched by one process; SQLite refuses the others without waiting."""
    end = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer takes the lock at once: one that begins as a reader can be refused half-way.
    reads = connection.get_execution_options().get(_READ_ONLY)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One consistent look at the store. Raises StoreUnavailable."""
    with _translated(engine), engine.connect() as plain:
        connection = plain.execution_options(**{_READ_ONLY: True})
        with connection.begin():
            yield connection


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction: all of it or nothing. Raises StoreUnavailable."""
    with _translated(engine), engine.begin() as connection:
        yield connection


@contextmanager
def _translated(engine: sa.Engine) -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise _unavailable(engine, error) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _unavailable(engine, error) from error
        raise


def _unavailable(engine: sa.Engine, error: Exception) -> StoreUnavailable:
    cause = getattr(error, "orig", None) or error
    return StoreUnavailable(
        f"the state store {engine.url.render_as_string(hide_password=True)} does not answer: {cause}".strip(),
        help="check that it is there and not full; running streams go on meanwhile",
    )
