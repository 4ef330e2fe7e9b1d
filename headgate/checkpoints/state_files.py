"""The state that the next batch of a query will load, looked at without Spark and without changing it.

    state/<operator>/_metadata/metadata                            its stores and their partitions
    state/<operator>/<partition>/[<store>/]N.snapshot, N.delta     the default provider
    state/<operator>/<partition>/[<store>/]N.zip, N.changelog      RocksDB, with the tables in SSTs/

After batch B the next one loads version B + 1 of every store: the newest full file (snapshot, zip) at or
below it, and each step (delta, changelog) that follows; version 0 is empty. Only those files are read. A
damaged full file is passed over where the steps since an older one are there: Spark does so by itself.
What is wrong inside a file that has its length and no checksum, only Spark can see, when it loads it.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headgate.checkpoints.checksums import verify_checksum
from headgate.errors import RefusedError

__all__ = ["CODEC_CONF", "StateDamagedError", "verify_state"]

CODEC_CONF = "spark.sql.streaming.stateStore.compression.codec"
_FULL, _STEP = ("snapshot", "zip"), ("delta", "changelog")
# A store whose files carry ids (`12_<id>.zip`) is of a format that no contract can ask for.
_WITH_ID = re.compile(r"\d+_")
_BLOCK, _BLOCK_HEAD = b"LZ4Block", 21


class StateDamagedError(RefusedError):
    """A file of the state is missing or is not what was written."""


def verify_state(query: Path, batch_id: int, codec: str = "lz4") -> None:
    """Whether the version that follows a committed batch can be loaded. Raises StateDamagedError."""
    for operator in _operators(query / "state"):
        for store in _stores(operator):
            _verify_store(store, batch_id + 1, codec)


def _operators(state: Path) -> list[Path]:
    if not state.is_dir():
        return []
    return sorted(path for path in state.iterdir() if path.name.isdigit())


def _stores(operator: Path) -> Iterator[Path]:
    """The folder of every store of every partition; the default store is in its partition's own."""
    path = _metadata(operator / "_metadata")
    try:
        _verify_file(path)
        told: Any = json.loads(path.read_text(encoding="utf-8").partition("\n")[2])
        stores = [(str(each["storeName"]), int(each["numPartitions"])) for each in told["stateStoreInfo"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateDamagedError(f"{path} cannot be read: {error}") from error
    for name, partitions in stores:
        for number in range(partitions):
            partition = operator / str(number)
            yield partition if name == "default" else partition / name


def _metadata(folder: Path) -> Path:
    """The second format keeps one file for each batch that changed something."""
    second = folder / "v2"
    numbers = [int(path.name) for path in second.iterdir() if path.name.isdigit()] if second.is_dir() else []
    return second / str(max(numbers)) if numbers else folder / "metadata"


def _verify_store(store: Path, version: int, codec: str) -> None:
    try:
        names = {path.name for path in store.iterdir()}
    except OSError as error:
        raise StateDamagedError(f"{store} cannot be read: {error.strerror}") from error
    if any(_WITH_ID.match(name) for name in names):
        return
    if (schema := store / "_metadata" / "schema").exists():
        _verify_file(schema)  # Spark writes it anew where there is none
    broken: StateDamagedError | None = None
    for number in range(version, 0, -1):
        full, step = (_named(names, number, kinds) for kinds in (_FULL, _STEP))
        if full is None and step is None:
            raise broken or StateDamagedError(
                f"{store} lacks version {number}, and the next batch loads version {version} with it"
            )
        if full is not None:
            damage = _damage(store / full, codec)
            if damage is None:
                return
            broken = broken or damage
            # Spark takes an older full file and the steps since, where they are all there.
            if step is None:
                raise broken
        if step is not None and (damage := _damage(store / step, codec)) is not None:
            raise broken or damage


def _named(names: set[str], number: int, kinds: tuple[str, ...]) -> str | None:
    return next((f"{number}.{kind}" for kind in kinds if f"{number}.{kind}" in names), None)


def _damage(path: Path, codec: str) -> StateDamagedError | None:
    try:
        _verify_file(path)
        if path.suffix == ".zip":
            _verify_zip(path)
        elif codec == "lz4":
            _verify_blocks(path)
    except StateDamagedError as error:
        return error
    return None


def _verify_file(path: Path) -> None:
    try:
        if path.stat().st_size == 0:
            raise StateDamagedError(f"{path} is empty")
        verify_checksum(path)
    except StateDamagedError:
        raise
    except RefusedError as error:
        raise StateDamagedError(error.message) from error
    except OSError as error:
        raise StateDamagedError(f"{path} cannot be read: {error.strerror}") from error


def _verify_blocks(path: Path) -> None:
    """Blocks of a head and as many bytes as it says, of which the last one is empty."""
    size, position, head = path.stat().st_size, 0, b""
    with path.open("rb") as stream:
        while position < size:
            stream.seek(position)
            head = stream.read(_BLOCK_HEAD)
            if len(head) < _BLOCK_HEAD or not head.startswith(_BLOCK):
                raise StateDamagedError(f"{path} is cut or overwritten at byte {position} of {size}")
            position += _BLOCK_HEAD + int.from_bytes(head[9:13], "little")
    if position > size or any(head[9:]):
        raise StateDamagedError(f"{path} is cut: it ends at byte {size}, before its last block")


def _verify_zip(path: Path) -> None:
    """Every member by its checksum, and the tables that the member `metadata` names by their length."""
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
            told: Any = json.loads(archive.read("metadata").partition(b"\n")[2])
        tables = [(str(each["dfsSstFileName"]), int(each["sizeBytes"])) for each in told["sstFiles"]]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise StateDamagedError(f"{path} is not a whole archive: {error}") from error
    if bad is not None:
        raise StateDamagedError(f"{path} is damaged: its member {bad} does not match its checksum")
    for name, size in tables:
        table = path.parent / "SSTs" / name
        if not table.is_file() or table.stat().st_size != size:
            raise StateDamagedError(f"{table} is missing or cut: {path.name} needs it with {size} bytes")
