"""Preflight of one query's checkpoint: is it whole, is it read from what is there, does the contract fit?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kafka import TopicPartition

from headgate.checkpoints.books import read_page
from headgate.checkpoints.compatibility import conf_differences, contract_differences, kept
from headgate.checkpoints.findings import Finding, lineage_choices, refuse
from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.lineage import last_contract, noted_query
from headgate.checkpoints.logs import CommittedOffsets, committed_offsets, newest, query_id, verify_log
from headgate.checkpoints.state_files import CODEC_CONF, StateDamagedError, verify_state
from headgate.contract.frozen import FrozenContract
from headgate.errors import HeadgateError, NotFoundError, RefusedError

__all__ = ["Ground", "KafkaView", "check_query"]


@dataclass(frozen=True, slots=True)
class KafkaView:
    """What the broker says of the contract's topics."""

    topics: Mapping[str, tuple[str, int]]
    lows: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Ground:
    """What every query of a pipeline is compared with."""

    layout: CheckpointLayout
    lineage: str
    frozen: FrozenContract
    kafka: KafkaView
    confs: Mapping[str, str]  # that the contract's session would have
    contract: Callable[[str], FrozenContract]  # an applied one by its hash; raises NotFoundError


def check_query(ground: Ground, query: str) -> list[Finding]:
    folder = ground.layout.query(ground.lineage, query)
    try:
        verify_log(folder)
        _verify_id(ground, query, folder)
        committed = committed_offsets(folder)
        if committed is not None:
            _verify_beside(ground, query, committed)
    except StateDamagedError as error:
        return [_state_damaged(ground, query, error)]
    except (HeadgateError, OSError) as error:
        return [_unreadable(ground, query, folder, error)]
    if committed is None:
        return [Finding("query_new", "ok", f"query {query} has committed nothing yet")]
    findings = [
        finding
        for topic, offsets in sorted(committed.offsets.items())
        for finding in _topic_offsets(ground, query, topic, offsets)
    ]
    findings = findings or [
        Finding("offsets", "ok", f"query {query} goes on after batch {committed.batch_id}")
    ]
    return [*findings, *_contract(ground, query), *_confs(ground, query, committed)]


def _unreadable(ground: Ground, query: str, folder: Path, error: Exception) -> Finding:
    told = error.message if isinstance(error, HeadgateError) else str(error)
    return refuse(
        "checkpoint_unreadable",
        f"the checkpoint of query {query} cannot be read: {told}",
        f"restore {folder} from a backup",
        "if only the newest file in offsets/ is damaged, commits/ has none of its name, and no table "
        "holds its batch: remove it, and the batch is planned anew (a table that holds it would skip "
        "the other records that it then stands for)",
        *lineage_choices(ground.frozen.pipeline),
    )


def _state_damaged(ground: Ground, query: str, error: StateDamagedError) -> Finding:
    pipeline = ground.frozen.pipeline
    return refuse(
        "state_damaged",
        f"the state of query {query} cannot be loaded: {error.message}",
        f"restore {ground.layout.lineage(ground.lineage)} and {pipeline}'s tables from one backup",
        *lineage_choices(pipeline),
    )


def _verify_id(ground: Ground, query: str, folder: Path) -> None:
    """A folder that was copied over this one brings its query's id along. Raises RefusedError."""
    noted = noted_query(ground.layout, ground.lineage, query)
    if noted is None or newest(folder / "offsets") is None:
        return
    found = query_id(folder)
    if found != noted:
        raise RefusedError(f"{folder} is another query's: its id is {found}, and {noted} has run here")


def _verify_beside(ground: Ground, query: str, committed: CommittedOffsets) -> None:
    """What else a query cannot go on without. Raises RefusedError, NotFoundError."""
    if query == RECORDS:
        if read_page(ground.layout.books(ground.lineage), committed.batch_id) is None:
            raise NotFoundError(f"the books have no page of its batch {committed.batch_id}")
        return
    state = ground.layout.query(ground.lineage, query) / "state"
    if query in ground.frozen.stateful_outputs and not (state.is_dir() and any(state.iterdir())):
        raise NotFoundError(f"it has committed batch {committed.batch_id}, and {state} holds no state")
    verify_state(state.parent, committed.batch_id, committed.pinned.get(CODEC_CONF, "lz4"))


def _contract(ground: Ground, query: str) -> Iterable[Finding]:
    """The contract that last ran on this checkpoint against the one that shall."""
    noted, pipeline = last_contract(ground.layout, ground.lineage, query), ground.frozen.pipeline
    if noted == ground.frozen.hash:
        return
    try:
        before = ground.contract(noted)
    except NotFoundError:
        yield refuse(
            "contract_lost",
            f"query {query} last ran with contract {noted[:12]}, which is not stored any more: "
            "whether its state fits cannot be said",
            "restore the state folder's contracts/ from a backup",
            *lineage_choices(pipeline),
        )
        return
    for each in contract_differences(before, ground.frozen, query):
        told = f"query {query}: {each.why}"
        if each.severity == "warn":
            yield Finding(each.code, "warn", told)
        else:
            undo = "undo the change, then headgate plan and headgate apply"
            rename = "give the output another name and table: it begins with a checkpoint of its own"
            anew = lineage_choices(pipeline, snapshot=False)
            yield refuse(each.code, f"{told}; its state does not fit", undo, rename, *anew)
    if stays := kept(before, ground.frozen):
        yield Finding("contract_changed", "ok", f"query {query}: in force from now on: {', '.join(stays)}")


def _confs(ground: Ground, query: str, committed: CommittedOffsets) -> Iterable[Finding]:
    for each in conf_differences(committed.pinned, ground.confs):
        told = f"query {query}: {each.why}"
        if each.severity == "warn":
            yield Finding(each.code, "warn", told)
        else:
            yield refuse(each.code, told, *lineage_choices(ground.frozen.pipeline))


def _topic_offsets(ground: Ground, query: str, topic: str, offsets: Mapping[int, int]) -> Iterable[Finding]:
    if topic not in ground.frozen.topics.values():
        yield refuse(
            "topic_left",
            f"query {query} has read topic {topic}, and the contract does not any more",
            "let the contract read it again, or give the output another name and table",
            *lineage_choices(ground.frozen.pipeline),
        )
    if topic not in ground.kafka.topics:
        return  # said of the topic already
    count = ground.kafka.topics[topic][1]
    if len(offsets) > count:
        yield refuse(
            "partitions_lost",
            f"query {query} has read {len(offsets)} partitions of topic {topic}, and it has {count}: "
            "the topic was made anew",
            *lineage_choices(ground.frozen.pipeline),
        )
    yield from _lost(ground, query, topic, offsets)
    yield from _ahead(ground, query, topic, offsets)


def _lost(ground: Ground, query: str, topic: str, offsets: Mapping[int, int]) -> Iterable[Finding]:
    lows = ground.kafka.lows
    ranges = {
        number: (offset, lows[TopicPartition(topic, number)] - 1)
        for number, offset in offsets.items()
        if offset < lows.get(TopicPartition(topic, number), 0)
    }
    if ranges:
        total = sum(last - first + 1 for first, last in ranges.values())
        yield refuse(
            "retention_passed",
            f"query {query}: retention took {total} records of topic {topic} before they were read: "
            f"{_ranges(ranges)}",
            "raise the topic's retention first, so that no more is lost",
            *lineage_choices(ground.frozen.pipeline),
        )


def _ahead(ground: Ground, query: str, topic: str, offsets: Mapping[int, int]) -> Iterable[Finding]:
    ends = ground.kafka.ends
    ranges = {
        number: (ends[TopicPartition(topic, number)], offset - 1)
        for number, offset in offsets.items()
        if offset > ends.get(TopicPartition(topic, number), offset)
    }
    if ranges:
        yield refuse(
            "offsets_ahead",
            f"query {query} has read records of topic {topic} that are not there: {_ranges(ranges)}; "
            "the log was cut, or made anew",
            "restore the topic",
            *lineage_choices(ground.frozen.pipeline),
        )


def _ranges(ranges: Mapping[int, tuple[int, int]]) -> str:
    told = [
        f"partition {number} offsets {first} to {last}" for number, (first, last) in sorted(ranges.items())
    ]
    return ", ".join(told)
