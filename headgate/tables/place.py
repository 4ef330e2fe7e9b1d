"""Where tables are: a folder of this disk, or a prefix in a bucket of S3.

Both are written `place / name`, and as text they are what people read. What only a disk has is missing from
`S3Folder`, so that nobody takes one for the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from headgate.errors import RefusedError
from headgate.tables.access import S3Access

__all__ = ["Place", "S3Folder", "checked_folder", "checked_tables", "on_disk", "s3_folder"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
# Letters that mean the same in a URL, in a key and in a Delta log, which escapes the others.
_ADDRESS = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<key>(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)"
)
_FORM = "s3://BUCKET or s3://BUCKET/PREFIX, of letters, digits and . _ -"


@dataclass(frozen=True, slots=True)
class S3Folder:
    """Keys below a prefix; it is there without being made."""

    access: S3Access
    bucket: str
    key: str = ""

    def __truediv__(self, name: str) -> S3Folder:
        return S3Folder(self.access, self.bucket, f"{self.key}/{name}" if self.key else name)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}".rstrip("/")

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]


Place = Path | S3Folder


def checked_tables(value: str) -> str:
    """A folder, or an address in S3. Raises ValueError: `s3:/bucket` must not become a folder `s3:`."""
    if not _SCHEME.match(value):
        return value
    if not value.startswith("s3://"):
        raise ValueError(f"is neither a folder nor an address in S3: expected a path, or {_FORM}")
    if not _ADDRESS.fullmatch(value):
        raise ValueError(f"is not an address in S3: expected {_FORM}; credentials are settings of [s3]")
    return value


def checked_folder(value: str) -> str:
    """Raises ValueError for an address: only tables can be elsewhere than on a disk."""
    if _SCHEME.match(value):
        raise ValueError("is an address: expected a folder of this machine; only roots.tables may be on S3")
    return value


def s3_folder(address: str, access: S3Access) -> S3Folder | None:
    """None for what is a folder of this disk."""
    found = _ADDRESS.fullmatch(address)
    return S3Folder(access, found["bucket"], found["key"].lstrip("/")) if found else None


def on_disk(place: Place, what: str) -> Path:
    """The folder of what works with tables on this disk alone. Raises RefusedError for any others."""
    if isinstance(place, Path):
        return place
    raise RefusedError(
        f"{what} cannot be had of tables on S3, and these are at {place}",
        expected="roots.tables on a disk",
        help="docs/guides/s3.md says what works on S3, and what to do instead",
    )
