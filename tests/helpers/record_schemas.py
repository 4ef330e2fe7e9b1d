"""Sources with a schema, and records written with one by the formats' own libraries."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fastavro
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from headgate.contract.model import Source
from headgate.formats.registry import Registered

__all__ = ["Versions", "avro_bytes", "avro_schema", "avro_source", "proto_text", "protobuf_source"]


def avro_schema(*fields: Any, name: str = "Reading", **more: Any) -> str:
    """Fields as dicts, or as (name, type) pairs."""
    listed = [each if isinstance(each, dict) else {"name": each[0], "type": each[1]} for each in fields]
    return json.dumps({"type": "record", "name": name, "fields": listed, **more})


def avro_bytes(schema: str, record: Mapping[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(schema)), record, strict=True)
    return out.getvalue()


def avro_source(schema: str, columns: Sequence[Mapping[str, Any]], **more: Any) -> Source:
    frozen = {"file": "a.avsc", "text": schema, **more.pop("frozen", {})}
    if frozen.get("registry"):
        del frozen["file"]
    return Source.model_validate(
        {"topic": "t", "format": "avro", "schema": frozen, "columns": list(columns), **more}
    )


def proto_text(*files: FileDescriptorProto) -> str:
    return base64.b64encode(FileDescriptorSet(file=files).SerializeToString()).decode()


def protobuf_source(text: str, message: str, columns: Sequence[Mapping[str, Any]], **more: Any) -> Source:
    frozen = {"file": "a.proto", "text": text, "message": message, **more.pop("frozen", {})}
    if frozen.get("registry"):
        del frozen["file"]
    return Source.model_validate(
        {"topic": "t", "format": "protobuf", "schema": frozen, "columns": list(columns), **more}
    )


@dataclass
class Versions:
    """A subject's schemas by id; each is a version of its own."""

    texts: dict[int, str]

    def versions(
        self, subject: str, format_: str, known: Collection[int], *, afresh: bool
    ) -> list[Registered]:
        return [Registered(n, n, text) for n, text in sorted(self.texts.items()) if n not in known]
