from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from contract_examples import contract_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from headgate.contract.frozen import ContractStore, FrozenContract, ResolvedOutput, freeze, with_lane
from headgate.contract.model import Contract
from headgate.errors import NotFoundError

SOURCES = {"a": {"topic": "t", "columns": [{"name": "x", "type": "int"}], "config": {"retention.ms": 1}}}
SCHEMA = {
    "type": "struct",
    "fields": [{"name": "x", "type": "integer", "nullable": True, "metadata": {}}],
}


def frozen(contract: Contract | None = None, **changes: object) -> FrozenContract:
    values: dict[str, object] = {
        "topics": {"a": "t"},
        "replication": 1,
        "outputs": {"copy": ResolvedOutput(False, SCHEMA)},
        "env": "local",
        "headgate_version": "0.1.0",
    }
    return freeze(contract or contract_of(SOURCES), **{**values, **changes})  # type: ignore[arg-type]


def shuffled(value: object, order: st.DataObject) -> object:
    """The same JSON with the keys of every object in another order."""
    if isinstance(value, dict):
        keys = order.draw(st.permutations(list(value)))
        return {key: shuffled(value[key], order) for key in keys}
    if isinstance(value, list):
        return [shuffled(item, order) for item in value]
    return value


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_hash_does_not_depend_on_the_order_of_keys(data):
    one = frozen()
    text = one.contract.model_dump(mode="json", exclude_defaults=True)
    again = Contract.model_validate(shuffled(text, data))
    other = frozen(
        again, outputs={"copy": ResolvedOutput(False, shuffled(SCHEMA, data))}  # type: ignore[arg-type]
    )  # fmt: skip
    assert other.hash == one.hash


@pytest.mark.parametrize(
    "change",
    [
        {"topics": {"a": "prefixed.t"}},
        {"replication": 3},
        {"env": "production"},
        {"outputs": {"copy": ResolvedOutput(True, SCHEMA)}},
        {"contract": contract_of(SOURCES, version=2)},
        {"contract": contract_of(SOURCES, description="another")},
    ],
    ids=str,
)
def test_the_hash_changes_with_everything_that_a_driver_runs_from(change):
    assert frozen(**change).hash != frozen().hash


def test_the_hash_is_the_same_for_another_version_of_headgate_and_for_defaults_written_out():
    assert frozen(headgate_version="9").hash == frozen().hash
    assert frozen(contract_of(SOURCES, job={"cores": 2})).hash == frozen().hash


def test_the_lane_that_auto_came_to_is_part_of_the_hash_and_is_kept(tmp_path):
    one = frozen()
    arrow, jvm = with_lane(one, "arrow"), with_lane(one, "jvm")
    assert len({one.hash, arrow.hash, jvm.hash}) == 3
    store = ContractStore(tmp_path)
    store.put(arrow)
    assert store.get(arrow.hash) == arrow
    assert with_lane(frozen(headgate_version="9"), "arrow").hash == arrow.hash
    fed = with_lane(one, None, {"sums": "arrow"})
    assert fed.hash not in {one.hash, arrow.hash}
    store.put(fed)
    assert store.get(fed.hash) == fed


def test_a_contract_without_a_decided_lane_has_the_hash_and_the_file_that_it_had_before_there_was_one():
    one = with_lane(frozen(), None)
    assert one == frozen()
    assert {"lane", "fed"}.isdisjoint(one.to_json())
    assert FrozenContract.from_json(one.to_json()) == one
    assert one.hash == "c635ce1038242a2391e817a4073bf6fe5f9b435303b64348b18abbd14798c6d3"


def test_a_frozen_contract_cannot_be_changed():
    one = frozen()
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.env = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        one.contract.owner = "other"


def test_a_stored_contract_comes_back_equal(tmp_path):
    store = ContractStore(tmp_path)
    one = frozen()
    path = store.put(one)
    assert path.name == f"{one.hash}.json"
    back = store.get(one.hash)
    assert back == one
    assert freeze(
        back.contract, topics=back.topics, replication=back.replication, outputs=back.outputs,
        env=back.env, headgate_version=back.headgate_version,
    ).hash == one.hash  # fmt: skip


def test_putting_a_contract_again_leaves_the_stored_one_as_it_is(tmp_path):
    store = ContractStore(tmp_path)
    path = store.put(frozen())
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    store.put(frozen(headgate_version="9"))
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no drafts left behind


def test_an_unknown_hash_says_what_to_run(tmp_path):
    with pytest.raises(NotFoundError, match="no contract abc is stored") as caught:
        ContractStore(tmp_path).get("abc")
    assert caught.value.help == "headgate apply"


def test_applying_points_at_the_contract_and_remembers_the_one_before(tmp_path):
    store = ContractStore(tmp_path)
    one, two = frozen(), frozen(replication=2)
    for number, each in enumerate((one, two, two)):
        store.put(each)
        store.set_applied(each, at=float(number), by="tests", file="example.yaml")
    pointer = store.applied()["example"]
    assert (pointer.hash, pointer.applied_at) == (two.hash, 2.0)
    assert store.current("example") == two
    with pytest.raises(NotFoundError, match="no contract of pipeline 'other' is applied"):
        store.current("other")


def test_the_previous_contract_is_the_one_that_ran_before(tmp_path):
    store = ContractStore(tmp_path)
    one, two = frozen(), frozen(replication=2)
    assert store.set_applied(one, at=1.0, by="tests", file="x").previous is None
    assert store.set_applied(two, at=2.0, by="tests", file="x").previous == one.hash


def test_the_pointer_is_small_and_plain_json(tmp_path: Path):
    ContractStore(tmp_path).set_applied(frozen(), at=1.0, by="tests", file="x")
    data = json.loads((tmp_path / "contracts" / "applied" / "example.json").read_text())
    assert data["pipeline"] == "example"
    assert all(not isinstance(value, dict | list) for value in data.values())


def test_a_damaged_pointer_leaves_out_its_own_pipeline_alone(tmp_path: Path) -> None:
    store = ContractStore(tmp_path)
    folder = tmp_path / "contracts" / "applied"
    folder.mkdir(parents=True)
    (folder / "broken.json").write_text("{", encoding="utf-8")
    (folder / "newer.json").write_text('{"pipeline": "newer", "unknown": 1}', encoding="utf-8")
    good = {
        "pipeline": "good",
        "hash": "0" * 64,
        "version": 1,
        "applied_at": 1.0,
        "applied_by": "cli:me",
        "owner": "us",
        "description": "",
        "file": "pipelines/good.yaml",
        "quality_every": None,
    }
    (folder / "good.json").write_text(json.dumps(good), encoding="utf-8")
    assert list(store.applied()) == ["good"]
