"""The plan: contracts against what is there, as actions, refusals and notes.

`difference` is pure; `make_plan` reads the live system and lets the broker try what it would be asked
for (without doing it), so that its own refusals are in the plan and not in the middle of an apply.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from headgate.contract.frozen import FrozenContract
from headgate.errors import UsageError
from headgate.settings import Settings
from headgate.tables.fits import unfit
from headgate.tables.place import Place
from headgate.topics.contracts import ContractChange, change_of, compare_contract
from headgate.topics.differences import Action, Note, Refusal
from headgate.topics.state import Live, seen_by
from headgate.topics.tables import compare_table, desired_tables
from headgate.topics.topics import DesiredTopic, compare_topic, desired_topics

__all__ = ["Plan", "difference", "make_plan"]

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What apply would do, and what it saw. `hash` covers all but the notes, so it names the plan."""

    env: str
    cluster_id: str
    contracts: tuple[FrozenContract, ...]
    files: Mapping[str, str]  # pipeline to the file it came from
    changes: Mapping[str, ContractChange]
    actions: tuple[Action, ...]
    refusals: tuple[Refusal, ...]
    seen: Mapping[str, Any]
    notes: tuple[Note, ...] = ()
    hash: str = field(default="")

    @property
    def exit_code(self) -> int:
        """What `headgate plan` exits with: 3 refused, 2 changes, 0 nothing to do."""
        if self.refusals:
            return 3
        return 2 if self.actions else 0

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "hash": self.hash, **self._body(), "notes": [asdict(n) for n in self.notes]}

    def _body(self) -> dict[str, Any]:
        return {
            "env": self.env,
            "cluster_id": self.cluster_id,
            "changes": dict(self.changes),
            "actions": [asdict(each) for each in self.actions],
            "refusals": [asdict(each) for each in self.refusals],
            "seen": self.seen,
            "files": dict(self.files),
            "contracts": [each.to_json() for each in self.contracts],
        }

    def sealed(self) -> Plan:
        """The same plan with its hash."""
        canonical = json.dumps(self._body(), sort_keys=True, separators=(",", ":"))
        values = {name: getattr(self, name) for name in self.__slots__}
        return Plan(**{**values, "hash": hashlib.sha256(canonical.encode()).hexdigest()})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """A plan from its file. Raises UsageError for another format or a file that was edited."""
        if data.get("format") != FORMAT:
            raise UsageError(
                f"this is not a plan of this headgate: its format is {data.get('format')!r}",
                expected=f"format {FORMAT}",
                help="headgate plan -o FILE",
            )
        plan = cls(
            env=data["env"],
            cluster_id=data["cluster_id"],
            contracts=tuple(FrozenContract.from_json(each) for each in data["contracts"]),
            files=data["files"],
            changes=data["changes"],
            actions=tuple(Action(**each) for each in data["actions"]),
            refusals=tuple(Refusal(**each) for each in data["refusals"]),
            seen=data["seen"],
            notes=tuple(Note(**each) for each in data["notes"]),
        ).sealed()
        if plan.hash != data.get("hash"):
            raise UsageError(
                "the plan file was changed after it was made: its hash does not fit its content",
                help="headgate plan -o FILE makes a new one",
            )
        return plan


def make_plan(
    settings: Settings,
    contracts: Sequence[FrozenContract],
    *,
    files: Mapping[str, str] | None = None,
    removed: Sequence[str] = (),
) -> Plan:
    """Compare these contracts with the live system. Changes nothing.

    `files` says where each contract came from, `removed` which applied pipelines have no file any more.
    Raises KafkaUnavailable, StoreUnavailable, ServiceError.
    """
    from headgate.topics.broker import rehearse
    from headgate.topics.capacity import capacity_refusals, machine_memory
    from headgate.topics.kafka import admin_client
    from headgate.topics.live import read_live

    contracts = sorted(contracts, key=lambda each: each.pipeline)
    files = {each.pipeline: (files or {}).get(each.pipeline, f"{each.pipeline}.yaml") for each in contracts}
    with admin_client(settings) as admin:
        live = read_live(settings, admin, contracts)
        actions, refusals, notes = difference(contracts, live, files=files, removed=removed)
        objections = rehearse(admin, actions)
    return Plan(
        env=settings.env,
        cluster_id=live.cluster_id,
        contracts=tuple(contracts),
        files=files,
        changes={
            **{each.pipeline: change_of(each, live.applied.get(each.pipeline)) for each in contracts},
            **dict.fromkeys(removed, "removed"),
        },
        actions=tuple(actions),
        refusals=(
            *refusals,
            *objections,
            *capacity_refusals(contracts, live.applied, machine_memory()),
            *_misplaced(contracts, settings.tables),
        ),
        seen=seen_by(contracts, live),
        notes=tuple(notes),
    ).sealed()


def difference(
    contracts: Sequence[FrozenContract],
    live: Live,
    *,
    files: Mapping[str, str],
    removed: Sequence[str] = (),
) -> tuple[list[Action], list[Refusal], list[Note]]:
    """Contracts against what is there: actions in the order of doing, refusals, notes. Pure."""
    topics, refusals, notes = desired_topics(contracts, live.applied, live.owners)
    results = [_topic(each, live) for each in topics]
    results += [_foreign_topics(each, {topic.name for topic in topics}, live) for each in contracts]
    results += [
        compare_table(table, live.tables.get(table.address))
        for contract in contracts
        for table in desired_tables(contract)
    ]
    results += [
        compare_contract(
            each,
            live.applied.get(each.pipeline),
            file=files.get(each.pipeline, f"{each.pipeline}.yaml"),
            committed=live.committed.get(each.pipeline, frozenset()),
        )
        for each in contracts
    ]
    actions = [action for found, _, _ in results for action in found]
    refusals += [refusal for _, found, _ in results for refusal in found]
    notes += [note for _, _, found in results for note in found]
    return (
        actions,
        refusals + _address_refusals(contracts, live),
        notes + [_removed(each) for each in removed],
    )


def _misplaced(contracts: Sequence[FrozenContract], tables: Place) -> list[Refusal]:
    """Outputs that cannot have their tables on S3, where these are."""
    return [
        Refusal(
            "tables_on_s3", f"contract {each.pipeline}", each.pipeline, f"{one.what}: {one.why}", one.help
        )
        for each in contracts
        for one in unfit(each, tables)
    ]


def _topic(wanted: DesiredTopic, live: Live) -> tuple[list[Action], list[Refusal], list[Note]]:
    have = live.topics.get(wanted.name)
    stranger = _identity(wanted.name, wanted.pipeline, wanted.readers, live)
    if stranger is not None:
        return [], [stranger], []
    actions, refusals, notes = compare_topic(wanted, have)
    if have is not None and not refusals and live.remembered.get(wanted.name) != have.topic_id:
        actions.append(_adopt(wanted, have.topic_id))
    return actions, refusals, notes


def _adopt(wanted: DesiredTopic, topic_id: str) -> Action:
    return Action(
        kind="adopt_topic",
        address=f"topic {wanted.name}",
        pipeline=wanted.pipeline,
        summary=f"remember its id {topic_id}",
        reason="it is there already; a topic that is made anew under its name will be told from it",
        arguments={"topic": wanted.name, "topic_id": topic_id},
    )


def _identity(topic: str, pipeline: str, readers: Sequence[str], live: Live) -> Refusal | None:
    """A topic that was deleted, or made anew, under pipelines that have read it (fault-matrix row 17)."""
    remembered, have = live.remembered.get(topic), live.topics.get(topic)
    if remembered is None or (have is not None and have.topic_id == remembered):
        return None
    reading = [each for each in readers if live.committed.get(each)]
    if not reading:
        return None
    what = "is gone" if have is None else f"was made anew: its id is {have.topic_id}"
    folders = ", ".join(f"<checkpoints>/{each}" for each in reading)
    return Refusal(
        "topic_deleted" if have is None else "topic_recreated",
        f"topic {topic}",
        pipeline,
        f"{what}, and it had the id {remembered} when {', '.join(reading)} read it; "
        "the offsets in their checkpoints mean other records now, or none",
        "restore the topic; or read another one (topic: NAME) into outputs of another name; or start afresh: "
        f"stop the streams, move {folders} and their tables away, and apply again. What was not read of the "
        "old topic is lost",
    )


def _foreign_topics(
    contract: FrozenContract, own: set[str], live: Live
) -> tuple[list[Action], list[Refusal], list[Note]]:
    """Topics that this contract reads and another applied pipeline provisions: they have to be there."""
    refusals = []
    for name in sorted(set(contract.topics.values()) - own):
        stranger = _identity(name, contract.pipeline, [contract.pipeline], live)
        if stranger is not None:
            refusals.append(stranger)
        elif name not in live.topics:
            refusals.append(
                Refusal(
                    "topic_missing",
                    f"topic {name}",
                    contract.pipeline,
                    "another pipeline provisions it, and it is not there",
                    "headgate apply, without names, applies its owner too",
                )
            )
    return [], refusals, []


def _address_refusals(contracts: Sequence[FrozenContract], live: Live) -> list[Refusal]:
    """A published Redis key has one owning output, over files and applied contracts alike."""
    everyone = {**live.applied, **{each.pipeline: each for each in contracts}}
    planned = {each.pipeline for each in contracts}
    owners: dict[str, str] = {}
    refusals = []
    # Applied contracts first: who is there owns the key, the newcomer is refused.
    for pipeline in sorted(everyone, key=lambda name: (name not in live.applied, name)):
        for output, spec in everyone[pipeline].contract.outputs.items():
            for key in (target.redis for target in spec.to if target.redis is not None):
                owner = owners.setdefault(key, f"{pipeline}/{output}")
                if owner != f"{pipeline}/{output}" and pipeline in planned:
                    message = f"output {output} publishes under it, and it belongs to {owner}"
                    refusals.append(
                        Refusal(
                            "key_owned", f"Redis key {key}", pipeline, message, "publish under another key"
                        )
                    )
    return refusals


def _removed(pipeline: str) -> Note:
    return Note(
        "contract_removed",
        f"contract {pipeline}",
        pipeline,
        "its file is gone; what is applied goes on running, and its topics, tables and checkpoints stay",
    )
