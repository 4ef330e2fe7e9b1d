"""Sources whose schema is a subject of the registry: asked for by the plan, frozen with the contract."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from headgate.contract.loader import LoadedContract
from headgate.contract.model import RecordSchema, Source
from headgate.contract.record_schemas import frozen_columns
from headgate.errors import ContractError, NotFoundError, Problem, SettingsError, UnavailableError

if TYPE_CHECKING:
    from headgate.formats.registry import Registered
    from headgate.settings import Settings

__all__ = ["with_registered"]


class _Schemas(Protocol):
    """What is needed of `headgate.formats.registry.Registry`."""

    def schema(self, subject: str, version: int | None, format_: str) -> Registered: ...


def with_registered(loaded: Sequence[LoadedContract], settings: Settings) -> list[LoadedContract]:
    """The contracts with what the registry has for them.

    Raises ContractError, and UnavailableError and SettingsError, which name the pipelines that need none.
    """
    others = [item.contract.pipeline for item in loaded if not _registered_sources(item)]
    if len(others) == len(loaded):
        return list(loaded)
    from headgate.formats.registry import Registry

    try:
        return filled(loaded, Registry(settings))
    except (UnavailableError, SettingsError) as error:
        if others:
            more = f"`headgate apply {' '.join(others)}` needs no registry"
            error.help = f"{error.help}; {more}" if error.help else more
        raise


def filled(loaded: Sequence[LoadedContract], registry: _Schemas) -> list[LoadedContract]:
    problems: list[Problem] = []
    found = []
    for item in loaded:
        sources = dict(item.contract.sources)
        for name in _registered_sources(item):
            result = _source(item, name, registry)
            if isinstance(result, Source):
                sources[name] = result
            else:
                problems += result
        found.append(replace(item, contract=item.contract.model_copy(update={"sources": sources})))
    if problems:
        raise ContractError(problems)
    return found


def _registered_sources(item: LoadedContract) -> list[str]:
    return [
        name
        for name, source in item.contract.sources.items()
        if source.record_schema is not None and source.record_schema.registry
    ]


def _source(item: LoadedContract, name: str, registry: _Schemas) -> Source | list[Problem]:
    from headgate.formats.shapes import SchemaProblem

    source = item.contract.sources[name]
    schema = source.record_schema
    assert schema is not None, "only sources of the registry come here"
    at = ("sources", name, "schema")
    try:
        found = registry.schema(str(schema.subject), schema.version, source.format)
    except NotFoundError as error:
        return [item.document.problem((*at, "subject"), error.message, expected="a subject that is there")]
    except SchemaProblem as problem:
        return [item.document.problem((*at, "subject"), problem.message, expected=problem.expected)]
    unknown = _message_problem(item, at, schema, found.text)
    if unknown is not None:
        return [unknown]
    frozen = schema.model_copy(update={"text": found.text, "id": found.id, "version": found.version})
    source = source.model_copy(update={"record_schema": frozen})
    return frozen_columns(name, source, item.document) or source


def _message_problem(
    item: LoadedContract, at: tuple[str, ...], schema: RecordSchema, text: str
) -> Problem | None:
    if schema.message is None:
        return None
    from headgate.formats.protobuf import message_names

    names = message_names(text)
    if schema.message in names:
        return None
    close = difflib.get_close_matches(schema.message, names, n=1)
    return item.document.problem(
        (*at, "message"),
        f"the schema has no message `{schema.message}`",
        expected=f"one of {', '.join(names) or '(none)'}",
        help=f"did you mean `{close[0]}`?" if close else None,
    )
