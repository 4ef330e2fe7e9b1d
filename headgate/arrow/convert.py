"""From what was read of JSON to the contract's types, as the JVM lane converts them.

Each conversion has three outcomes: a value, none where there was something (`unreadable`), and *doubtful*,
where Spark may read what is not of the plain shape that is surely read alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headgate.arrow.kinds import MOMENT
from headgate.contract.model import Column

__all__ = ["Converted", "convert", "days", "epochs", "matches", "moments"]

Mask = npt.NDArray[np.bool_]

# The years that every reader of a table knows, as `spark.decode` bounds them.
FIRST, LAST = -62_135_596_800_000_000, 253_402_300_799_999_999
_SCALES = {"epoch_seconds": 1_000_000, "epoch_millis": 1_000}
_DIGITS = 10**14  # a number of seconds is read as a decimal(20,6): more digits are none
_DATED = r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}"
# Days that are in every calendar's month of that number, in years of four digits. 29 February is doubtful.
_DAY = (
    r"[1-9][0-9]{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    r"|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
)
_TIME = r"[ T](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
_PLAIN_DATE = rf"\A{_DAY}\z"
_PLAIN_TIME = rf"\A{_DAY}{_TIME}\z"
_ZONED_TIME = rf"\A{_DAY}{_TIME}(?:Z|[+-](?:0[0-9]|1[0-7]):[0-5][0-9])\z"


@dataclass(frozen=True, slots=True)
class Converted:
    """`unreadable` is None where a conversion cannot fail."""

    value: pa.Array
    unreadable: Mask | None
    doubtful: Mask | None


def convert(read: pa.Array, column: Column) -> Converted:
    """`read` is of the type that `headgate.arrow.kinds.json_schema` says."""
    if column.type == "timestamp":
        return epochs(read, column) if column.format else moments(read)
    if column.type == "date":
        return days(read)
    if column.type in {"float", "double"}:
        return _floating(read)
    return Converted(read, None, None)


def _floating(read: pa.Array) -> Converted:
    """Jackson reads `-0` as a whole number, which has no sign; what is too large is Spark's to say."""
    numbers = read.fill_null(0).to_numpy(zero_copy_only=False)
    doubtful = (np.signbit(numbers) & (numbers == 0)) | ~np.isfinite(numbers)
    return Converted(read, np.zeros(len(read), bool), doubtful)


def epochs(read: pa.Array, column: Column) -> Converted:
    scale = _SCALES[str(column.format)]
    numbers = read.fill_null(0).to_numpy(zero_copy_only=False)
    fits = (np.abs(numbers) < _DIGITS) & (numbers >= FIRST // scale) & (numbers <= LAST // scale)
    present = _present(read)
    micros = np.where(fits, numbers, 0) * scale
    value = pa.array(micros, pa.int64(), mask=~(fits & present)).cast(MOMENT)
    return Converted(value, present & ~fits, None)


def moments(read: pa.Array) -> Converted:
    """Texts as times; one without a zone is in UTC."""
    plain = matches(read, _PLAIN_TIME)
    present = _present(read)
    if bool((plain == present).all()):
        return Converted(_moments(read), np.zeros(len(read), bool), None)
    zoned = matches(read, _ZONED_TIME)
    value = pc.if_else(pa.array(zoned), _only(read, zoned).cast(MOMENT), _moments(_only(read, plain)))
    micros = value.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    outside = (micros < FIRST) | (micros > LAST)
    doubtful = outside | (matches(read, _DATED) & ~plain & ~zoned)
    return Converted(value, present & ~plain & ~zoned, doubtful)


def _moments(read: pa.Array) -> pa.Array:
    return read.cast(pa.timestamp("us")).cast(MOMENT)


def days(read: pa.Array) -> Converted:
    plain = matches(read, _PLAIN_DATE)
    value = _only(read, plain).cast(pa.date32())
    return Converted(value, _present(read) & ~plain, matches(read, _DATED) & ~plain)


def _only(read: pa.Array, mask: Mask) -> pa.Array:
    return pc.if_else(pa.array(mask), read, pa.scalar(None, read.type))


def matches(read: pa.Array, pattern: str) -> Mask:
    found: Mask = pc.match_substring_regex(read, pattern).fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _present(read: pa.Array) -> Mask:
    found: Mask = read.is_valid().to_numpy(zero_copy_only=False)
    return found
