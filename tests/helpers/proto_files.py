"""Protobuf schemas from a few words of .proto, compiled as a contract's file is."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

from headgate.formats.proto_compiler import compile_proto

__all__ = ["compiled"]


@lru_cache(maxsize=64)
def compiled(fields: str, syntax: str = "proto3", imports: tuple[str, ...] = ()) -> str:
    """The frozen text of a schema with the message `shop.Order` of these fields."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "order.proto"
        head = f'syntax = "{syntax}"; package shop; ' + "".join(f'import "{each}"; ' for each in imports)
        file.write_text(f"{head}message Order {{ {fields} }}", encoding="utf-8")
        return compile_proto(file, Path(folder))
