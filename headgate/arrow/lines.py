"""Lines of text, and what a source's pattern takes out of them, as `spark.decode` does.

Left to Spark is what is no UTF-8, which it mends; and where there is a pattern a value that has more than one
line in it, or, if the pattern asks for a word's edge, one that is not ASCII.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headgate.arrow.convert import matches
from headgate.arrow.extraction import Extraction, extraction
from headgate.contract.model import Source

__all__ = ["LineReader", "Lines"]

Mask = npt.NDArray[np.bool_]

# What ends a line for Java or RE2, or is a space for one of them alone.
_ENDS = r"[\n\x{0b}\f\r\x{85}\x{2028}\x{2029}]"


@dataclass(frozen=True, slots=True)
class Lines:
    """`rows`: which values were read; of these the whole `lines`, and the text of each column."""

    rows: npt.NDArray[np.int64]
    lines: pa.Array
    fields: Mapping[str, pa.Array]


class LineReader:
    def __init__(self, source: Source) -> None:
        """Raises Unsupported for a pattern that is not surely read alike."""
        self._columns = [column.name for column in source.columns]
        self._pattern: Extraction | None = extraction(source.pattern) if source.pattern else None

    def read(self, values: pa.Array) -> Lines:
        """`values` are of type binary; nulls are left."""
        lines, sure = _decoded(values)
        if self._pattern is not None:
            sure &= ~matches(lines, _ENDS)
            if self._pattern.ascii:
                sure &= pc.string_is_ascii(lines).fill_null(False).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(sure)
        if len(rows) < len(values):
            lines = lines.take(pa.array(rows))
        return Lines(rows, lines, self._fields(lines))

    def _fields(self, lines: pa.Array) -> dict[str, pa.Array]:
        if self._pattern is None:
            return dict.fromkeys(self._columns, lines)
        groups = self._pattern.groups
        found = pc.extract_regex(lines, self._pattern.re2)
        # A group that took no part has an empty text: neither is a value.
        parts = {
            name: _without_empty(pc.struct_field(found, groups[name]))
            for name in self._columns
            if name in groups
        }
        return {name: parts.get(name, lines) for name in self._columns}


def _decoded(values: pa.Array) -> tuple[pa.Array, Mask]:
    """The values as text, and which of them are."""
    present: Mask = values.is_valid().to_numpy(zero_copy_only=False)
    try:
        return values.cast(pa.string()), present.copy()
    except pa.ArrowInvalid:
        texts = [_text(value) for value in values.to_pylist()]
        return pa.array(texts, pa.string()), np.array([text is not None for text in texts], bool)


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _without_empty(texts: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
