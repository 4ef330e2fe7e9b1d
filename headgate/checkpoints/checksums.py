"""Hadoop's checksums: beside a file `12.delta` its local file system writes `.12.delta.crc`, which Spark's
reads are compared with. A file of a file system that writes none is not judged by one.

    "crc\\0", bytes per sum (4, big-endian), then one CRC32 (4, big-endian) for each so many bytes
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from headgate.errors import RefusedError

__all__ = ["verify_checksum"]

_MAGIC = b"crc\0"
# Above it only the length is compared: a start must not wait for gigabytes to be read twice.
_SUMMED_BYTES = 64 * 1024 * 1024


def verify_checksum(path: Path) -> None:
    """Raises RefusedError when a file is not what its checksum was made of."""
    step, sums = _sums(path.with_name(f".{path.name}.crc"))
    if not step:
        return
    size = path.stat().st_size
    if -(-size // step) != len(sums):
        raise RefusedError(
            f"{path} has {size} bytes, its checksum is of another length: it was cut, or changed"
        )
    if size > _SUMMED_BYTES:
        return
    with path.open("rb") as stream:
        for number, expected in enumerate(sums):
            if zlib.crc32(stream.read(step)) != expected:
                raise RefusedError(f"{path} does not match its checksum from byte {number * step} on")


def _sums(path: Path) -> tuple[int, tuple[int, ...]]:
    """Bytes per sum and the sums; (0, ()) for none, or for what Hadoop does not take for checksums either."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return 0, ()
    if len(data) < 8 or data[:4] != _MAGIC or len(data) % 4:
        return 0, ()
    (step,) = struct.unpack(">i", data[4:8])
    return (step, struct.unpack(f">{len(data) // 4 - 2}I", data[8:])) if step > 0 else (0, ())
