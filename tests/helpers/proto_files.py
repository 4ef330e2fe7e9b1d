"""Protobuf schemas from a few words of .proto, compiled as a contract's file is."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

from headgate.formats.proto_compiler import compile_proto

__all__ = ["compiled"]


@lru_cache(maxsize=64)
def compiled(fields: str, syntax: str = "proto3") -> str:
    """The frozen text of a schema with the message `shop.Order` of these fields."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "order.proto"
        file.write_text(f'syntax = "{syntax}"; package shop; message Order {{ {fields} }}', encoding="utf-8")
        return compile_proto(file, Path(folder))
