"""The records job in PyFlink SQL: Kafka → JSON → columns → Parquet, committed with each checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.peers.flink import arguments, environment, sink, source

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = ["run"]

_COLUMNS = "seq BIGINT, device STRING, ts TIMESTAMP(3), `value` DOUBLE, status INT"
_QUERY = "INSERT INTO kept SELECT seq, device, ts, `value`, status FROM readings"


def run(options: Namespace) -> None:
    tables = environment(options)
    tables.execute_sql(source(options, watermark=False))
    tables.execute_sql(sink(options, "kept", _COLUMNS))
    tables.execute_sql(_QUERY).wait()


if __name__ == "__main__":
    run(arguments())
