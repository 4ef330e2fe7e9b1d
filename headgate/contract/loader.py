"""Loads the contracts of a folder: all of them, or one error with every problem of every file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from headgate.contract.checks import check_contract
from headgate.contract.document import Document, read_document
from headgate.contract.model import (
    COLUMN,
    EXPECTATION,
    FUNCTION,
    MEMORY,
    NAME,
    PIPELINE,
    REDIS_KEY,
    SIZE,
    TOPIC,
    Contract,
)
from headgate.contract.record_schema import MESSAGE
from headgate.contract.record_schemas import with_schema_files
from headgate.errors import ContractError, NotFoundError, Problem
from headgate.suggest import did_you_mean

__all__ = ["SPOKEN", "LoadedContract", "load_contract", "load_contracts", "parse_contract"]


@dataclass(frozen=True, slots=True)
class LoadedContract:
    contract: Contract
    path: Path
    name: str  # the path as errors show it
    text_sha: str
    document: Document


def load_contracts(folder: Path, only: Iterable[str] = ()) -> list[LoadedContract]:
    """Every `*.yaml` of a folder; `only` narrows to some pipelines. Raises ContractError."""
    if not folder.is_dir():
        raise ContractError([Problem(str(folder), 1, 1, "the folder of contracts does not exist")])
    files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    loaded: list[LoadedContract] = []
    problems: list[Problem] = []
    for path in files:
        result = parse_contract(path)
        if isinstance(result, LoadedContract):
            loaded.append(result)
        else:
            problems.extend(result)
    problems.extend(_clashes(loaded))
    if problems:
        raise ContractError(problems)
    wanted = set(only)
    unknown = wanted - {item.contract.pipeline for item in loaded}
    if unknown:
        raise _unknown(sorted(unknown), folder, [item.contract.pipeline for item in loaded])
    return [item for item in loaded if not wanted or item.contract.pipeline in wanted]


def load_contract(path: Path) -> LoadedContract:
    """One file. Raises ContractError with all its problems."""
    result = parse_contract(path)
    if isinstance(result, LoadedContract):
        return result
    raise ContractError(result)


def parse_contract(path: Path) -> LoadedContract | list[Problem]:
    name = _display(path)
    document = read_document(path, name)
    if isinstance(document, Problem):
        return [document]
    if not isinstance(document.data, dict):
        return [document.problem((), "a contract is a mapping of keys", expected="`headgate: 1` first")]
    try:
        contract = Contract.model_validate(document.data)
    except ValidationError as error:
        problems = [_problem(document, item) for item in _without_echoes(error.errors())]
        return sorted(problems, key=lambda problem: (problem.line, problem.column))
    problems = check_contract(contract, document)
    if not problems:
        contract, problems = with_schema_files(contract, document, path)
    if problems:
        return problems
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return LoadedContract(contract, path, name, digest, document)


def _display(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _problem(document: Document, error: ErrorDetails) -> Problem:
    at = tuple(part for part in error["loc"] if part != "[key]")
    kind = error["type"]
    last = str(at[-1]) if at else ""
    if kind == "extra_forbidden":
        known = _known_keys(at[:-1])
        return document.problem(
            at,
            f"unknown key `{last}`",
            expected=f"one of {', '.join(known)}" if known else None,
            help=did_you_mean(last, known),
            on_key=True,
        )
    if kind == "missing":
        return document.problem(at[:-1], f"`{last}` is missing", expected=f"a value for `{last}`")
    if kind == "literal_error":
        choices = [
            part.strip().strip("'") for part in error["ctx"]["expected"].replace(" or ", ", ").split(",")
        ]
        return document.problem(
            at,
            f"`{_short(error['input'])}` is not a value of `{last}`",
            expected=f"one of {', '.join(choices)}",
            help=did_you_mean(str(error["input"]), choices),
        )
    if kind == "string_pattern_mismatch":
        return document.problem(
            at,
            f"`{_short(error['input'])}` does not fit here",
            expected=SPOKEN[error["ctx"]["pattern"]],
            on_key="[key]" in error["loc"],
        )
    return _of_value(document, at, error)


def _of_value(document: Document, at: Sequence[str | int], error: ErrorDetails) -> Problem:
    """A value of the wrong type, or one that its type refuses."""
    kind, last = error["type"], str(at[-1]) if at else ""
    wanted = next((text for begin, text in _WANTED if kind.startswith(begin)), None)
    if wanted is not None:
        found = _short(_as_written(error["input"]))
        return document.problem(tuple(at), f"`{last}`: found `{found}`", expected=wanted)
    message = error["msg"].removeprefix("Value error, ")
    # A number in quotes looks like a number without them.
    value = repr(error["input"]) if kind.endswith("_type") else error["input"]
    told = f"`{last}`: found `{_short(value)}`" if last else "the contract"
    return document.problem(tuple(at), f"{told}; {message[0].lower()}{message[1:]}")


# What the patterns of the model ask for, in words.
SPOKEN = {
    NAME: "small letters, digits and `_`, a letter first, at most 63",
    PIPELINE: "small letters, digits and `-`, a letter first, at most 63",
    TOPIC: "letters, digits, `.`, `_` and `-`, at most 200",
    REDIS_KEY: "letters, digits, `_`, `.`, `:` and `-`, at most 200",
    COLUMN: "letters, digits and `_`, no digit first, at most 127",
    FUNCTION: "a module and a function of it, such as `streams.orders:totals`",
    EXPECTATION: "the name of an expectation, such as `ExpectColumnValuesToNotBeNull`",
    MEMORY: "megabytes or gigabytes, such as `512m` or `2g`",
    SIZE: "a size, such as `64k`, `16m` or `1g`",
    MESSAGE: "the name of a message with its package, such as `shop.Order`",
}

# pydantic's names of what has another type, and what the person is to write.
_WANTED = (
    ("int_", "a whole number"),
    ("float_", "a number"),
    ("bool_", "true or false"),
    ("string_type", "text; in quotes where it looks like a number, a date or a yes"),
    ("list_type", "a list: `[…]`, or a line with `- ` for each item"),
    ("tuple_type", "a list: `[…]`, or a line with `- ` for each item"),
    ("dict_type", "a mapping: `{key: value}`, or a line for each key"),
    ("model_type", "a mapping: `{key: value}`, or a line for each key"),
)


def _as_written(value: object) -> str:
    """A value as YAML has it, short: a number in quotes looks like a number without them."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)


def _without_echoes(errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """A union reports each of its branches, and a list that its bad items do not count: the first
    problem at a place is enough, and one inside of it says more."""
    found: dict[tuple[str | int, ...], ErrorDetails] = {}
    for error in errors:
        error["loc"] = _plain_place(error["loc"])
        found.setdefault(error["loc"], error)
    outer = {place[:length] for place in found for length in range(1, len(place))}
    return [error for place, error in found.items() if place not in outer]


def _plain_place(loc: Sequence[str | int]) -> tuple[str | int, ...]:
    """A path of the document: without the names of the branches that pydantic puts into it."""
    names = [part for part in loc if part not in {"StartAt", "str", "int", "float", "bool"}]
    return tuple(part for part in names if not str(part).startswith(("literal[", "function-")))


def _known_keys(at: Sequence[str | int]) -> list[str]:
    """The keys that the model knows at a path of the document."""
    model: Any = Contract
    for part in at:
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = next((f for key, f in model.model_fields.items() if (f.alias or key) == part), None)
            # The name of a source or output, or the index of a list, stays in the same model.
            model = _model_in(field.annotation) if field else model
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [field.alias or key for key, field in model.model_fields.items()]


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _model_in(argument)
        if found is not None:
            return found
    return None


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _clashes(loaded: Sequence[LoadedContract]) -> list[Problem]:
    """An address has one owning pipeline: names, tables' folders and Redis keys over all files."""
    owners: dict[tuple[str, str], LoadedContract] = {}
    problems = []
    for item in loaded:
        addresses = {("pipeline", item.contract.pipeline): ("pipeline",)}
        for output, spec in item.contract.outputs.items():
            for i, target in enumerate(spec.to):
                if target.redis:
                    at: tuple[str | int, ...] = ("outputs", output, "to", i, "redis")
                    addresses[("Redis key", target.redis)] = at  # type: ignore[assignment]
        for (kind, value), at in addresses.items():
            first = owners.setdefault((kind, value), item)
            if first is not item:
                problems.append(
                    item.document.problem(
                        at, f"{kind} `{value}` belongs to {first.name}", expected="an address with one owner"
                    )
                )
    return problems


def _unknown(names: Sequence[str], folder: Path, known: Sequence[str]) -> NotFoundError:
    told = ", ".join(f"`{name}`" for name in names)
    return NotFoundError(
        f"no contract in {_display(folder)} has the pipeline {told}",
        expected=f"one of {', '.join(known) or '(none)'}",
        help=did_you_mean(names[0], known),
    )
