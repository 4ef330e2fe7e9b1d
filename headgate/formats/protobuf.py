"""Protobuf: descriptors from a .proto or a descriptor set, and the classes that read their messages.

A schema is frozen as the base64 of its FileDescriptorSet with all it imports, the file itself last, so that
no process but the one that reads the contract needs the compiler.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from headgate.formats.shapes import SchemaProblem

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = [
    "descriptor_set_text",
    "message_at",
    "message_class",
    "message_names",
    "message_path",
    "message_reader",
    "same_files",
]


def descriptor_set_text(data: bytes) -> str:
    """A descriptor set, as `protoc --descriptor_set_out --include_imports` writes it, as frozen text."""
    text = base64.b64encode(data).decode()
    message_names(text)
    return text


def message_names(text: str) -> list[str]:
    """The full names of the messages that the schema's own file has. Raises SchemaProblem."""
    own = _pool(text)[1]
    found: list[str] = []

    def collect(messages: Any) -> None:
        for message in messages:
            if not message.GetOptions().map_entry:
                found.append(message.full_name)
                collect(message.nested_types)

    collect(own.message_types_by_name.values())
    return found


@lru_cache(maxsize=1024)
def message_at(text: str, path: tuple[int, ...]) -> str | None:
    """The full name of the message at a path of indexes, None where there is none."""
    from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

    file = FileDescriptorProto()
    _pool(text)[1].CopyToProto(file)
    messages: list[DescriptorProto] = list(file.message_type)
    names = [file.package] if file.package else []
    for index in path:
        if not 0 <= index < len(messages):
            return None
        names.append(messages[index].name)
        messages = list(messages[index].nested_type)
    return ".".join(names)


def message_path(text: str, name: str) -> tuple[int, ...]:
    """The way back of `message_at`. Raises SchemaProblem."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    file = FileDescriptorProto()
    _pool(text)[1].CopyToProto(file)
    messages: Any = file.message_type
    path: list[int] = []
    for part in name.removeprefix(f"{file.package}.").split("."):
        index = next((i for i, each in enumerate(messages) if each.name == part), None)
        if index is None:
            raise SchemaProblem(f"there is no message `{name}` in the schema's own file")
        path.append(index)
        messages = messages[index].nested_type
    return tuple(path)


def message_class(text: str, name: str) -> type[Message]:
    """The class of a message by its full name. Raises SchemaProblem."""
    from google.protobuf.message_factory import GetMessageClass

    pool, _ = _pool(text)
    try:
        found: type[Message] = GetMessageClass(pool.FindMessageTypeByName(name))
    except KeyError as error:
        raise SchemaProblem(f"there is no message `{name}`") from error
    return found


def message_reader(message: type[Message]) -> Callable[[bytes], Any]:
    """What reads one message; raises ValueError for what is none."""
    from google.protobuf.message import DecodeError

    def read(value: bytes) -> Message:
        record = message()
        try:
            record.ParseFromString(value)
        except DecodeError as error:
            raise ValueError(str(error)) from error
        if not record.IsInitialized():
            raise ValueError("a required field is missing")
        return record

    return read


def same_files(one: str, other: str) -> bool:
    """Whether two frozen schemas say the same, whichever release of the compiler has frozen each."""
    return _own_files(one) == _own_files(other)


def _own_files(text: str) -> dict[str, tuple[Any, ...]]:
    """What each file says, but for Google's own, which come with the compiler."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    files = FileDescriptorSet.FromString(base64.b64decode(text)).file
    return {
        file.name: (file.package, list(file.message_type), list(file.enum_type))
        for file in files
        if not file.name.startswith("google/protobuf/")
    }


@lru_cache(maxsize=64)
def _pool(text: str) -> tuple[Any, Any]:
    """The pool of a frozen schema and the descriptor of its own file."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message import DecodeError

    try:
        files = FileDescriptorSet.FromString(base64.b64decode(text, validate=True)).file
        pool = DescriptorPool()
        for file in files:
            pool.Add(file)
        if not files:
            raise SchemaProblem("there is no file in the descriptor set")
        return pool, pool.FindFileByName(files[-1].name)
    except (DecodeError, TypeError, KeyError, binascii.Error) as error:
        raise SchemaProblem(
            f"not a whole descriptor set: {error}",
            expected="what `protoc --include_imports --descriptor_set_out` writes",
        ) from error
