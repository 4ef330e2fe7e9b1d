"""From texts to the contract's types, as Spark casts them: a text of a plain shape is surely read alike and
becomes its value; a time or date that does not begin with one is surely none; every other one is doubtful."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headgate.arrow.convert import Converted, days, epochs, matches, moments
from headgate.arrow.kinds import EPOCHS, KINDS, Unsupported, check_zone, kind_of
from headgate.contract.model import Column

__all__ = ["check_text", "convert_text"]

# What has so few digits fits; with more of them Spark knows whether it does.
_WHOLE = r"\A-?(?:0|[1-9][0-9]{{0,{}}})\z"
_REAL = r"\A-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?\z"
_PLAIN: Mapping[str, str] = {
    "boolean": r"\A(?:true|false)\z",
    "integer": _WHOLE.format(8),
    "long": _WHOLE.format(17),
    "float": _REAL,
    "double": _REAL,
}


def check_text(column: Column) -> None:
    """Raises Unsupported for a column that is not read from a text here."""
    kind = kind_of(column)
    if kind == "binary":
        raise Unsupported(f"column {column.name} is of type {column.type}")
    if kind not in {"date", "timestamp"}:
        return
    if column.format and not (kind == "timestamp" and column.format in EPOCHS):
        raise Unsupported(f"column {column.name} has a format of its own")
    if kind == "timestamp" and not column.format:
        check_zone(column)


def convert_text(texts: pa.Array, column: Column) -> Converted:
    """`check_text` has passed the column."""
    kind = kind_of(column)
    if kind == "string":
        return Converted(texts, None, None)
    if kind == "date":
        return days(texts)
    if kind == "timestamp" and not column.format:
        return moments(texts)
    if kind == "timestamp":
        numbers = _plain(texts, "long")
        epoch = epochs(numbers.value, column)
        return Converted(epoch.value, epoch.unreadable, numbers.doubtful)
    return _plain(texts, kind)


def _plain(texts: pa.Array, kind: str) -> Converted:
    sure = matches(texts, _PLAIN[kind])
    present = texts.is_valid().to_numpy(zero_copy_only=False)
    if bool((sure == present).all()):
        kept, doubtful = texts, None
    else:
        kept, doubtful = pc.if_else(pa.array(sure), texts, pa.scalar(None, texts.type)), present & ~sure
    return Converted(kept.cast(KINDS[kind]), np.zeros(len(texts), bool), doubtful)
