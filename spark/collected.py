"""A batch's rows in the driver's memory, by one job where they are few and short: a window's usual batch.

To count them first would be a job more in every batch, with an exchange, for the sake of a batch that may
come once.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame

__all__ = ["few_rows", "text_bytes"]

_ROWS = 4096  # of each partition, at most
_PLACE = (1 << 33) - 1  # the lower bits of `monotonically_increasing_id` count within the partition


def few_rows(frame: DataFrame, *, rows: int, size: int) -> pa.Table | None:
    """All rows of a frame, or None where they may be more than `rows`, or their texts longer than `size`
    bytes together. Every partition is computed to its end either way."""
    partitions = int(frame.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1)
    most = max(1, min(_ROWS, rows // partitions))
    number, fitting = _unused(frame, "__number"), _unused(frame, "__fits")
    fits = (F.col(number) < most) & (text_bytes(frame) <= size // (most * partitions))
    # One row more than fits says that there are more; what does not fit comes without its content.
    numbered = frame.withColumn(number, F.monotonically_increasing_id().bitwiseAND(F.lit(_PLACE)))
    cells = [F.when(fits, F.col(_quoted(name))).alias(name) for name in frame.columns]
    found = numbered.where(F.col(number) <= most).select(*cells, fits.alias(fitting)).toArrow()
    if False in found[fitting].unique().to_pylist():
        return None
    return found.drop_columns([fitting])


def text_bytes(frame: DataFrame) -> Column:
    """The bytes of a row's texts, which are what makes a row large."""
    texts = [name for name, kind in frame.dtypes if kind in {"string", "binary"}]
    lengths = [F.coalesce(F.octet_length(_quoted(name)), F.lit(0)) for name in texts]
    return reduce(lambda left, right: left + right, lengths, F.lit(0)).cast("bigint")


def _unused(frame: DataFrame, name: str) -> str:
    """A column's name that no output has; Spark does not tell capitals apart."""
    taken = {each.lower() for each in frame.columns}
    while name in taken:
        name += "_"
    return name


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"
