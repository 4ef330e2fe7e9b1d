"""The state store's tables, and how an older store becomes this one.

A fresh store is made from the tables below; an older one takes the steps of MIGRATIONS that it lacks.
Both must end in the same schema, which a test compares. Columns are portable: text, integers and
doubles, JSON as text, so that SQLite and Postgres behave alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from headgate.errors import RefusedError

__all__ = [
    "MIGRATIONS",
    "SCHEMA_VERSION",
    "events",
    "incarnations",
    "lease",
    "metadata",
    "migrate",
    "operations",
    "orders",
    "schema_version",
    "streams",
    "topics",
    "verdicts",
]

metadata = sa.MetaData()

schema_version = sa.Table("schema_version", metadata, sa.Column("version", sa.Integer, primary_key=True))

streams = sa.Table(
    "streams",
    metadata,
    sa.Column("stream", sa.String(64), primary_key=True),
    sa.Column("pipeline", sa.String(64), nullable=False),
    sa.Column("contract_hash", sa.String(64), nullable=False),
    sa.Column("desired", sa.String(16), nullable=False),
    sa.Column("phase", sa.String(16), nullable=False),
    sa.Column("phase_since", sa.Double, nullable=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("attempted", sa.BigInteger, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("owner", sa.Text),
    sa.Column("ordered_by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("failure_class", sa.String(16)),
    sa.Column("failures", sa.Text, nullable=False),
    sa.Column("restarts", sa.BigInteger, nullable=False),
    sa.Column("next_attempt_at", sa.Double),
    sa.Column("stop", sa.Text),
    sa.Column("stopped_by", sa.Text),
    sa.Column("stopped_how", sa.String(32)),
    sa.Column("conditions", sa.Text, nullable=False),
    sa.Column("drain", sa.Text),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("origin", sa.Text),
    sa.Column("upgrade", sa.Text),
    sa.Column("stable_hash", sa.String(64), nullable=False, server_default=""),
)

incarnations = sa.Table(
    "incarnations",
    metadata,
    sa.Column("stream", sa.String(64), primary_key=True),
    sa.Column("epoch", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("contract_hash", sa.String(64), nullable=False),
    sa.Column("nonce", sa.String(64), nullable=False, unique=True),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("runner_pid", sa.BigInteger),
    sa.Column("runner_start", sa.Double),
    sa.Column("driver_pid", sa.BigInteger),
    sa.Column("driver_start", sa.Double),
    sa.Column("driver_ticks", sa.BigInteger),
    sa.Column("boot_id", sa.String(64)),
    sa.Column("ended_at", sa.Double),
    sa.Column("how", sa.String(32)),
    sa.Column("returncode", sa.Integer),
    sa.Column("signal", sa.Integer),
    sa.Column("failure_class", sa.String(16)),
    sa.Column("text", sa.Text),
    sa.Column("host", sa.String(256), nullable=False, server_default=""),
)

orders = sa.Table(
    "orders",
    metadata,
    sa.Column("stream", sa.String(64), primary_key=True),
    sa.Column("key", sa.String(256), primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("contract_hash", sa.String(64), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)

events = sa.Table(
    "events",
    metadata,
    # SQLite counts up only in a column of exactly this type.
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("stream", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("from_phase", sa.String(16), nullable=False),
    sa.Column("to_phase", sa.String(16), nullable=False),
    sa.Column("cause", sa.String(64), nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("contract_hash", sa.String(64), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Index("events_by_stream", "stream", "id"),
)

verdicts = sa.Table(
    "verdicts",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("pipeline", sa.String(64), nullable=False),
    sa.Column("output", sa.String(64), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("severity", sa.String(16), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Index("verdicts_by_output", "pipeline", "output", "at"),
)

topics = sa.Table(
    "topics",
    metadata,
    sa.Column("topic", sa.String(256), primary_key=True),
    sa.Column("topic_id", sa.String(64), nullable=False),
    sa.Column("pipeline", sa.String(64), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)

operations = sa.Table(
    "operations",
    metadata,
    sa.Column("stream", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("requested_at", sa.Double, nullable=False),
    sa.Column("changed_at", sa.Double, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)

lease = sa.Table(
    "supervisor_lease",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("beat", sa.BigInteger, nullable=False),
    sa.Column("renewed", sa.Double, nullable=False),
)

Migration = Callable[[sa.Connection], None]


def _add_host(connection: sa.Connection) -> None:
    connection.execute(sa.text("ALTER TABLE incarnations ADD COLUMN host VARCHAR(256) DEFAULT '' NOT NULL"))


def _add_drain(connection: sa.Connection) -> None:
    connection.execute(sa.text("ALTER TABLE streams ADD COLUMN drain TEXT"))


def _add_lineages(connection: sa.Connection) -> None:
    """Where an order begins, what an upgrade goes back to, and operations."""
    for column in ("origin TEXT", "upgrade TEXT", "stable_hash VARCHAR(64) DEFAULT '' NOT NULL"):
        connection.execute(sa.text(f"ALTER TABLE streams ADD COLUMN {column}"))
    operations.create(connection)


# Version 1 is the first; the step that leads to version n is MIGRATIONS[n].
MIGRATIONS: Mapping[int, Migration] = {2: _add_host, 3: _add_drain, 4: _add_lineages}
SCHEMA_VERSION = 4


def migrate(
    engine: sa.Engine, migrations: Mapping[int, Migration] = MIGRATIONS, version: int = SCHEMA_VERSION
) -> None:
    """Bring the store to `version`. Raises RefusedError if the store is newer than this code."""
    for _ in range(5):
        try:
            with engine.begin() as connection:
                _migrate(connection, migrations, version)
            return
        except (IntegrityError, ProgrammingError, OperationalError):
            # Another process opens the same fresh store at this moment; Postgres lets only one create
            # each table. What is really wrong shows again in the last round.
            if sa.inspect(engine).has_table(schema_version.name):
                continue
            raise
    with engine.begin() as connection:
        _migrate(connection, migrations, version)


def _migrate(connection: sa.Connection, migrations: Mapping[int, Migration], version: int) -> None:
    if not sa.inspect(connection).has_table(schema_version.name):
        metadata.create_all(connection)
        connection.execute(schema_version.insert().values(version=version))
        return
    found = connection.execute(sa.select(sa.func.max(schema_version.c.version))).scalar() or 0
    if found > version:
        raise RefusedError(
            f"the state store has schema {found}, this headgate knows {version}",
            expected="a headgate at least as new as the one that wrote the store",
            help="upgrade headgate, or set HEADGATE_STORE_URL to another store",
        )
    for step in range(found + 1, version + 1):
        migrations[step](connection)
        connection.execute(schema_version.insert().values(version=step))
