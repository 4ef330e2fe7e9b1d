"""Looks before a start: does what the checkpoint remembers still fit what is there? Changes nothing, but for
the objects with which a store of S3 is tried, and which are gone afterwards.

A stream that does not fit does not start; each refusal says which choices there are and what each costs.
Fault-matrix rows 9, 11, 17, 18 and 19 end here instead of in a failed driver.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

from kafka import TopicPartition

from headgate.checkpoints.compatibility import unfit_changes
from headgate.checkpoints.findings import Finding, Refusal, lineage_choices, refusal, refuse
from headgate.checkpoints.layout import CheckpointLayout, quarantine_table, table_path
from headgate.checkpoints.lineage import read_lineage, tables_with_history
from headgate.checkpoints.origin import Origin
from headgate.checkpoints.query_checks import Ground, KafkaView, check_query
from headgate.checkpoints.snapshots import read_snapshot
from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.errors import NotFoundError, RefusedError
from headgate.settings import Settings
from headgate.streams.store import StateStore
from headgate.tables.conditional import StoreRefused, require_conditional_put
from headgate.tables.files import folders_in
from headgate.tables.fits import unfit
from headgate.tables.place import S3Folder
from headgate.topics.kafka import admin_client
from headgate.topics.lag import offset_range, queries_of
from headgate.topics.live import read_table, topic_partitions
from headgate.topics.tables import compare_table, desired_tables

__all__ = ["Finding", "Refusal", "planned_preflight", "preflight", "refusal"]

# What `headgate apply` of the same contract does away with.
_APPLIED = frozenset(("topic_missing", "topic_unknown", "table_missing", "table_behind"))


def preflight(settings: Settings, frozen: FrozenContract, origin: Origin | None = None) -> list[Finding]:
    """Everything that was looked at, in order. The stream may start when nothing has severity `refuse`.

    With an `origin` that is still to be settled the checkpoint is about to be left, so it is not judged.
    Raises KafkaUnavailable, StoreUnavailable and TablesUnavailable: what cannot be looked at is not "fine".
    """
    # First, as what is read of a store that is away would look like tables that are not whole.
    elsewhere = _place(settings, frozen)
    if any(each.severity == "refuse" for each in elsewhere):
        return elsewhere
    kafka = _ask_kafka(settings, frozen)
    layout = CheckpointLayout(settings.checkpoints, frozen.pipeline)
    findings = [*elsewhere, *_topics(settings, frozen, kafka), *_tables(settings, frozen)]
    if origin is not None:
        # Offsets of its own were made from the topics as they are, also where one was made anew.
        kept = [each for each in findings if not (origin.offsets and each.code == "topic_recreated")]
        foreign = _of_snapshot(settings, frozen, origin.snapshot) if origin.kind == "snapshot" else []
        return [*kept, *foreign, Finding("origin", "ok", f"it begins from {origin.told}, as ordered")]
    lineage = _lineage(settings, layout)
    findings += lineage
    if any(each.severity == "refuse" for each in lineage):
        return findings
    if (name := layout.current_lineage()) is not None:
        ground = _ground(settings, layout, name, frozen, kafka)
        for query in queries_of(frozen):
            findings += check_query(ground, query)
    return findings


def _place(settings: Settings, frozen: FrozenContract) -> list[Finding]:
    """Whether tables can be where they are to be; nothing is said of those on a disk."""
    tables = settings.tables
    if not isinstance(tables, S3Folder):
        return []
    found = [
        refuse("tables_on_s3", f"{each.what}: not on S3: {each.why}", each.help)
        for each in unfit(frozen, tables)
    ]
    if found:
        return found
    try:
        require_conditional_put(tables)
    except StoreRefused as error:
        return [refuse("store_refused", f"{error.message}; expected {error.expected}", str(error.help))]
    return [Finding("store", "ok", f"the store of {tables} refuses to put an object where there is one")]


def _of_snapshot(settings: Settings, frozen: FrozenContract, id: str) -> list[Finding]:
    """Whether the contract can go on from the state of a snapshot, which another one may have written."""
    try:
        snapshot = read_snapshot(settings.snapshots_root, frozen.pipeline, id)
    except NotFoundError:
        return []  # the driver says so, or goes on from the checkpoint: a way back that was never needed
    except RefusedError as error:
        told = f"snapshot {id}: {error.message}"
        return [refuse("snapshot_damaged", told, *lineage_choices(frozen.pipeline, snapshot=False))]
    return [
        refuse(
            "state_does_not_fit",
            f"snapshot {id}: {why}; its state does not fit",
            "undo the change, then headgate plan and headgate apply",
            *lineage_choices(frozen.pipeline, snapshot=False),
        )
        for why in unfit_changes(ContractStore(settings.state).get(snapshot.contract_hash), frozen)
    ]


def planned_preflight(settings: Settings, frozen: FrozenContract) -> list[Finding]:
    """The same for a contract that is being planned: without what its apply will do."""
    return [each for each in preflight(settings, frozen) if each.code not in _APPLIED]


def _ground(
    settings: Settings, layout: CheckpointLayout, lineage: str, frozen: FrozenContract, kafka: KafkaView
) -> Ground:
    from spark.session import meaning_confs

    contracts = ContractStore(settings.state)
    return Ground(layout, lineage, frozen, kafka, meaning_confs(frozen.contract.job), contracts.get)


def _ask_kafka(settings: Settings, frozen: FrozenContract) -> KafkaView:
    with admin_client(settings) as admin:
        topics = topic_partitions(admin, frozen.topics.values())
        keys = [
            TopicPartition(name, number) for name, (_, count) in topics.items() for number in range(count)
        ]
        return KafkaView(topics, *offset_range(admin, keys))


def _topics(settings: Settings, frozen: FrozenContract, kafka: KafkaView) -> Iterable[Finding]:
    names = sorted(set(frozen.topics.values()))
    with closing(StateStore(settings.store_url)) as store:
        remembered = {name: store.topic_id(name) for name in names}
    for name in names:
        have, known = kafka.topics.get(name), remembered[name]
        yield _topic(frozen.pipeline, name, have, known)


def _topic(pipeline: str, name: str, have: tuple[str, int] | None, known: str | None) -> Finding:
    if have is None and known is None:
        return refuse("topic_missing", f"topic {name} is not there", "headgate apply creates it")
    if have is None:
        return refuse(
            "topic_deleted",
            f"topic {name} is gone; it had the id {known} when it was applied",
            "restore the topic",
            "headgate plan says whether it can be made anew",
        )
    if known is None:
        return refuse(
            "topic_unknown",
            f"topic {name} is there with the id {have[0]}, and it was never applied",
            "headgate apply remembers it",
        )
    if known != have[0]:
        return refuse(
            "topic_recreated",
            f"topic {name} was made anew: its id is {have[0]}, and {known} was applied; "
            "the checkpoint's offsets mean other records now",
            *lineage_choices(pipeline),
        )
    return Finding("topic", "ok", f"topic {name} has {have[1]} partitions and the id that was applied")


def _tables(settings: Settings, frozen: FrozenContract) -> Iterable[Finding]:
    for table in desired_tables(frozen):
        live = read_table(table_path(settings.tables, table.pipeline, table.table))
        actions, refusals, _ = compare_table(table, live)
        for refused in refusals:
            yield refuse(refused.code, f"{refused.address}: {refused.message}", refused.help)
        for action in actions:
            # A table that is gone under a checkpoint would be made again without what was committed to it.
            code = "table_missing" if action.kind == "create_table" else "table_behind"
            yield refuse(code, f"{action.address}: to do: {action.summary}", "headgate apply")
        if not actions and not refusals:
            yield Finding("table", "ok", f"table {table.address} fits the contract")


def _lineage(settings: Settings, layout: CheckpointLayout) -> list[Finding]:
    try:
        name = layout.current_lineage()
        found = read_lineage(layout, name) if name is not None else None
    except (RefusedError, OSError) as error:
        told = error.message if isinstance(error, RefusedError) else str(error)
        choices = lineage_choices(layout.pipeline)
        return [refuse("checkpoint_foreign", told, f"restore {layout.folder} from a backup", *choices)]
    # Outside: a store that is away now is no reason to begin anew, which would write rows a second time.
    if found is None:
        return [_without_lineage(settings, layout)]
    return [Finding("checkpoint", "ok", f"lineage {found.id} of {found.pipeline}")]


def _without_lineage(settings: Settings, layout: CheckpointLayout) -> Finding:
    """No checkpoint is a first start, unless tables hold what an earlier one committed."""
    root, quarantine = settings.tables / layout.pipeline, quarantine_table(settings.tables, layout.pipeline)
    written = tables_with_history({*(root / name for name in folders_in(root)), quarantine}, layout.pipeline)
    if not written:
        return Finding("checkpoint_new", "ok", f"{layout.pipeline} has no checkpoint: it begins a lineage")
    names = ", ".join(sorted(table.name for table in written))
    return refuse(
        "checkpoint_gone",
        f"{layout.current} is not there, and the tables hold what an earlier checkpoint committed: {names}",
        f"restore {layout.folder} from a backup",
        *lineage_choices(layout.pipeline),
    )
