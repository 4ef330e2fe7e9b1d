"""The schema registry, through Confluent's client: subjects, their versions, and schemas by id.

Only these calls of its REST API are used: `GET /subjects/S/versions`, `GET /subjects/S/versions/V`.
"""

from __future__ import annotations

import errno
import hashlib
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from headgate.contract.record_schemas import MAX_BYTES
from headgate.errors import HeadgateError, NotFoundError, SettingsError, UnavailableError
from headgate.formats.shapes import SchemaProblem, taking_apart

if TYPE_CHECKING:
    from headgate.settings import Settings

__all__ = ["Registered", "Registry", "Unusable"]

T = TypeVar("T")

_NOT_THERE, _NOT_ALLOWED = 404, (401, 403)
# What a file cannot be called is the fault of who named it; any other fault of the disk is the machine's.
_NAMES = frozenset(
    {errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EINVAL, errno.EILSEQ}
)
_OWN = "registered.proto"


@dataclass(frozen=True, slots=True)
class Registered:
    """One version of a subject; `text` is as a contract freezes it."""

    id: int
    version: int
    text: str

    def said(self) -> dict[str, str]:
        return {"text": self.text}


@dataclass(frozen=True, slots=True)
class Unusable:
    """One version of a subject whose records cannot be read, and why."""

    id: int
    version: int
    why: str

    def said(self) -> dict[str, str]:
        return {"why": self.why}


@dataclass(frozen=True, slots=True)
class _Version:
    """One version of a subject, as the registry has it."""

    id: int
    version: int
    kind: str
    text: str
    references: tuple[Any, ...]


class Registry:
    """For several threads. Every call raises UnavailableError while the registry does not answer."""

    def __init__(self, settings: Settings) -> None:
        section = settings.registry
        if section.url is None:
            raise SettingsError(
                "no schema registry is set",
                expected='[registry] url = "https://…" in headgate.toml, or HEADGATE_REGISTRY_URL',
                help="docs/guides/formats.md says what else it takes",
            )
        self._url = section.url
        self._settings = settings
        self._calling = threading.Lock()
        self._client: Any = _client(settings)
        self._compiled: dict[str, str] = {}  # a version is asked for again, and compiled once

    def schema(self, subject: str, version: int | None, format_: str) -> Registered:
        """A version of a subject, the newest without one. Raises NotFoundError and SchemaProblem."""
        what = f"version {version} of the subject {subject!r}" if version else f"the subject {subject!r}"
        found = self._version(subject, version or "latest", what, deleted=False)
        return Registered(found.id, found.version, self._text(subject, found, format_))

    def versions(
        self, subject: str, format_: str, known: Collection[int], *, afresh: bool = False
    ) -> Iterator[Registered | Unusable]:
        """The versions of a subject that are not among the known ones, those that were deleted too, the
        newest first; `afresh`: whatever was heard of them before."""
        what = f"the subject {subject!r}"
        if afresh:
            self._ask(lambda client: client.clear_caches(), what)
        numbers = self._ask(lambda client: {*map(int, client.get_versions(subject, deleted=True))}, what)
        for number in sorted(numbers - set(known), reverse=True):
            found = self._version(subject, number, what, deleted=True)
            try:
                yield Registered(found.id, found.version, self._text(subject, found, format_))
            except SchemaProblem as problem:
                yield Unusable(found.id, found.version, problem.message[:500])

    def _version(self, subject: str, version: int | str, what: str, *, deleted: bool) -> _Version:
        return self._ask(partial(_version_of, subject, version, deleted), what)

    def _text(self, subject: str, found: _Version, format_: str) -> str:
        """Raises SchemaProblem."""
        if found.kind != format_.upper():
            raise SchemaProblem(
                f"the subject {subject!r} has {found.kind.title()} schemas", expected=format_.title()
            )
        with taking_apart():
            return _avro(found) if format_ == "avro" else self._protobuf(found)

    def _protobuf(self, found: _Version) -> str:
        files = self._files(found)
        digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
        if digest not in self._compiled:
            self._compiled[digest] = _compiled(files)
        return self._compiled[digest]

    def _files(self, found: _Version) -> dict[str, str]:
        """A schema's own text and those that it refers to, by the names of their files."""
        files = {_OWN: found.text}
        open_ = list(found.references)
        _check_size(found.text)
        while open_:
            each = open_.pop()
            if each.name in files:
                continue  # two files import it
            if (name := PurePosixPath(each.name)).is_absolute() or ".." in name.parts:
                raise SchemaProblem(f"a reference has the name {each.name!r}", expected="a relative path")
            what = f"version {each.version} of the subject {each.subject!r}"
            try:
                other = self._version(each.subject, each.version, what, deleted=True)
            except NotFoundError as error:
                raise SchemaProblem(
                    f"the schema refers to {what}, which is not there", expected="a schema that is whole"
                ) from error
            files[each.name] = other.text
            _check_size(*files.values())
            open_ += other.references
        return files

    def _ask(self, call: Callable[[Any], T], what: str) -> T:
        from confluent_kafka.schema_registry.error import SchemaRegistryError
        from httpx2 import HTTPError

        with self._calling:
            if self._client is None:
                self._client = _client(self._settings)
            try:
                return call(self._client)
            except SchemaRegistryError as error:
                raise self._failure(error, what) from error
            except (HTTPError, OSError) as error:
                raise UnavailableError(
                    f"the schema registry {self._url} does not answer: {error}",
                    help="start it, or set registry.url",
                ) from error
            except (ValueError, KeyError, TypeError, AttributeError) as error:  # no answer: a proxy's page
                raise UnavailableError(
                    f"{self._url} does not answer as a schema registry does: {error}"
                ) from error

    def _failure(self, error: Any, what: str) -> HeadgateError:
        if error.http_status_code == _NOT_THERE:
            return NotFoundError(f"the schema registry {self._url} has not {what}")
        if error.http_status_code in _NOT_ALLOWED:
            self._client.close()
            self._client = None  # who asks again does so with what the references say then
            return SettingsError(
                f"the schema registry {self._url} does not let us see {what}: {error.error_message}",
                help="set registry.username and registry.password, or registry.token",
            )
        return UnavailableError(f"the schema registry {self._url} cannot give {what}: {error.error_message}")


def _version_of(subject: str, version: int | str, deleted: bool, client: Any) -> _Version:
    found = client.get_version(subject, version, deleted=deleted)
    schema = found.schema
    if not isinstance(schema.schema_str, str):
        raise TypeError(f"version {version} of {subject!r} has no schema")
    kind, references = (schema.schema_type or "AVRO").upper(), tuple(schema.references or ())
    return _Version(int(found.schema_id), int(found.version), kind, schema.schema_str, references)


def _avro(found: _Version) -> str:
    from headgate.formats.avro import canonical_text
    from headgate.formats.schema import load_schema

    if found.references:
        names = ", ".join(each.name for each in found.references)
        raise SchemaProblem(f"the schema refers to others: {names}", expected="a schema that is whole")
    _check_size(found.text)
    load_schema("avro", found.text, None)
    return canonical_text(found.text)


def _check_size(*texts: str) -> None:
    size = sum(len(text.encode()) for text in texts)
    if size > MAX_BYTES:
        raise SchemaProblem(f"the schema has {size:,} bytes", expected=f"at most {MAX_BYTES:,}")


def _compiled(files: Mapping[str, str]) -> str:
    from headgate.formats.proto_compiler import compile_proto

    try:
        with tempfile.TemporaryDirectory(prefix="headgate-registry-") as scratch:
            folder = Path(scratch)
            for name, text in files.items():
                file = folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            return compile_proto(folder / _OWN, folder)
    except UnavailableError:
        raise
    except OSError as error:
        if error.errno in _NAMES:
            raise SchemaProblem(f"a reference has a name that no file can have: {error}") from error
        raise UnavailableError(f"a schema of the registry cannot be compiled: {error}") from error


def _client(settings: Settings) -> Any:
    from confluent_kafka.schema_registry import SchemaRegistryClient

    options = _options(settings)
    try:
        return SchemaRegistryClient(options)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(
            f"the settings of the schema registry cannot be used: {error}",
            help="docs/guides/formats.md says what it takes",
        ) from error


def _options(settings: Settings) -> dict[str, Any]:
    section = settings.registry
    options: dict[str, Any] = {
        "url": section.url,
        "timeout": section.timeout_seconds,
        "max.retries": 0,  # who asks waits as long as it takes, and can be stopped meanwhile
    }
    if section.ca_file is not None:
        options["ssl.ca.location"] = str(settings.path(section.ca_file))
    if section.token is not None:
        options |= {
            "bearer.auth.credentials.source": "STATIC_TOKEN",
            "bearer.auth.token": settings.secret(section.token),
            "bearer.auth.logical.cluster": "",
        }
    elif section.username is not None and section.password is not None:
        user, password = settings.secret(section.username), settings.secret(section.password)
        options["basic.auth.user.info"] = f"{user}:{password}"
    return options
