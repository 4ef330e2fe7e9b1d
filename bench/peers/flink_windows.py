"""The windows job in PyFlink SQL: ten-second windows per device, 30 seconds of watermark, to Parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.peers.flink import arguments, environment, sink, source

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = ["run"]

_COLUMNS = (
    "`start` TIMESTAMP(3), device STRING, readings BIGINT, average DOUBLE, deviation DOUBLE, "
    "lowest DOUBLE, highest DOUBLE"
)
_QUERY = (
    "INSERT INTO windows SELECT window_start, device, COUNT(*), AVG(`value`), STDDEV_SAMP(`value`), "
    "MIN(`value`), MAX(`value`) "
    "FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND)) "
    "GROUP BY window_start, window_end, device"
)


def run(options: Namespace) -> None:
    tables = environment(options)
    tables.execute_sql(source(options, watermark=True))
    tables.execute_sql(sink(options, "windows", _COLUMNS))
    tables.execute_sql(_QUERY).wait()


if __name__ == "__main__":
    run(arguments())
