"""The schema registry, through Confluent's client: subjects, their versions, and schemas by id.

Only these calls of its REST API are used: `GET /subjects/S/versions`, `GET /subjects/S/versions/V`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from headgate.errors import NotFoundError, SettingsError, UnavailableError
from headgate.formats.shapes import SchemaProblem

if TYPE_CHECKING:
    from headgate.settings import Settings

__all__ = ["Registered", "Registry"]

T = TypeVar("T")

_NOT_THERE, _NOT_ALLOWED = 404, (401, 403)


@dataclass(frozen=True, slots=True)
class Registered:
    """One version of a subject; `text` is as a contract freezes it."""

    id: int
    version: int
    text: str


class Registry:
    """Not for several threads. Every call raises UnavailableError while the registry does not answer."""

    def __init__(self, settings: Settings) -> None:
        from confluent_kafka.schema_registry import SchemaRegistryClient

        section = settings.registry
        if section.url is None:
            raise SettingsError(
                "no schema registry is set",
                expected='[registry] url = "https://…" in headgate.toml, or HEADGATE_REGISTRY_URL',
                help="docs/guides/formats.md says what else it takes",
            )
        self._url = section.url
        self._client = SchemaRegistryClient(_options(settings))

    def schema(self, subject: str, version: int | None, format_: str) -> Registered:
        """A version of a subject, the newest without one. Raises NotFoundError and SchemaProblem."""
        found = self._ask(
            lambda: self._client.get_version(subject, version or "latest"),
            f"version {version} of the subject {subject!r}" if version else f"the subject {subject!r}",
        )
        return self._registered(found, format_)

    def versions(self, subject: str, format_: str, known: Collection[int]) -> list[Registered]:
        """The versions of a subject that are not among the known ones, those that were deleted too.

        A version that cannot be used is left out: its records cannot be read.
        """
        what = f"the subject {subject!r}"
        numbers = self._ask(lambda: self._client.get_versions(subject, deleted=True), what)
        found = []
        for number in sorted(set(numbers) - set(known)):
            one = self._ask(partial(self._client.get_version, subject, number, deleted=True), what)
            try:
                found.append(self._registered(one, format_))
            except SchemaProblem:
                continue
        return found

    def _registered(self, found: Any, format_: str) -> Registered:
        schema = found.schema
        kind = (schema.schema_type or "AVRO").upper()
        if kind != format_.upper():
            raise SchemaProblem(
                f"the subject {found.subject!r} has {kind.title()} schemas", expected=format_.title()
            )
        text = self._avro(schema) if format_ == "avro" else self._protobuf(schema)
        return Registered(int(found.schema_id), int(found.version), text)

    def _avro(self, schema: Any) -> str:
        from headgate.formats.avro import avro_record, canonical_text, parse_avro

        if schema.references:
            names = ", ".join(each.name for each in schema.references)
            raise SchemaProblem(f"the schema refers to others: {names}", expected="a schema that is whole")
        avro_record(parse_avro(schema.schema_str))
        return canonical_text(schema.schema_str)

    def _protobuf(self, schema: Any) -> str:
        from headgate.formats.proto_compiler import compile_proto

        with tempfile.TemporaryDirectory(prefix="headgate-registry-") as scratch:
            folder = Path(scratch)
            self._write_references(schema, folder)
            file = folder / "registered.proto"
            file.write_text(schema.schema_str, encoding="utf-8")
            return compile_proto(file, folder)

    def _write_references(self, schema: Any, folder: Path) -> None:
        for reference in schema.references or ():
            file = (folder / reference.name).resolve()
            if not file.is_relative_to(folder.resolve()):
                raise SchemaProblem(f"a reference has the name {reference.name!r}")
            what = f"version {reference.version} of the subject {reference.subject!r}"
            if file.exists():
                continue  # two files import it
            found = self._ask(
                partial(self._client.get_version, reference.subject, reference.version, deleted=True), what
            )
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(found.schema.schema_str, encoding="utf-8")
            self._write_references(found.schema, folder)

    def _ask(self, call: Callable[[], T], what: str) -> T:
        from confluent_kafka.schema_registry.error import SchemaRegistryError
        from httpx2 import HTTPError

        try:
            return call()
        except SchemaRegistryError as error:
            raise self._failure(error, what) from error
        except (HTTPError, OSError) as error:
            raise UnavailableError(
                f"the schema registry {self._url} does not answer: {error}",
                help="start it, or set registry.url",
            ) from error
        except (ValueError, KeyError, TypeError) as error:  # an answer that is none: a proxy's page
            raise UnavailableError(
                f"{self._url} does not answer as a schema registry does: {error}"
            ) from error

    def _failure(self, error: Any, what: str) -> Exception:
        if error.http_status_code == _NOT_THERE:
            return NotFoundError(f"the schema registry {self._url} has not {what}")
        if error.http_status_code in _NOT_ALLOWED:
            return SettingsError(
                f"the schema registry {self._url} does not let us see {what}: {error.error_message}",
                help="set registry.username and registry.password, or registry.token",
            )
        return UnavailableError(f"the schema registry {self._url} cannot give {what}: {error.error_message}")


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
