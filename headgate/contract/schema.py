"""The contract's JSON Schema, for editors. Generated: `headgate schema > headgate/contract/schema.json`."""

from __future__ import annotations

import json
from typing import Any

from headgate.contract.model import Contract

__all__ = ["contract_schema", "schema_text"]


def contract_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of version 1 of the format."""
    schema = Contract.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "headgate contract"
    return schema


def schema_text() -> str:
    return json.dumps(contract_schema(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
