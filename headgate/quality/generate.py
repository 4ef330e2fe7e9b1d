"""Asks Great Expectations which expectations there are and what they take.

    python -m headgate.quality.generate > headgate/quality/expectations.json

The answer is kept in the repository: importing Great Expectations takes seconds and 250 MB, and a plan
needs only the names and the shapes of arguments. A test holds the file to the installed release.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["ask"]

# GX's own bookkeeping, and filters that pandas evaluates as code: rows are filtered by the output's SQL.
_NOT_A_CONTRACTS = frozenset(
    (
        "id",
        "meta",
        "notes",
        "result_format",
        "catch_exceptions",
        "rendered_content",
        "severity",
        "windows",
        "batch_id",
        "row_condition",
        "condition_parser",
        "library_metadata",
    )
)
# They compare with other tables over SQL; what is checked here is one Delta table in memory.
_NEED_A_DATABASE = frozenset(("ExpectQueryResultsToMatchComparison", "ExpectTableRowCountToEqualOtherTable"))
_KEPT = ("type", "format", "enum", "minimum", "maximum", "minItems", "maxItems", "minLength")


def ask() -> dict[str, Any]:
    """Expectation to `arguments` (name to shape), `required`, and `one_of` (at least one is needed)."""
    import great_expectations.expectations as known

    names = [n for n in dir(known) if n.startswith("Expect") and n != "Expectation"]
    return {name: _describe(getattr(known, name)) for name in names if name not in _NEED_A_DATABASE}


def _describe(kind: Any) -> dict[str, Any]:
    schema = json.loads(json.dumps(kind.schema(), default=str))
    properties, definitions = schema["properties"], schema.get("definitions", {})
    arguments = {
        name: _shape(properties[name], definitions)
        for name in kind.__fields__
        if name not in _NOT_A_CONTRACTS
    }
    required = [name for name in schema.get("required", ()) if name in arguments]
    return {"arguments": arguments, "required": required, "one_of": _one_of(kind, required)}


def _shape(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return _shape(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    choices = [_shape(each, definitions) for each in schema.get("anyOf", schema.get("oneOf", ()))]
    # Every argument may also be a parameter of a suite, `{"$PARAMETER": …}`: contracts have none.
    choices = [each for each in choices if each != {"type": "object"}] or choices
    if len(choices) == 1:
        return choices[0]
    if choices:
        return {"any": choices}
    shape = {key: schema[key] for key in _KEPT if key in schema}
    items = schema.get("items")
    if isinstance(items, Mapping) and items:
        shape["items"] = _shape(items, definitions)
    if "properties" in schema:
        shape["keys"] = {name: _shape(each, definitions) for name, each in schema["properties"].items()}
    return shape


def _one_of(kind: Any, required: list[str]) -> list[str]:
    """`min_value` and `max_value`, where GX refuses an expectation that has neither."""
    from pydantic.v1 import ValidationError

    pair = [name for name in ("min_value", "max_value") if name in kind.__fields__ and name not in required]
    try:
        kind(**dict.fromkeys(required, "a"))
    except ValidationError as error:
        if any(each["loc"] == ("__root__",) for each in error.errors()):
            return pair
    return []


if __name__ == "__main__":
    json.dump(ask(), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
