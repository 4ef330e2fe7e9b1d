"""Plan and apply against a real broker and real Delta tables."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from kafka import KafkaAdminClient

from headgate.checkpoints.layout import CheckpointLayout
from headgate.contract.frozen import ContractStore, FrozenContract, ResolvedOutput, freeze
from headgate.contract.model import Contract
from headgate.errors import PlanChangedError, RefusedError, ServiceError
from headgate.settings import Settings
from headgate.streams.store import StateStore
from headgate.topics.apply import Outcome, apply_plan
from headgate.topics.broker import carry_out_topic
from headgate.topics.differences import Action
from headgate.topics.kafka import admin_client
from headgate.topics.live import read_topics
from headgate.topics.plan import Plan, make_plan
from headgate.topics.tables import QUARANTINE_SCHEMA


@pytest.fixture
def settings(service_settings: Settings, broker: object, tmp_path: Path) -> Settings:
    """The session's broker, and a state folder of the test's own."""
    roots = service_settings.roots.model_copy(update={"state": str(tmp_path / "state")})
    return service_settings.model_copy(update={"roots": roots})


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A pipeline of the test's own: the broker is shared."""
    return "p-" + str(abs(hash(request.node.nodeid)))[:12]


@pytest.fixture
def admin(settings: Settings) -> Iterator[KafkaAdminClient]:
    with admin_client(settings) as client:
        yield client


def contract(name: str, **values: Any) -> FrozenContract:
    columns = values.get("columns", {"minute": "timestamp", "lines": "long"})
    source = {
        "topic": f"{name}-in",
        "partitions": values.get("partitions", 2),
        "config": values.get("config", {}),
        "columns": [{"name": "ts", "type": "timestamp"}],
    }
    output = {
        "sql": "SELECT date_trunc('minute', ts) AS minute, count(*) AS lines FROM a GROUP BY 1",
        "mode": "update",
        "key": ["minute"],
        "to": [{"delta": "per_minute"}],
    }
    model = Contract.model_validate(
        {
            "headgate": 1,
            "pipeline": name,
            "version": values.get("version", 1),
            "owner": "tests",
            "sources": {"a": source},
            "outputs": {"per_minute": output},
        }
    )
    schema = {
        "type": "struct",
        "fields": [{"name": n, "type": t, "nullable": False, "metadata": {}} for n, t in columns.items()],
    }
    return freeze(
        model,
        topics={"a": f"{name}-in"},
        replication=1,
        outputs={"per_minute": ResolvedOutput(True, schema, "minute", 60.0, "lines")},
        env="local",
        headgate_version="0",
    )


def applied(settings: Settings, frozen: FrozenContract) -> Outcome:
    return apply_plan(settings, make_plan(settings, [frozen]), by="tests")


def kinds(plan: Plan) -> list[str]:
    return [each.kind for each in plan.actions]


def test_apply_makes_topic_tables_and_contract_and_then_there_is_nothing_to_do(
    settings: Settings, name: str, admin: KafkaAdminClient
) -> None:
    frozen = contract(name, config={"retention.ms": 3_600_000})
    plan = make_plan(settings, [frozen])
    assert kinds(plan) == ["create_topic", "create_table", "create_table", "put_contract"]
    assert plan.exit_code == 2
    outcome = apply_plan(settings, plan, by="tests")
    assert list(outcome.done) == list(plan.actions)
    live = read_topics(admin, [f"{name}-in"])[f"{name}-in"]
    assert (live.partitions, live.replication) == (2, 1)
    assert live.configs["message.timestamp.type"].value == "LogAppendTime"
    assert live.configs["retention.ms"].value == "3600000"
    with closing(StateStore(settings.store_url)) as store:
        assert store.topic_id(f"{name}-in") == live.topic_id
        assert store.topic_owner(f"{name}-in") == name
    assert ContractStore(settings.state).current(name).hash == frozen.hash
    again = make_plan(settings, [frozen])
    assert (again.actions, again.refusals, again.exit_code) == ((), (), 0)
    assert apply_plan(settings, plan, by="tests").done == ()


def test_tables_have_the_schema_and_no_feature_that_a_reader_could_lack(
    settings: Settings, name: str
) -> None:
    applied(settings, contract(name))
    table = DeltaTable(settings.tables / name / "per_minute")
    assert (table.protocol().min_reader_version, table.protocol().min_writer_version) == (1, 2)
    fields = json.loads(table.schema().to_json())["fields"]
    assert [(each["name"], each["type"], each["nullable"]) for each in fields] == [
        ("minute", "timestamp", True),
        ("lines", "long", True),
    ]
    assert table.metadata().configuration["headgate.key"] == "minute"
    quarantine = DeltaTable(settings.tables / name / "_quarantine")
    assert json.loads(quarantine.schema().to_json())["fields"] == QUARANTINE_SCHEMA["fields"]


def test_partitions_columns_and_configs_follow_the_contract(
    settings: Settings, name: str, admin: KafkaAdminClient
) -> None:
    applied(settings, contract(name, config={"retention.ms": 1000, "segment.ms": 60_000}))
    wider = contract(
        name,
        partitions=5,
        config={"retention.ms": 2000},
        columns={"minute": "timestamp", "lines": "long", "hosts": "long"},
    )
    plan = make_plan(settings, [wider])
    assert kinds(plan) == ["add_partitions", "change_config", "add_columns", "put_contract"]
    apply_plan(settings, plan, by="tests")
    live = read_topics(admin, [f"{name}-in"])[f"{name}-in"]
    assert live.partitions == 5
    assert live.configs["retention.ms"].value == "2000"
    assert not live.configs["segment.ms"].on_topic
    columns = DeltaTable(settings.tables / name / "per_minute").schema().fields
    assert [each.name for each in columns] == ["minute", "lines", "hosts"]
    assert make_plan(settings, [wider]).exit_code == 0


def test_a_config_changed_by_hand_is_drift_that_apply_takes_back(
    settings: Settings, name: str, admin: KafkaAdminClient
) -> None:
    frozen = contract(name, config={"retention.ms": 1000})
    applied(settings, frozen)
    _alter(admin, f"{name}-in", "retention.ms", "1000", "5000")
    plan = make_plan(settings, [frozen])
    assert [each.arguments["changes"] for each in plan.actions] == [{"retention.ms": ["5000", "1000"]}]
    apply_plan(settings, plan, by="tests")
    assert read_topics(admin, [f"{name}-in"])[f"{name}-in"].configs["retention.ms"].value == "1000"


def test_a_value_that_the_broker_would_not_take_is_refused_before_anything_is_done(
    settings: Settings, name: str
) -> None:
    plan = make_plan(settings, [contract(name, config={"cleanup.policy": "shred"})])
    assert [each.code for each in plan.refusals] == ["broker_refused"]
    assert "shred" in plan.refusals[0].message
    with pytest.raises(RefusedError, match="nothing was changed"):
        apply_plan(settings, plan, by="tests")
    assert make_plan(settings, [contract(name)]).actions[0].kind == "create_topic"


def test_more_replicas_than_brokers_are_refused_in_the_plan(settings: Settings, name: str) -> None:
    frozen = contract(name)
    three = freeze(
        frozen.contract,
        topics=frozen.topics,
        replication=3,
        outputs=frozen.outputs,
        env="local",
        headgate_version="0",
    )
    assert [each.code for each in make_plan(settings, [three]).refusals] == ["broker_refused"]


def test_fewer_partitions_are_refused(settings: Settings, name: str) -> None:
    applied(settings, contract(name, partitions=3))
    plan = make_plan(settings, [contract(name, partitions=2)])
    assert [each.code for each in plan.refusals] == ["partition_decrease"]
    assert plan.exit_code == 3


def _alter(admin: KafkaAdminClient, topic: str, key: str, old: str, new: str) -> None:
    change = {"topic": topic, "changes": {key: [old, new]}}
    carry_out_topic(admin, Action("change_config", f"topic {topic}", "", "", "", change))


def test_a_plan_whose_ground_moved_is_not_carried_out(
    settings: Settings, name: str, admin: KafkaAdminClient
) -> None:
    applied(settings, contract(name))
    plan = make_plan(settings, [contract(name, partitions=4)])
    _alter(admin, f"{name}-in", "message.timestamp.type", "LogAppendTime", "CreateTime")
    with pytest.raises(PlanChangedError, match="CreateTime"):
        apply_plan(settings, plan, by="tests")
    assert read_topics(admin, [f"{name}-in"])[f"{name}-in"].partitions == 2


def test_a_plan_that_stopped_half_way_goes_on(
    settings: Settings, name: str, admin: KafkaAdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(settings, [contract(name)])

    def breaks(tables: Path, action: Action) -> None:
        raise ServiceError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("headgate.topics.apply.carry_out_table", breaks)
        with pytest.raises(ServiceError, match="disk"):
            apply_plan(settings, plan, by="tests")
    assert f"{name}-in" in read_topics(admin, [f"{name}-in"])
    assert ContractStore(settings.state).applied() == {}
    outcome = apply_plan(settings, Plan.from_json(json.loads(json.dumps(plan.to_json()))), by="tests")
    assert "create_table" in [each.kind for each in outcome.done]
    assert "create_topic" not in [each.kind for each in outcome.done]
    assert make_plan(settings, [contract(name)]).exit_code == 0


def test_a_topic_made_anew_is_told_from_the_one_that_was_read(
    settings: Settings, name: str, admin: KafkaAdminClient, poll_until: Callable[..., Any]
) -> None:
    frozen = contract(name)
    applied(settings, frozen)
    admin.delete_topics([f"{name}-in"])
    poll_until(lambda: not read_topics(admin, [f"{name}-in"]), 120, "the topic is gone")
    _claim_history(settings, name)
    assert [each.code for each in make_plan(settings, [frozen]).refusals] == ["topic_deleted"]
    admin.create_topics(
        {f"{name}-in": {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True
    )
    plan = make_plan(settings, [frozen])
    assert [each.code for each in plan.refusals] == ["topic_recreated"]


def _claim_history(settings: Settings, name: str) -> None:
    """As if the record query had committed a batch."""
    layout = CheckpointLayout(settings.checkpoints, name)
    commits = layout.query("1-a", "records") / "commits"
    commits.mkdir(parents=True)
    (commits / "0").write_text("v1\n{}")
    layout.current.write_text("1-a\n")


def test_two_applies_do_not_interleave(settings: Settings, name: str) -> None:
    plan = make_plan(settings, [contract(name)])
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(apply_plan(settings, plan, by="tests"))
        except PlanChangedError as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(len(each.done) for each in results) == [0, 4]


def test_an_apply_that_waits_too_long_names_the_other_one(settings: Settings, name: str) -> None:
    from headgate.topics.apply import apply_lock

    plan = make_plan(settings, [contract(name)])
    with apply_lock(settings, 0), pytest.raises(RefusedError, match="another apply is running: process"):
        apply_plan(settings, plan, by="tests", lock_seconds=0.2)
