from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from headgate.contract.frozen import FrozenContract, with_lane
from headgate.errors import UsageError
from headgate.topics.differences import Action, Refusal
from headgate.topics.plan import Plan, difference
from headgate.topics.state import Live, seen_by
from headgate.topics.tables import QUARANTINE_SCHEMA, LiveTable
from headgate.topics.topics import LiveConfig, LiveTopic

MakeContract = Callable[..., FrozenContract]
MakeLive = Callable[..., Live]

BROKER_DEFAULTS = {
    "cleanup.policy": "delete",
    "message.timestamp.type": "CreateTime",
    "min.insync.replicas": "1",
    "retention.ms": "604800000",
    "segment.bytes": "1073741824",
}
BY_FIVE_MINUTES = (
    "SELECT window.start AS minute, level, count(*) AS lines FROM a GROUP BY window(ts, '5 minutes'), level"
)
OTHER_AGGREGATE = (
    "SELECT window.start AS minute, level, count(size) AS lines FROM a GROUP BY window(ts, '1 minute'), level"
)


def plan_of(
    *contracts: FrozenContract, live: Live, removed: Sequence[str] = ()
) -> tuple[list[Action], list[Refusal]]:
    files = {each.pipeline: f"{each.pipeline}.yaml" for each in contracts}
    actions, refusals, _ = difference(contracts, live, files=files, removed=removed)
    return actions, refusals


def topic(partitions: int = 4, *, topic_id: str = "id-1", replication: int = 1, **configs: str) -> LiveTopic:
    values = {key: LiveConfig(value, on_topic=False) for key, value in BROKER_DEFAULTS.items()}
    set_here = {"message.timestamp.type": "LogAppendTime", **configs}
    values |= {key.replace("_", "."): LiveConfig(value, on_topic=True) for key, value in set_here.items()}
    return LiveTopic(topic_id, partitions, replication, values)


def carried_out(live: Live, actions: Sequence[Action], contracts: Sequence[FrozenContract]) -> Live:
    """The model of the cluster: what is there after the actions."""
    topics, tables = dict(live.topics), dict(live.tables)
    remembered, owners, stored = dict(live.remembered), dict(live.owners), dict(live.applied)
    for action in actions:
        if action.address.startswith("topic"):
            _change_topic(topics, action)
        elif action.address.startswith("table"):
            _change_table(tables, action)
        else:
            stored[action.pipeline] = next(c for c in contracts if c.pipeline == action.pipeline)
    for contract in contracts:
        for name in contract.topics.values():
            remembered[name] = topics[name].topic_id
            owners.setdefault(name, contract.pipeline)
    return replace(live, topics=topics, tables=tables, remembered=remembered, owners=owners, applied=stored)


def _change_topic(topics: dict[str, LiveTopic], action: Action) -> None:
    arguments = action.arguments
    name = arguments["topic"]
    if action.kind == "create_topic":
        assert name not in topics
        configs = {key: LiveConfig(value, on_topic=False) for key, value in BROKER_DEFAULTS.items()}
        configs |= {key: LiveConfig(value, on_topic=True) for key, value in arguments["configs"].items()}
        topics[name] = LiveTopic("id-new", arguments["partitions"], arguments["replication"], configs)
    elif action.kind == "add_partitions":
        assert arguments["to"] > arguments["from"] == topics[name].partitions
        topics[name] = replace(topics[name], partitions=arguments["to"])
    elif action.kind == "change_config":
        changed = dict(topics[name].configs)
        for key, (old, new) in arguments["changes"].items():
            assert changed[key].value == old
            changed[key] = LiveConfig(BROKER_DEFAULTS[key] if new is None else new, on_topic=new is not None)
        topics[name] = replace(topics[name], configs=changed)


def _change_table(tables: dict[str, LiveTable], action: Action) -> None:
    arguments = action.arguments
    address = f"{action.pipeline}/{arguments['table']}"
    if action.kind == "create_table":
        assert address not in tables
        tables[address] = LiveTable(
            "id", arguments["schema"], tuple(arguments["partition_by"]), arguments["properties"]
        )
    else:
        fields = [*tables[address].schema["fields"], *arguments["columns"]]
        tables[address] = replace(tables[address], schema={"type": "struct", "fields": fields})


def applied(contract: FrozenContract, live: Live, *, committed: Sequence[str] = ()) -> Live:
    actions, refusals = plan_of(contract, live=live)
    assert refusals == []
    after = carried_out(live, actions, [contract])
    return replace(after, committed={contract.pipeline: frozenset(committed)})


def codes(refusals: Sequence[Refusal]) -> list[str]:
    return [each.code for each in refusals]


def test_a_new_contract_creates_its_topic_its_tables_and_is_stored_last(
    contract: MakeContract, nothing_there: MakeLive
) -> None:
    actions, refusals = plan_of(contract(), live=nothing_there())
    assert refusals == []
    assert [(each.kind, each.address) for each in actions] == [
        ("create_topic", "topic lines"),
        ("create_table", "table logs/per_minute"),
        ("create_table", "table logs/_quarantine"),
        ("put_contract", "contract logs"),
    ]
    assert actions[2].arguments["schema"] == QUARANTINE_SCHEMA


def test_the_brokers_clock_makes_the_timestamp_unless_the_contract_says_otherwise(
    contract: MakeContract, nothing_there: MakeLive
) -> None:
    (create, *_), _ = plan_of(contract(), live=nothing_there())
    assert create.arguments["configs"] == {"message.timestamp.type": "LogAppendTime"}
    said = contract(config={"message.timestamp.type": "CreateTime", "retention.ms": 1000})
    (create, *_), _ = plan_of(said, live=nothing_there())
    assert create.arguments["configs"] == {"message.timestamp.type": "CreateTime", "retention.ms": "1000"}


CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "retention.ms": st.integers(1, 10**12),
        "cleanup.policy": st.sampled_from(["delete", "compact", "compact, delete"]),
        "segment.bytes": st.integers(2**20, 2**30).map(float),
        "message.timestamp.type": st.sampled_from(["CreateTime", "LogAppendTime"]),
    },
)
MORE_COLUMNS = st.dictionaries(
    st.sampled_from(["x", "y", "z"]),
    st.sampled_from(
        ["string", "double", "decimal(10,2)", {"type": "array", "elementType": "long", "containsNull": False}]
    ),
)


@given(
    first=st.tuples(st.integers(1, 12), CONFIGS, MORE_COLUMNS),
    then=st.lists(st.tuples(st.integers(1, 12), CONFIGS, MORE_COLUMNS), max_size=3),
    tampered=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_was_applied_plans_to_nothing(
    contract: MakeContract, nothing_there: MakeLive, first: Any, then: list[Any], tampered: bool
) -> None:
    live = nothing_there()
    for version, (partitions, config, more) in enumerate([first, *then], start=1):
        columns = {"minute": "timestamp", "level": "string", "lines": "long", **more}
        wanted = contract(version=version, partitions=partitions, config=config, columns=columns)
        actions, refusals = plan_of(wanted, live=live)
        if refusals:
            shrunk = "lines" in live.topics and live.topics["lines"].partitions > partitions
            assert shrunk or {"column_dropped", "type_changed"} & set(codes(refusals))
            continue
        live = carried_out(live, actions, [wanted])
        assert plan_of(wanted, live=live) == ([], [])
        if tampered:
            configs = {
                **live.topics["lines"].configs,
                "message.timestamp.type": LiveConfig("CreateTime", False),
            }
            drifted = replace(live, topics={"lines": replace(live.topics["lines"], configs=configs)})
            actions, _ = plan_of(wanted, live=drifted)
            assert bool(actions) == (config.get("message.timestamp.type") != "CreateTime")
            assert plan_of(wanted, live=carried_out(drifted, actions, [wanted])) == ([], [])


@given(have=st.integers(1, 50), wanted=st.integers(1, 50))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_partitions_are_added_and_never_taken_away(
    contract: MakeContract, nothing_there: MakeLive, have: int, wanted: int
) -> None:
    assume(have != wanted)
    live = nothing_there(topics={"lines": topic(have)})
    actions, refusals = plan_of(contract(partitions=wanted), live=live)
    asked = [each.arguments for each in actions if each.kind == "add_partitions"]
    if wanted > have:
        assert asked == [{"topic": "lines", "from": have, "to": wanted}]
    else:
        assert asked == []
        assert codes(refusals) == ["partition_decrease"]


@pytest.mark.parametrize(
    ("change", "live_topic", "code"),
    [
        ({"replication": 3}, topic(replication=1), "replication_change"),
        ({"config": {"min.insync.replicas": 2}}, topic(), "min_insync_replicas"),
        ({"config": {"min.insync.replicas": 2}}, None, "min_insync_replicas"),
        ({"config": {"unclean.leader.election.enable": True}}, topic(), "unknown_config"),
    ],
)
def test_what_a_topic_cannot_become_is_refused_and_nothing_is_done_to_it(
    contract: MakeContract, nothing_there: MakeLive, change: Any, live_topic: LiveTopic | None, code: str
) -> None:
    live = nothing_there(topics={"lines": live_topic} if live_topic else {})
    actions, refusals = plan_of(contract(**change), live=live)
    assert codes(refusals) == [code]
    assert refusals[0].help
    assert not [each for each in actions if each.address == "topic lines"]


def test_a_config_that_left_the_contract_goes_back_to_the_brokers_default(
    contract: MakeContract, nothing_there: MakeLive
) -> None:
    live = applied(contract(config={"retention.ms": 1000}), nothing_there())
    actions, _ = plan_of(contract(), live=live)
    assert actions[0].arguments["changes"] == {"retention.ms": ["1000", None]}


def test_a_config_that_somebody_else_set_is_told_and_stays(
    contract: MakeContract, nothing_there: MakeLive
) -> None:
    live = applied(contract(), nothing_there())
    theirs = {**live.topics["lines"].configs, "segment.bytes": LiveConfig("1", on_topic=True)}
    live = replace(live, topics={"lines": replace(live.topics["lines"], configs=theirs)})
    actions, refusals, notes = difference([contract()], live, files={})
    assert (actions, refusals) == ([], [])
    assert [note.code for note in notes] == ["config_drift"]
    assert "segment.bytes=1" in notes[0].message


def test_a_topic_made_anew_under_a_stream_is_refused_with_the_choices(
    contract: MakeContract, nothing_there: MakeLive
) -> None:
    live = applied(contract(), nothing_there(), committed=["records"])
    live = replace(live, topics={"lines": topic(topic_id="another")})
    actions, refusals = plan_of(contract(), live=live)
    assert (actions, codes(refusals)) == ([], ["topic_recreated"])
    gone = replace(live, topics={})
    actions, refusals = plan_of(contract(), live=gone)
    assert (actions, codes(refusals)) == ([], ["topic_deleted"])
    assert "<checkpoints>/logs" in refusals[0].help


def test_a_topic_made_anew_before_anything_was_read_is_adopted(
    contract: MakeContract, nothing_there: MakeLive
) -> None:
    live = replace(applied(contract(), nothing_there()), topics={"lines": topic(topic_id="another")})
    actions, refusals = plan_of(contract(), live=live)
    assert refusals == []
    assert [each.kind for each in actions] == ["adopt_topic"]


def test_readers_share_a_topic_that_one_of_them_provisions(
    contract: MakeContract, nothing_there: MakeLive
) -> None:
    live = applied(contract("logs", partitions=4, config={"retention.ms": 1000}), nothing_there())
    reader = contract("alerts", partitions=1)
    actions, refusals, notes = difference([reader], live, files={})
    assert refusals == []
    assert not [each for each in actions if each.address.startswith("topic")]
    assert [note.code for note in notes] == ["topic_shared"]
    greedy = contract("alerts", partitions=8, config={"retention.ms": 2000})
    _, refusals = plan_of(greedy, live=live)
    assert codes(refusals) == ["topic_owned"]
    assert "8 partitions, retention.ms 2000" in refusals[0].message


def test_a_published_key_has_one_owner_and_the_newcomer_is_refused(
    contract: MakeContract, nothing_there: MakeLive
) -> None:
    live = applied(contract("logs", redis="latest"), nothing_there())
    actions, refusals = plan_of(contract("alerts", topic="other", redis="latest"), live=live)
    assert codes(refusals) == ["key_owned"]
    assert "logs/per_minute" in refusals[0].message
    assert actions[-1].pipeline == "alerts"


def test_new_columns_are_added_to_the_table_and_to_nothing_else(
    contract: MakeContract, nothing_there: MakeLive
) -> None:
    live = applied(contract(), nothing_there())
    wider = contract(columns={"minute": "timestamp", "level": "string", "lines": "long", "host": "string"})
    actions, refusals = plan_of(wider, live=live)
    assert refusals == []
    assert [each.kind for each in actions] == ["add_columns", "put_contract"]
    (column,) = actions[0].arguments["columns"]
    assert column == {"name": "host", "type": "string", "nullable": True, "metadata": {}}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"columns": {"minute": "timestamp", "lines": "long"}}, "column_dropped"),
        ({"columns": {"minute": "timestamp", "level": "string", "lines": "double"}}, "type_changed"),
        ({"key": ("minute",)}, "key_changed"),
        ({"key": ()}, "key_changed"),
        ({"partition_by": ("level",)}, "partitioning_changed"),
    ],
)
def test_a_table_does_not_become_incompatible_whatever_the_version_says(
    contract: MakeContract, nothing_there: MakeLive, change: Any, code: str
) -> None:
    live = applied(contract(), nothing_there())
    actions, refusals = plan_of(contract(version=2, **change), live=live)
    assert code in codes(refusals)
    assert not [each for each in actions if each.address.startswith("table")]


@pytest.mark.parametrize("kind", ["timestamp_ntz", "void", "variant", "interval day to second"])
def test_a_type_that_not_every_reader_knows_is_refused(
    contract: MakeContract, nothing_there: MakeLive, kind: str
) -> None:
    nested = {"type": "array", "elementType": kind, "containsNull": True}
    for each in (kind, nested):
        _, refusals = plan_of(contract(columns={"minute": "timestamp", "x": each}), live=nothing_there())
        assert codes(refusals) == ["type_not_portable"]
        assert kind in refusals[0].message


def test_a_table_of_somebody_else_is_left_alone(contract: MakeContract, nothing_there: MakeLive) -> None:
    live = applied(contract(), nothing_there())
    table = live.tables["logs/per_minute"]
    theirs = replace(table, properties={**table.properties, "headgate.pipeline": "alerts"})
    _, refusals = plan_of(contract(), live=replace(live, tables={**live.tables, "logs/per_minute": theirs}))
    assert codes(refusals) == ["table_owned"]


def test_a_folder_that_cannot_be_read_as_a_table_is_refused(
    contract: MakeContract, nothing_there: MakeLive
) -> None:
    live = nothing_there(tables={"logs/per_minute": LiveTable(problem="holds files and is no Delta table")})
    _, refusals = plan_of(contract(), live=live)
    assert codes(refusals) == ["table_unreadable"]


@pytest.mark.parametrize(
    "change",
    [
        {"columns": {"minute": "timestamp", "lines": "long"}},
        {"columns": {"minute": "timestamp", "level": "string", "lines": "double"}},
        {"key": ("minute",)},
        {"output": "other", "table": "other"},
        {"sql": BY_FIVE_MINUTES},
    ],
)
def test_a_change_that_breaks_readers_needs_a_new_version(
    contract: MakeContract, nothing_there: MakeLive, change: Any
) -> None:
    live = applied(contract(), nothing_there())
    _, refusals = plan_of(contract(**change), live=live)
    assert "version_needed" in codes(refusals)
    _, refusals = plan_of(contract(version=2, **change), live=live)
    assert "version_needed" not in codes(refusals)


def test_another_lane_of_auto_is_a_change_that_the_plan_tells(
    contract: MakeContract, nothing_there: MakeLive
) -> None:
    live = applied(with_lane(contract(), "jvm"), nothing_there())
    actions, refusals = plan_of(with_lane(contract(), "arrow"), live=live)
    assert refusals == []
    assert [(each.kind, each.reason) for each in actions] == [
        ("put_contract", "the lane of its records, which it leaves open, is arrow now")
    ]


def test_another_feed_of_windows_is_a_change_that_the_plan_tells(
    contract: MakeContract, nothing_there: MakeLive
) -> None:
    live = applied(with_lane(contract(), "arrow"), nothing_there())
    actions, _ = plan_of(with_lane(contract(), "arrow", {"sums": "arrow", "more": "jvm"}), live=live)
    assert [each.reason for each in actions] == [
        "the lane in which records are read, which it leaves open, is arrow for sums now"
    ]


def test_an_older_version_is_refused(contract: MakeContract, nothing_there: MakeLive) -> None:
    live = applied(contract(version=3), nothing_there())
    _, refusals = plan_of(contract(version=2), live=live)
    assert codes(refusals) == ["version_lowered"]


@pytest.mark.parametrize(
    "change",
    [
        {"sql": BY_FIVE_MINUTES},
        {"sql": OTHER_AGGREGATE},
        {"types": {"ts": "timestamp", "level": "int", "size": "long"}},
        {"topic": "elsewhere"},
    ],
)
def test_state_that_would_not_fit_is_refused_once_something_was_committed(
    contract: MakeContract, nothing_there: MakeLive, change: Any
) -> None:
    before = applied(contract(), nothing_there())
    changed = contract(**change)
    _, refusals = plan_of(changed, live=before)
    assert "state_does_not_fit" not in codes(refusals)
    running = replace(before, committed={"logs": frozenset({"records", "per_minute"})})
    _, refusals = plan_of(changed, live=running)
    refused = next(each for each in refusals if each.code == "state_does_not_fit")
    assert (
        "write version: 2 and apply, then begin a new lineage: headgate restart logs --from" in refused.help
    )


@pytest.mark.parametrize(
    "change", [{"sql": BY_FIVE_MINUTES}, {"sql": OTHER_AGGREGATE}, {"topic": "elsewhere"}]
)
def test_under_a_new_version_state_that_would_not_fit_is_told_with_the_road_and_applied(
    contract: MakeContract, nothing_there: MakeLive, change: Any
) -> None:
    running = applied(contract(), nothing_there(), committed=["records", "per_minute"])
    changed = contract(version=2, **change)
    actions, refusals, notes = difference([changed], running, files={})
    assert "state_does_not_fit" not in codes(refusals)
    if not refusals:
        assert "put_contract" in [each.kind for each in actions]
    told = [each for each in notes if each.code == "state_does_not_fit"]
    assert told[-1].address == "checkpoint logs/per_minute"
    assert "headgate restart logs --from earliest begins a new lineage" in told[-1].message
    # Only by that version: the next change of the state needs another one.
    _, refusals = plan_of(
        contract(version=2), live=applied(changed, running, committed=["records", "per_minute"])
    )
    assert "state_does_not_fit" in codes(refusals)


def test_a_filter_a_rule_or_a_trigger_changes_no_state(
    contract: MakeContract, nothing_there: MakeLive
) -> None:
    live = applied(contract(), nothing_there(), committed=["records", "per_minute"])
    filtered = (
        "SELECT window.start AS minute, level, count(*) AS lines FROM a WHERE level <> 'DEBUG' "
        "GROUP BY window(ts, '1 minute'), level"
    )
    actions, refusals = plan_of(contract(sql=filtered), live=live)
    assert refusals == []
    assert [each.kind for each in actions] == ["put_contract"]


def test_a_removed_file_is_told_and_changes_nothing(contract: MakeContract, nothing_there: MakeLive) -> None:
    live = applied(contract(), nothing_there())
    actions, refusals, notes = difference([], live, files={}, removed=["logs"])
    assert (actions, refusals) == ([], [])
    assert [note.code for note in notes] == ["contract_removed"]


def _sealed(contract: FrozenContract, live: Live) -> Plan:
    actions, refusals, notes = difference([contract], live, files={"logs": "logs.yaml"})
    return Plan(
        env="local",
        cluster_id="c",
        contracts=(contract,),
        files={"logs": "logs.yaml"},
        changes={"logs": "new"},
        actions=tuple(actions),
        refusals=tuple(refusals),
        seen=seen_by([contract], live),
        notes=tuple(notes),
    ).sealed()


def test_a_plan_survives_its_file_with_the_same_hash(contract: MakeContract, nothing_there: MakeLive) -> None:
    plan = _sealed(contract(config={"retention.ms": 1.0}), nothing_there(topics={"lines": topic(2)}))
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert (
        again.hash
        == plan.hash
        == _sealed(contract(config={"retention.ms": 1.0}), nothing_there(topics={"lines": topic(2)})).hash
    )
    assert again.actions == plan.actions
    assert again.contracts[0].hash == plan.contracts[0].hash
    assert plan.exit_code == 2


def test_an_edited_plan_file_is_not_carried_out(contract: MakeContract, nothing_there: MakeLive) -> None:
    data = _sealed(contract(), nothing_there()).to_json()
    data["actions"][0]["arguments"]["partitions"] = 99
    with pytest.raises(UsageError, match="changed after it was made"):
        Plan.from_json(data)
    with pytest.raises(UsageError, match="not a plan"):
        Plan.from_json({"format": 7})


def test_another_topic_id_or_table_makes_another_plan(
    contract: MakeContract, nothing_there: MakeLive
) -> None:
    one = _sealed(contract(), nothing_there(topics={"lines": topic(2)}))
    other = _sealed(contract(), nothing_there(topics={"lines": topic(2, topic_id="id-2")}))
    assert one.hash != other.hash
