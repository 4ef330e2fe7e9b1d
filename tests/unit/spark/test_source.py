from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contract_examples import contract_of

from headgate.contract.frozen import FrozenContract, ResolvedOutput, freeze
from headgate.contract.model import Source
from headgate.settings import Settings
from spark import source as module
from spark.source import _start, patience_seconds, read_all

SOURCE = Source.model_validate({"topic": "t", "start": "latest"})


def test_a_lineage_with_an_origin_begins_at_its_offsets_whatever_the_contract_says():
    found = _start(SOURCE, "t", {"t": {1: -2, 0: 7}})
    assert json.loads(found["startingOffsets"]) == {"t": {"0": 7, "1": -2}}


def test_a_topic_without_offsets_begins_where_the_contract_says():
    assert _start(SOURCE, "t", {}) == {"startingOffsets": "latest"}
    assert _start(SOURCE, "t", {"other": {0: 1}}) == {"startingOffsets": "latest"}


class Reader:
    """Keeps the options that a source is read with."""

    def __init__(self) -> None:
        self.options: dict[str, str] = {}
        self.readStream = self

    def format(self, kind: str) -> Reader:
        assert kind == "kafka"
        return self

    def name(self, _name: str) -> Reader:
        return self

    def option(self, name: str, value: str) -> Reader:
        self.options[name] = value
        return self

    def load(self) -> Reader:
        return self

    def where(self, _condition: object) -> Reader:
        return self


def frozen_contract(*, stateful: bool) -> FrozenContract:
    sources = {"a": {"topic": "t", "columns": [{"name": "n", "type": "int"}]}}
    outputs = {"o": {"sql": "SELECT n FROM a", "to": [{"delta": "o"}]}}
    resolved = {"o": ResolvedOutput(stateful, {"type": "struct", "fields": []})}
    return freeze(
        contract_of(sources, outputs, job={"max_records_per_batch": 700}),
        topics={"a": "t"},
        replication=1,
        outputs=resolved,
        env="local",
        headgate_version="0",
    )


@pytest.mark.parametrize(
    ("stateful", "ends", "patient"), [(True, None, True), (False, None, False), (True, {"t": {0: 9}}, False)]
)
def test_only_a_query_that_nobody_waits_for_waits_for_a_full_batch(
    stateful: bool, ends: Any, patient: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "raw_columns", lambda reader: reader)
    monkeypatch.setattr(module, "_before", lambda _: None)
    reader: Any = Reader()
    read_all(
        reader, Settings.model_validate({"home": tmp_path}), frozen_contract(stateful=stateful), ends=ends
    )
    assert reader.options["maxOffsetsPerTrigger"] == "700"
    waits = {name: reader.options.get(name) for name in ("minOffsetsPerTrigger", "maxTriggerDelay")}
    expected = ("700", "5000ms") if patient else (None, None)
    assert waits == dict(zip(waits, expected, strict=True))


def test_a_batch_has_the_records_that_its_query_may_have_and_the_contracts_own_options_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "raw_columns", lambda reader: reader)
    reader: Any = Reader()
    frozen = frozen_contract(stateful=True)
    settings = Settings.model_validate({"home": tmp_path})
    read_all(reader, settings, frozen, caps={"a": 20})
    assert (reader.options["maxOffsetsPerTrigger"], reader.options["minOffsetsPerTrigger"]) == ("20", "20")
    assert reader.options["kafka.max.poll.records"] == "2"
    options = {"kafka.max.poll.records": 7, "kafka.max.partition.fetch.bytes": 8}
    source = frozen.contract.sources["a"].model_copy(update={"options": options})
    contract = frozen.contract.model_copy(update={"sources": {"a": source}})
    read_all(reader, settings, replace(frozen, contract=contract), caps={"a": 20})
    assert (reader.options["kafka.max.poll.records"], reader.options["kafka.max.partition.fetch.bytes"]) == (
        "7",
        "8",
    )


@pytest.mark.parametrize(("freshness", "expected"), [("60 seconds", 5.0), ("4 seconds", 2.0)])
def test_a_stream_that_is_to_be_fresh_is_less_patient(freshness: str, expected: float) -> None:
    contract = frozen_contract(stateful=True).contract
    slo = contract.slo.model_copy(update={"freshness": freshness})
    assert patience_seconds(contract.model_copy(update={"slo": slo})) == expected
