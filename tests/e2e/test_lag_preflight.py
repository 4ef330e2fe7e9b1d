"""Lag and preflight from checkpoints on disk against a real broker; no driver runs."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from spark_checkpoint import committed_batch

from headgate.checkpoints.books import Totals, write_page
from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.lineage import begin_lineage, note_contract
from headgate.checkpoints.preflight import Finding, preflight, refusal
from headgate.contract.frozen import ContractStore, FrozenContract, ResolvedOutput, freeze
from headgate.contract.model import Contract
from headgate.settings import Settings
from headgate.streams.model import FailureClass
from headgate.streams.store import StateStore
from headgate.topics.apply import apply_plan
from headgate.topics.begin import first_origin
from headgate.topics.kafka import admin_client, client_options
from headgate.topics.lag import stream_lag
from headgate.topics.plan import make_plan
from spark.starts import query_starts


@pytest.fixture
def settings(service_settings: Settings, broker: object, tmp_path: Path) -> Settings:
    roots = service_settings.roots.model_copy(update={"state": str(tmp_path / "state")})
    return service_settings.model_copy(update={"roots": roots})


@pytest.fixture
def admin(settings: Settings) -> Iterator[KafkaAdminClient]:
    with admin_client(settings) as client:
        yield client


@pytest.fixture
def frozen(request: pytest.FixtureRequest) -> FrozenContract:
    start = getattr(request, "param", "earliest")
    name = "l-" + str(abs(hash(request.node.nodeid)))[:12]
    model = Contract.model_validate(
        {
            "headgate": 1,
            "pipeline": name,
            "version": 1,
            "owner": "tests",
            "sources": {
                "a": {
                    "topic": f"{name}-in",
                    "partitions": 2,
                    "start": start,
                    "columns": [{"name": "ts", "type": "timestamp"}],
                }
            },
            "outputs": {
                "counts": {
                    "sql": "SELECT ts, count(*) AS n FROM a GROUP BY ts",
                    "mode": "update",
                    "key": ["ts"],
                    "to": [{"delta": "counts"}],
                }
            },
        }
    )
    fields = [("ts", "timestamp"), ("n", "long")]
    schema = {
        "type": "struct",
        "fields": [{"name": n, "type": t, "nullable": True, "metadata": {}} for n, t in fields],
    }
    return freeze(
        model,
        topics={"a": f"{name}-in"},
        replication=1,
        outputs={"counts": ResolvedOutput(True, schema, "ts", 0.0, "n")},
        env="local",
        headgate_version="0",
    )


def provision(settings: Settings, frozen: FrozenContract) -> None:
    apply_plan(settings, make_plan(settings, [frozen]), by="tests")


def send(settings: Settings, topic: str, counts: Mapping[int, int]) -> None:
    with closing(KafkaProducer(**client_options(settings))) as producer:
        for partition, count in counts.items():
            for number in range(count):
                producer.send(topic, b"%d" % number, partition=partition)
        producer.flush()


def commit(
    settings: Settings,
    frozen: FrozenContract,
    query: str,
    batch_id: int,
    offsets: Any,
    *,
    conf: Mapping[str, str] | None = None,
) -> Path:
    """What Spark leaves of a committed batch; the first call begins the lineage."""
    layout = CheckpointLayout(settings.checkpoints, frozen.pipeline)
    if layout.current_lineage() is None:
        begin_lineage(layout, contract_hash=frozen.hash, spark_version="4.2.0", at=time.time())
    lineage = layout.current_lineage()
    assert lineage is not None
    folder = layout.query(lineage, query)
    if query == RECORDS:
        write_page(layout.books(lineage), batch_id, Totals())
    committed_batch(folder, batch_id, frozen.topics["a"], offsets, conf=conf or {}, stateful=query != RECORDS)
    return folder


def refusals(findings: list[Finding]) -> list[str]:
    return [each.code for each in findings if each.severity == "refuse"]


def test_before_the_first_commit_everything_from_the_start_is_unread(
    settings: Settings, frozen: FrozenContract
) -> None:
    provision(settings, frozen)
    send(settings, frozen.topics["a"], {0: 3, 1: 2})
    lag = stream_lag(settings, frozen)
    assert lag.problems == ()
    assert {name: query.records for name, query in lag.queries.items()} == {"records": 5, "counts": 5}
    assert [each.committed for each in lag.queries["records"].partitions] == [None, None]
    assert lag.seconds is not None
    assert 0 <= lag.seconds < 300


@pytest.mark.parametrize("frozen", ["latest"], indirect=True)
def test_before_the_first_commit_of_a_stream_that_begins_at_the_end_nothing_is_unread(
    settings: Settings, frozen: FrozenContract
) -> None:
    provision(settings, frozen)
    send(settings, frozen.topics["a"], {0: 3})
    lag = stream_lag(settings, frozen)
    assert (lag.records, lag.seconds) == (0, 0.0)


@pytest.mark.parametrize("frozen", ["latest"], indirect=True)
def test_a_stream_that_began_at_the_end_and_has_not_committed_is_behind_what_came_since(
    settings: Settings, frozen: FrozenContract
) -> None:
    provision(settings, frozen)
    send(settings, frozen.topics["a"], {0: 3})
    layout = CheckpointLayout(settings.checkpoints, frozen.pipeline)
    lineage = begin_lineage(layout, contract_hash=frozen.hash, spark_version="4.2.0", at=time.time()).id
    noted = layout.query(lineage, "records") / "sources" / "a" / "0"
    noted.parent.mkdir(parents=True)
    noted.write_text("\0v1\n" + json.dumps({frozen.topics["a"]: {"0": 1, "1": 0}}))
    lag = stream_lag(settings, frozen)
    assert {name: query.records for name, query in lag.queries.items()} == {"records": 2, "counts": 0}


def test_a_damaged_checkpoint_gives_a_problem_and_no_number(
    settings: Settings, frozen: FrozenContract
) -> None:
    provision(settings, frozen)
    folder = commit(settings, frozen, "records", 0, {0: 0, 1: 0})
    (folder / "offsets" / "0").write_text("")
    lag = stream_lag(settings, frozen)
    assert set(lag.queries) == {"counts"}
    assert lag.problems[0].startswith("query records: ")


def test_lag_is_what_each_query_has_not_committed(settings: Settings, frozen: FrozenContract) -> None:
    provision(settings, frozen)
    send(settings, frozen.topics["a"], {0: 10, 1: 4})
    commit(settings, frozen, "records", 0, {0: 10, 1: 4})
    commit(settings, frozen, "counts", 0, {0: 7, 1: 4})
    lag = stream_lag(settings, frozen)
    assert {name: query.records for name, query in lag.queries.items()} == {"records": 0, "counts": 3}
    assert lag.queries["records"].seconds == 0.0
    (behind,) = [each for each in lag.queries["counts"].partitions if each.records]
    assert (behind.partition, behind.committed, behind.end) == (0, 7, 10)
    assert behind.seconds is not None
    assert lag.records == 3


def test_the_age_is_that_of_the_oldest_unread_record(settings: Settings, frozen: FrozenContract) -> None:
    said = frozen.contract.model_copy(
        update={
            "sources": {
                "a": frozen.contract.sources["a"].model_copy(
                    update={"config": {"message.timestamp.type": "CreateTime"}}
                )
            }
        }
    )
    theirs = freeze(
        said, topics=frozen.topics, replication=1, outputs=frozen.outputs, env="local", headgate_version="0"
    )
    provision(settings, theirs)
    now = int(time.time() * 1000)
    with closing(KafkaProducer(**client_options(settings))) as producer:
        for age in (500_000, 300_000, 1_000):
            producer.send(frozen.topics["a"], b"x", partition=0, timestamp_ms=now - age)
        producer.flush()
    commit(settings, frozen, "records", 0, {0: 1, 1: 0})
    commit(settings, frozen, "counts", 0, {0: 2, 1: 0})
    lag = stream_lag(settings, theirs)
    records, counts = lag.queries["records"].seconds, lag.queries["counts"].seconds
    assert records is not None and counts is not None
    assert 300 <= records < 400
    assert 1 <= counts < 100


def test_a_missing_topic_is_told_and_raises_nothing(settings: Settings, frozen: FrozenContract) -> None:
    lag = stream_lag(settings, frozen)
    assert lag.problems == (f"topic {frozen.topics['a']} is not there",)
    assert lag.records == 0


def test_records_that_retention_took_are_told_with_their_offsets(
    settings: Settings, frozen: FrozenContract, admin: KafkaAdminClient
) -> None:
    provision(settings, frozen)
    topic = frozen.topics["a"]
    send(settings, topic, {0: 10, 1: 4})
    commit(settings, frozen, "records", 0, {0: 2, 1: 4})
    commit(settings, frozen, "counts", 0, {0: 10, 1: 4})
    admin.delete_records({TopicPartition(topic, 0): 6})
    lag = stream_lag(settings, frozen)
    assert lag.queries["records"].records == 4
    assert lag.problems == (
        f"query records: {topic}/0 lost offsets 2 to 5 to retention before they were read",
    )
    (lost,) = [each for each in preflight(settings, frozen) if each.severity == "refuse"]
    assert lost.code == "retention_passed"
    assert "4 records" in lost.message
    assert "partition 0 offsets 2 to 5" in lost.message
    assert lost.choices


def test_a_stream_that_fits_may_start(settings: Settings, frozen: FrozenContract) -> None:
    provision(settings, frozen)
    assert refusals(preflight(settings, frozen)) == []
    send(settings, frozen.topics["a"], {0: 10, 1: 4})
    commit(settings, frozen, "records", 0, {0: 10, 1: 4})
    commit(settings, frozen, "records", 1, {0: 10, 1: 4})
    findings = preflight(settings, frozen)
    assert refusals(findings) == []
    assert {each.code for each in findings} == {"topic", "table", "checkpoint", "offsets", "query_new"}


def test_without_topic_and_tables_it_may_not(settings: Settings, frozen: FrozenContract) -> None:
    assert refusals(preflight(settings, frozen)) == ["topic_missing", "table_missing", "table_missing"]


def test_a_topic_with_another_id_is_refused(settings: Settings, frozen: FrozenContract) -> None:
    provision(settings, frozen)
    with closing(StateStore(settings.store_url)) as store:
        store.remember_topic(frozen.topics["a"], "another-id", frozen.pipeline)
    assert refusals(preflight(settings, frozen)) == ["topic_recreated"]


def test_offsets_beyond_the_end_and_partitions_that_are_gone_are_refused(
    settings: Settings, frozen: FrozenContract
) -> None:
    provision(settings, frozen)
    send(settings, frozen.topics["a"], {0: 3})
    commit(settings, frozen, "records", 0, {0: 9, 1: 0, 2: 5})
    findings = preflight(settings, frozen)
    assert refusals(findings) == ["partitions_lost", "offsets_ahead"]
    assert "partition 0 offsets 3 to 8" in findings[-2].message


@pytest.mark.parametrize(
    "damage", ["cut", "empty", "gap", "uncommitted", "metadata", "no metadata", "commit cut", "books"]
)
def test_a_damaged_checkpoint_is_refused(settings: Settings, frozen: FrozenContract, damage: str) -> None:
    provision(settings, frozen)
    send(settings, frozen.topics["a"], {0: 3})
    for batch in range(3):
        folder = commit(settings, frozen, RECORDS, batch, {0: batch, 1: 0})
    if damage == "cut":
        (folder / "offsets" / "2").write_text("v1\n{")
    elif damage == "empty":
        (folder / "offsets" / "2").write_text("")
    elif damage == "gap":
        (folder / "offsets" / "1").unlink()
    elif damage == "metadata":
        (folder / "metadata").write_text('{"id"')
    elif damage == "no metadata":
        (folder / "metadata").unlink()
    elif damage == "commit cut":
        (folder / "commits" / "2").write_text("v1\n")
    elif damage == "books":
        (folder.parent.parent / "books" / "2.json").unlink()
    else:
        (folder / "offsets" / "3").write_text("")
    assert refusals(preflight(settings, frozen)) == ["checkpoint_unreadable"]


def test_a_checkpoint_of_another_pipeline_is_refused(settings: Settings, frozen: FrozenContract) -> None:
    provision(settings, frozen)
    commit(settings, frozen, "records", 0, {0: 0, 1: 0})
    layout = CheckpointLayout(settings.checkpoints, frozen.pipeline)
    lineage = layout.current_lineage()
    assert lineage is not None
    path = layout.lineage(lineage) / "lineage.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pipeline": "another"}))
    assert refusals(preflight(settings, frozen)) == ["checkpoint_foreign"]
    path.unlink()
    assert refusals(preflight(settings, frozen)) == ["checkpoint_foreign"]


def test_a_stateful_query_whose_state_is_gone_is_refused(settings: Settings, frozen: FrozenContract) -> None:
    provision(settings, frozen)
    send(settings, frozen.topics["a"], {0: 3})
    commit(settings, frozen, RECORDS, 0, {0: 3, 1: 0})
    folder = commit(settings, frozen, "counts", 0, {0: 3, 1: 0})
    assert refusals(preflight(settings, frozen)) == []
    shutil.rmtree(folder / "state")
    (refused,) = [each for each in preflight(settings, frozen) if each.severity == "refuse"]
    assert "holds no state" in refused.message
    assert any("--from earliest" in choice for choice in refused.choices)


def test_a_checkpoint_that_is_gone_under_tables_with_its_batches_is_refused(
    settings: Settings, frozen: FrozenContract
) -> None:
    provision(settings, frozen)
    log = settings.tables / frozen.pipeline / "counts" / "_delta_log"
    name = f"headgate/{frozen.pipeline}/counts/counts/1-abc"
    (log / "00000000000000000001.json").write_text(
        json.dumps({"txn": {"appId": name, "version": 0}}, separators=(",", ":"))
    )
    assert refusals(preflight(settings, frozen)) == ["checkpoint_gone"]


def test_confs_that_the_offset_log_pins_are_told_and_the_format_of_the_log_is_refused(
    settings: Settings, frozen: FrozenContract
) -> None:
    provision(settings, frozen)
    send(settings, frozen.topics["a"], {0: 3})
    commit(settings, frozen, RECORDS, 0, {0: 3, 1: 0}, conf={"spark.sql.shuffle.partitions": "7"})
    (told,) = [each for each in preflight(settings, frozen) if each.severity == "warn"]
    assert (told.code, "stays 7; 2 is ignored" in told.message) == ("conf_ignored", True)
    named = "spark.sql.streaming.queryEvolution.enableSourceEvolution"
    commit(settings, frozen, RECORDS, 1, {0: 3, 1: 0}, conf={named: "false"})
    assert refusals(preflight(settings, frozen)) == ["conf_does_not_fit"]


def test_a_contract_is_compared_with_the_one_that_last_ran_on_the_checkpoint(
    settings: Settings, frozen: FrozenContract
) -> None:
    provision(settings, frozen)
    send(settings, frozen.topics["a"], {0: 3})
    commit(settings, frozen, RECORDS, 0, {0: 3, 1: 0})
    commit(settings, frozen, "counts", 0, {0: 3, 1: 0})
    other = frozen.contract.outputs["counts"].model_copy(
        update={
            "sql": "SELECT date_trunc('hour', ts) AS ts, count(*) AS n FROM a GROUP BY date_trunc('hour', ts)"
        }
    )
    changed = freeze(
        frozen.contract.model_copy(update={"outputs": {"counts": other}}),
        topics=frozen.topics,
        replication=1,
        outputs=frozen.outputs,
        env="local",
        headgate_version="0",
    )
    findings = preflight(settings, changed)
    assert refusals(findings) == ["state_does_not_fit"]
    refused = refusal(findings)
    assert refused is not None
    assert refused.failure is FailureClass.CHECKPOINT
    assert f"headgate restart {frozen.pipeline} --from earliest" in refused.text

    layout = CheckpointLayout(settings.checkpoints, frozen.pipeline)
    lineage = layout.current_lineage()
    assert lineage is not None
    note_contract(layout, lineage, "counts", changed.hash)
    assert refusals(preflight(settings, changed)) == []
    assert refusals(preflight(settings, frozen)) == ["contract_lost"]
    ContractStore(settings.state).put(changed)
    assert refusals(preflight(settings, frozen)) == ["state_does_not_fit"]


@pytest.mark.parametrize(
    ("frozen", "expected"),
    [
        ("earliest", None),
        ("latest", {"0": 3, "1": 2}),
        ({"timestamp": "2001-01-01T00:00:00Z"}, {"0": 0, "1": 0}),
        ({"timestamp": "2999-01-01T00:00:00Z"}, {"0": 3, "1": 2}),
    ],
    indirect=["frozen"],
)
def test_all_queries_of_a_first_lineage_begin_at_the_same_offsets(
    settings: Settings, frozen: FrozenContract, expected: dict[str, int] | None
) -> None:
    """Each asking Kafka for `latest` by itself, they would begin at different records."""
    provision(settings, frozen)
    send(settings, frozen.topics["a"], {0: 3, 1: 2})
    origin = first_origin(settings, frozen)
    if expected is None:
        assert origin is None
        return
    assert origin is not None
    assert origin["offsets"] == {frozen.topics["a"]: expected}
    assert origin["queries"] == ["counts", RECORDS]
    layout = CheckpointLayout(settings.checkpoints, frozen.pipeline)
    lineage = begin_lineage(layout, contract_hash=frozen.hash, spark_version="4", at=0.0, origin=origin)
    starts = query_starts(settings, frozen, lineage)
    assert starts[RECORDS] == starts["counts"]
    assert starts[RECORDS][frozen.topics["a"]] == {int(number): at for number, at in expected.items()}
