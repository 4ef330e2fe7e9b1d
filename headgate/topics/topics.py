"""Topics: the shape they should have, and how the one they have differs from it. Pure.

A topic may be read by several pipelines; one of them, the owner, provisions it. Partitions are only
added, replication stays, nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from headgate.contract.frozen import FrozenContract
from headgate.contract.model import Scalar, Source
from headgate.topics.differences import Action, Note, Refusal

__all__ = ["DesiredTopic", "LiveConfig", "LiveTopic", "compare_topic", "desired_topics"]

# The rule `_future` compares event time with Kafka's arrival time, so the broker's clock must make the
# latter: with CreateTime a producer that lies about the one lies about the other.
DEFAULT_CONFIG = {"message.timestamp.type": "LogAppendTime"}


@dataclass(frozen=True, slots=True)
class DesiredTopic:
    """A topic as its owner wants it. `before` holds the configs of the owner's applied contract."""

    name: str
    pipeline: str
    partitions: int
    replication: int
    configs: Mapping[str, str]
    before: frozenset[str] = frozenset()
    readers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LiveConfig:
    value: str
    on_topic: bool  # set on this topic, not inherited from the broker


@dataclass(frozen=True, slots=True)
class LiveTopic:
    topic_id: str
    partitions: int
    replication: int
    configs: Mapping[str, LiveConfig] = field(default_factory=dict)


def desired_topics(
    contracts: Sequence[FrozenContract],
    applied: Mapping[str, FrozenContract],
    owners: Mapping[str, str],
) -> tuple[list[DesiredTopic], list[Refusal], list[Note]]:
    """The topics that these contracts provision, and where readers disagree with an owner.

    The owner is the pipeline that provisioned the topic before (`owners`), then one whose contract is
    applied, then the first by name.
    """
    everyone = {**applied, **{each.pipeline: each for each in contracts}}
    planned = {each.pipeline for each in contracts}
    topics: list[DesiredTopic] = []
    refusals: list[Refusal] = []
    notes: list[Note] = []
    for name in sorted({topic for each in contracts for topic in each.topics.values()}):
        readers = sorted(each.pipeline for each in everyone.values() if name in each.topics.values())
        owner = _owner(readers, owners.get(name), applied)
        wanted = _desired(name, everyone[owner], applied.get(owner), readers)
        for reader in readers:
            if reader != owner and reader in planned:
                refusals += _disagreements(wanted, everyone[reader])
                notes.append(_shared(name, reader, owner))
        if owner in planned:
            topics.append(wanted)
    return topics, refusals, notes


def _owner(readers: Sequence[str], remembered: str | None, applied: Mapping[str, object]) -> str:
    if remembered in readers and remembered is not None:
        return remembered
    return next((reader for reader in readers if reader in applied), readers[0])


def _desired(
    name: str, contract: FrozenContract, before: FrozenContract | None, readers: Sequence[str]
) -> DesiredTopic:
    sources = _sources_of(contract, name)
    configs = dict(DEFAULT_CONFIG)
    for source in sources:
        configs.update({key: config_text(value) for key, value in source.config.items()})
    known = {key for source in (_sources_of(before, name) if before else ()) for key in source.config}
    return DesiredTopic(
        name=name,
        pipeline=contract.pipeline,
        partitions=max(source.partitions for source in sources),
        replication=contract.replication,
        configs=dict(sorted(configs.items())),
        before=frozenset(known),
        readers=tuple(readers),
    )


def _sources_of(contract: FrozenContract, topic: str) -> list[Source]:
    return [contract.contract.sources[name] for name, each in contract.topics.items() if each == topic]


def config_text(value: Scalar) -> str:
    """A contract's scalar as Kafka writes it: `true`, `604800000`, `compact,delete`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return ",".join(part.strip() for part in str(value).split(","))


def _disagreements(wanted: DesiredTopic, reader: FrozenContract) -> Iterable[Refusal]:
    for source in _sources_of(reader, wanted.name):
        # What a contract leaves out is its owner's to say; 1 is the default of `partitions`.
        asked = {key: config_text(value) for key, value in source.config.items()}
        differing = [f"{key} {value}" for key, value in asked.items() if wanted.configs.get(key) != value]
        if source.partitions not in (1, wanted.partitions):
            differing.insert(0, f"{source.partitions} partitions")
        if differing:
            yield Refusal(
                "topic_owned",
                f"topic {wanted.name}",
                reader.pipeline,
                f"pipeline {wanted.pipeline} provisions it, and here it says {', '.join(differing)}",
                f"leave `partitions` and `config` out here, or change them in {wanted.pipeline}",
            )


def _shared(name: str, reader: str, owner: str) -> Note:
    return Note("topic_shared", f"topic {name}", reader, f"read here, provisioned by pipeline {owner}")


def compare_topic(
    wanted: DesiredTopic, live: LiveTopic | None
) -> tuple[list[Action], list[Refusal], list[Note]]:
    """What makes the live topic the wanted one, and what stands against it."""
    refusals = list(_impossible(wanted))
    if live is None:
        return ([] if refusals else [_create(wanted)]), refusals, []
    refusals += _shape_refusals(wanted, live)
    actions = []
    if live.partitions < wanted.partitions:
        actions.append(_add_partitions(wanted, live))
    changes, notes = _config_changes(wanted, live)
    if changes:
        actions.append(_change_config(wanted, changes))
    return ([] if refusals else actions), refusals, notes


def _impossible(wanted: DesiredTopic) -> Iterable[Refusal]:
    insync = wanted.configs.get("min.insync.replicas")
    if insync is not None and insync.isdigit() and int(insync) > wanted.replication:
        yield _refuse(
            wanted,
            "min_insync_replicas",
            f"min.insync.replicas is {insync}, and there are {wanted.replication} replicas: "
            "nothing could be written",
            "lower min.insync.replicas, or raise kafka.replication of this environment",
        )


def _create(wanted: DesiredTopic) -> Action:
    configs = ", ".join(f"{key}={value}" for key, value in wanted.configs.items())
    return Action(
        kind="create_topic",
        address=f"topic {wanted.name}",
        pipeline=wanted.pipeline,
        summary=f"create with {wanted.partitions} partitions, replication {wanted.replication}, {configs}",
        reason="the contract reads it, and it is not there",
        arguments={
            "topic": wanted.name,
            "partitions": wanted.partitions,
            "replication": wanted.replication,
            "configs": dict(wanted.configs),
        },
    )


def _shape_refusals(wanted: DesiredTopic, live: LiveTopic) -> Iterable[Refusal]:
    if live.partitions > wanted.partitions:
        yield _refuse(
            wanted,
            "partition_decrease",
            f"has {live.partitions} partitions, and the contract asks for {wanted.partitions}: "
            "Kafka cannot take partitions away",
            f"write partitions: {live.partitions}, or read another topic",
        )
    if live.replication != wanted.replication:
        yield _refuse(
            wanted,
            "replication_change",
            f"has {live.replication} replicas, and this environment asks for {wanted.replication}",
            "move replicas with Kafka's own reassignment, or set kafka.replication to what is there",
        )
    for key in wanted.configs:
        if live.configs and key not in live.configs:
            message = f"the broker does not know the config {key}"
            yield _refuse(
                wanted, "unknown_config", message, "take it out of the contract, or upgrade the broker"
            )


def _add_partitions(wanted: DesiredTopic, live: LiveTopic) -> Action:
    return Action(
        kind="add_partitions",
        address=f"topic {wanted.name}",
        pipeline=wanted.pipeline,
        summary=f"partitions {live.partitions} → {wanted.partitions}",
        reason="the contract asks for more; from then on a key may go to another partition than before",
        arguments={"topic": wanted.name, "from": live.partitions, "to": wanted.partitions},
    )


def _config_changes(
    wanted: DesiredTopic, live: LiveTopic
) -> tuple[dict[str, tuple[str, str | None]], list[Note]]:
    """Key to (live value, wanted value or None for the broker's default); and what others have set."""
    changes: dict[str, tuple[str, str | None]] = {}
    notes = []
    for key, value in wanted.configs.items():
        have = live.configs.get(key)
        if have is not None and have.value != value:
            changes[key] = (have.value, value)
    for key, have in sorted(live.configs.items()):
        if not have.on_topic or key in wanted.configs:
            continue
        if key in wanted.before:
            changes[key] = (have.value, None)
        else:
            message = (
                f"{key}={have.value} was set by somebody else; the contract does not say it, so it stays"
            )
            notes.append(Note("config_drift", f"topic {wanted.name}", wanted.pipeline, message))
    return changes, notes


def _change_config(wanted: DesiredTopic, changes: Mapping[str, tuple[str, str | None]]) -> Action:
    told = ", ".join(f"{k} {old} → {'default' if new is None else new}" for k, (old, new) in changes.items())
    return Action(
        kind="change_config",
        address=f"topic {wanted.name}",
        pipeline=wanted.pipeline,
        summary=told,
        reason="the topic is not as the contract says",
        arguments={"topic": wanted.name, "changes": {key: list(pair) for key, pair in changes.items()}},
    )


def _refuse(wanted: DesiredTopic, code: str, message: str, help: str) -> Refusal:
    return Refusal(code, f"topic {wanted.name}", wanted.pipeline, message, help)
