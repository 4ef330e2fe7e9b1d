"""Looks before a start: does what the checkpoint remembers still fit what is there? Changes nothing.

A stream that does not fit does not start; each refusal says which choices there are and what each costs.
Fault-matrix rows 9, 11, 17, 18 and 19 end here instead of in a failed driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kafka import TopicPartition

from headgate.checkpoints.layout import CheckpointLayout, table_path
from headgate.checkpoints.lineage import read_lineage
from headgate.checkpoints.logs import CommittedOffsets, batch_offsets, committed_offsets
from headgate.contract.frozen import FrozenContract
from headgate.errors import RefusedError
from headgate.settings import Settings
from headgate.streams.store import StateStore
from headgate.topics.kafka import admin_client
from headgate.topics.lag import offset_range, queries_of
from headgate.topics.live import read_table, topic_partitions
from headgate.topics.tables import compare_table, desired_tables

__all__ = ["Finding", "preflight"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    code: str
    severity: Literal["ok", "warn", "refuse"]
    message: str
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.code}: {self.message}", *(f"    choice: {each}" for each in self.choices)])


@dataclass(frozen=True, slots=True)
class _Kafka:
    """What the broker says of the contract's topics."""

    topics: Mapping[str, tuple[str, int]]
    lows: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]


def preflight(settings: Settings, frozen: FrozenContract) -> list[Finding]:
    """Everything that was looked at, in order. The stream may start when nothing has severity `refuse`.

    Raises KafkaUnavailable and StoreUnavailable: what cannot be looked at is not "fine".
    """
    kafka = _ask_kafka(settings, frozen)
    layout = CheckpointLayout(settings.checkpoints, frozen.pipeline)
    findings = [*_topics(settings, frozen, kafka), *_tables(settings, frozen)]
    lineage = _lineage(layout)
    findings += lineage
    name = layout.current_lineage()
    if name is not None and all(each.severity != "refuse" for each in lineage):
        for query in queries_of(frozen):
            findings += _query(layout, name, query, frozen, kafka)
    return findings


def _ask_kafka(settings: Settings, frozen: FrozenContract) -> _Kafka:
    with admin_client(settings) as admin:
        topics = topic_partitions(admin, frozen.topics.values())
        keys = [
            TopicPartition(name, number) for name, (_, count) in topics.items() for number in range(count)
        ]
        return _Kafka(topics, *offset_range(admin, keys))


def _topics(settings: Settings, frozen: FrozenContract, kafka: _Kafka) -> Iterable[Finding]:
    names = sorted(set(frozen.topics.values()))
    with closing(StateStore(settings.store_url)) as store:
        remembered = {name: store.topic_id(name) for name in names}
    for name in names:
        have = kafka.topics.get(name)
        if have is None:
            yield _refuse(
                "topic_missing",
                f"topic {name} is not there",
                "headgate plan says whether it can be created, or has the choices where it was read before",
            )
        elif remembered[name] is None:
            yield _refuse(
                "topic_unknown",
                f"topic {name} is there with the id {have[0]}, and it was never applied",
                "headgate apply remembers it",
            )
        elif remembered[name] != have[0]:
            yield _refuse(
                "topic_recreated",
                f"topic {name} was made anew: its id is {have[0]}, and {remembered[name]} was applied; "
                "the checkpoint's offsets mean other records now",
                "headgate plan has the choices",
            )
        else:
            yield Finding("topic", "ok", f"topic {name} has {have[1]} partitions and the id that was applied")


def _tables(settings: Settings, frozen: FrozenContract) -> Iterable[Finding]:
    for table in desired_tables(frozen):
        live = read_table(table_path(settings.tables, table.pipeline, table.table))
        actions, refusals, _ = compare_table(table, live)
        for refusal in refusals:
            yield _refuse(refusal.code, f"{refusal.address}: {refusal.message}", refusal.help)
        for action in actions:
            # A table that is gone under a checkpoint would be made again without what was committed to it.
            code = "table_missing" if action.kind == "create_table" else "table_behind"
            yield _refuse(code, f"{action.address}: to do: {action.summary}", "headgate apply")
        if not actions and not refusals:
            yield Finding("table", "ok", f"table {table.address} fits the contract")


def _lineage(layout: CheckpointLayout) -> list[Finding]:
    try:
        name = layout.current_lineage()
        if name is None:
            return [
                Finding("checkpoint_new", "ok", f"{layout.pipeline} has no checkpoint: it begins a lineage")
            ]
        found = read_lineage(layout, name)
    except (RefusedError, OSError) as error:
        told = error.message if isinstance(error, RefusedError) else str(error)
        return [
            _refuse(
                "checkpoint_foreign",
                told,
                f"restore {layout.folder} from a backup",
                f"start afresh: move {layout.folder} and the pipeline's tables away; everything that the "
                "topics still hold is read again",
            )
        ]
    return [Finding("checkpoint", "ok", f"lineage {found.id} of {found.pipeline}")]


def _query(
    layout: CheckpointLayout, lineage: str, query: str, frozen: FrozenContract, kafka: _Kafka
) -> list[Finding]:
    folder = layout.query(lineage, query)
    try:
        _verify_log(folder)
        committed = committed_offsets(folder)
    except (RefusedError, OSError) as error:
        told = error.message if isinstance(error, RefusedError) else str(error)
        return [
            _refuse(
                "checkpoint_unreadable",
                f"the checkpoint of query {query} cannot be read: {told}",
                f"restore {folder} from a backup",
                "if only the newest file in offsets/ is damaged, commits/ has none of its name, and no table "
                "holds its batch: remove it, and the batch is planned anew (a table that holds it would skip "
                "the other records that it then stands for)",
            )
        ]
    if committed is None:
        return [Finding("query_new", "ok", f"query {query} has committed nothing yet")]
    findings = [
        finding
        for topic, offsets in sorted(committed.offsets.items())
        for finding in _topic_offsets(query, topic, offsets, frozen, kafka)
    ]
    return findings or [_fits(query, committed)]


def _verify_log(folder: Path) -> None:
    """Spark reads an old batch's file only when it needs it, so a gap would stop the stream much later.

    Raises RefusedError for a gap, or for a newest file that cannot be read.
    """
    offsets, commits = _batch_ids(folder / "offsets"), _batch_ids(folder / "commits")
    for name, ids in (("offsets", offsets), ("commits", commits)):
        gaps = sorted(set(range(ids[0], ids[-1] + 1)) - set(ids)) if ids else []
        if gaps:
            raise RefusedError(f"{folder / name} lacks the files of the batches {', '.join(map(str, gaps))}")
    if commits and (not offsets or offsets[-1] not in (commits[-1], commits[-1] + 1)):
        raise RefusedError(
            f"{folder} holds batch {commits[-1]} as committed, and offsets/ does not go with it"
        )
    if offsets:
        batch_offsets(folder, offsets[-1])


def _batch_ids(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def _fits(query: str, committed: CommittedOffsets) -> Finding:
    return Finding("offsets", "ok", f"query {query} goes on after batch {committed.batch_id}")


def _topic_offsets(
    query: str, topic: str, offsets: Mapping[int, int], frozen: FrozenContract, kafka: _Kafka
) -> Iterable[Finding]:
    if topic not in frozen.topics.values():
        yield _refuse(
            "topic_left",
            f"query {query} has read topic {topic}, and the contract does not any more",
            "let the contract read it again, or give the output another name and table",
        )
    if topic not in kafka.topics:
        return  # said of the topic already
    count = kafka.topics[topic][1]
    if len(offsets) > count:
        yield _refuse(
            "partitions_lost",
            f"query {query} has read {len(offsets)} partitions of topic {topic}, and it has {count}",
            "the topic was made anew: headgate plan has the choices",
        )
    yield from _lost(query, topic, offsets, kafka)
    yield from _ahead(query, topic, offsets, kafka)


def _lost(query: str, topic: str, offsets: Mapping[int, int], kafka: _Kafka) -> Iterable[Finding]:
    ranges = {
        number: (offset, kafka.lows[TopicPartition(topic, number)] - 1)
        for number, offset in offsets.items()
        if offset < kafka.lows.get(TopicPartition(topic, number), 0)
    }
    if ranges:
        total = sum(last - first + 1 for first, last in ranges.values())
        yield _refuse(
            "retention_passed",
            f"query {query}: retention took {total} records of topic {topic} before they were read: "
            f"{_ranges(ranges)}",
            "start afresh: move the pipeline's checkpoint and tables away; what the topic still holds is "
            "read again, and the records above are lost",
        )


def _ahead(query: str, topic: str, offsets: Mapping[int, int], kafka: _Kafka) -> Iterable[Finding]:
    ranges = {
        number: (kafka.ends[TopicPartition(topic, number)], offset - 1)
        for number, offset in offsets.items()
        if offset > kafka.ends.get(TopicPartition(topic, number), offset)
    }
    if ranges:
        yield _refuse(
            "offsets_ahead",
            f"query {query} has read records of topic {topic} that are not there: {_ranges(ranges)}; "
            "the log was cut, or made anew",
            "restore the topic; or start afresh: move the pipeline's checkpoint and tables away",
        )


def _ranges(ranges: Mapping[int, tuple[int, int]]) -> str:
    told = [
        f"partition {number} offsets {first} to {last}" for number, (first, last) in sorted(ranges.items())
    ]
    return ", ".join(told)


def _refuse(code: str, message: str, *choices: str) -> Finding:
    return Finding(code, "refuse", message, choices)
