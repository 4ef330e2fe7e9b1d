"""The JSON Schema that editors use is the model's, and the shipped contracts keep to it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from contract_examples import ORDERS
from ruamel.yaml import YAML

from headgate.contract import schema
from headgate.contract.loader import load_contracts

CHECKOUT = Path(__file__).resolve().parents[3]
COMMITTED = Path(schema.__file__).with_name("schema.json")
CONTRACTS = sorted((CHECKOUT / "pipelines").glob("*.yaml"))


def _plain(text: str):
    return YAML(typ="safe", pure=True).load(text)


def test_the_committed_schema_is_the_generated_one():
    assert COMMITTED.read_text(encoding="utf-8") == schema.schema_text(), (
        "run `headgate schema > headgate/contract/schema.json`"
    )


def test_the_shipped_contracts_are_valid():
    names = [item.contract.pipeline for item in load_contracts(CHECKOUT / "pipelines")]
    assert {"logs", "realtime-data"} <= set(names)


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.name)
def test_a_shipped_contract_names_the_schema_in_its_first_line_and_keeps_to_it(path):
    text = path.read_text(encoding="utf-8")
    marker = "# yaml-language-server: $schema="
    first = text.splitlines()[0]
    assert first.startswith(marker)
    assert (path.parent / first.removeprefix(marker)).resolve() == COMMITTED.resolve()
    jsonschema.validate(_plain(text), json.loads(COMMITTED.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("owner: shop\n", ""),
        ("version: 1", "version: one"),
        ("topic: orders", "topci: orders"),
        ("format: json", "format: jsn"),
        ("mode: update", "mode: upsert"),
        ("partitions: 2", "partitions: 0"),
    ],
)
def test_the_schema_refuses_what_the_model_refuses(old, new):
    assert old in ORDERS
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(_plain(ORDERS.replace(old, new)), schema.contract_schema())
