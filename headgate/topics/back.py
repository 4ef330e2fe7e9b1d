"""Looks up what going back to a snapshot means today: which of the two ways is open, and what is repeated."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace

from headgate.checkpoints.choices import Effect, OriginPlan, go_back
from headgate.checkpoints.compatibility import unfit_changes
from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.origin import Origin
from headgate.checkpoints.restore import NEW_LINEAGE, SAME_BATCHES, choose, following
from headgate.checkpoints.sinks import Sink, sinks_of
from headgate.checkpoints.snapshots import Snapshot, find_snapshots, read_snapshot, verify
from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.errors import NotFoundError
from headgate.settings import Settings
from headgate.streams import handover
from headgate.streams.store import StateStore
from headgate.topics.begin import places_of

__all__ = ["plan_restore", "running_contract"]


def plan_restore(settings: Settings, frozen: FrozenContract, id: str | None) -> OriginPlan:
    """What `--from snapshot` would do; without an id the newest one whose files are good.

    Raises NotFoundError, RefusedError, KafkaUnavailable.
    """
    snapshot = _pick(settings, frozen.pipeline, id)
    layout = CheckpointLayout(settings.checkpoints, frozen.pipeline)
    before = ContractStore(settings.state).get(snapshot.contract_hash)
    sinks = sinks_of(before)
    found = following(layout, snapshot, sinks, settings.tables)
    way, why = choose(snapshot, layout.current_lineage(), found)
    ran = running_contract(settings, frozen.pipeline)
    if way == SAME_BATCHES and {ran, frozen.hash} != {snapshot.contract_hash}:
        way, why = NEW_LINEAGE, "another contract has run since"
    again = {query: each.last - each.snapshot for query, each in found.items()}
    effects = [_effect(sink, snapshot, way, again.get(sink.query, 0)) for sink in sinks]
    origin = Origin("snapshot", snapshot=snapshot.id, way=way, note=_age(snapshot))
    problems = [*verify(settings.snapshots_root, snapshot), *_recreated(settings, snapshot)]
    problems += [f"{why}; the snapshot's state does not fit" for why in unfit_changes(before, frozen)]
    plan = go_back(
        frozen.pipeline, origin, places_of(settings, frozen), snapshot.offsets, effects, problems=problems
    )
    return _told(plan, why)


def running_contract(settings: Settings, pipeline: str) -> str:
    """The hash of the contract that the last driver ran, or the applied one before the first."""
    report = handover.read_report(settings.state / "streams" / pipeline)
    if report is not None and report.contract_hash:
        return report.contract_hash
    return ContractStore(settings.state).current(pipeline).hash


def _pick(settings: Settings, pipeline: str, id: str | None) -> Snapshot:
    root = settings.snapshots_root
    if id is not None:
        return read_snapshot(root, pipeline, id)
    for snapshot in find_snapshots(root, pipeline):
        if not verify(root, snapshot):
            return snapshot
    raise NotFoundError(
        f"{pipeline} has no good snapshot",
        expected=f"one in {root / pipeline}",
        help=f"headgate restart {pipeline} --from earliest --dry-run says what beginning anew would mean",
    )


def _recreated(settings: Settings, snapshot: Snapshot) -> list[str]:
    """Topics whose offsets mean other records than when the snapshot was taken."""
    with closing(StateStore(settings.store_url)) as store:
        now = {topic: store.topic_id(topic) for topic in snapshot.topics}
    return [
        f"topic {topic} was made anew since the snapshot was taken"
        for topic, id in sorted(snapshot.topics.items())
        if now[topic] is not None and now[topic] != id
    ]


def _effect(sink: Sink, snapshot: Snapshot, way: str, batches: int) -> Effect:
    if way == SAME_BATCHES:
        text = f"stays as it is: {batches} batches run again under their own ids, and are recognised"
        return Effect(sink.table, text if batches else "stays as it is")
    if sink.keyed:
        return Effect(sink.table, "rows are upserted by their key: what is read again gives the same values")
    version = snapshot.tables.get(sink.table)
    if version is None:
        return Effect(
            sink.table, "was not there when the snapshot was taken: it stays as it is", doubles=True
        )
    text = f"is put back to version {version}; what was added since is taken out, and written again"
    return Effect(sink.table, text)


def _told(plan: OriginPlan, why: str) -> OriginPlan:
    way = {
        SAME_BATCHES: "the same lineage goes on: the batches after the snapshot run again as they were",
        NEW_LINEAGE: f"a new lineage begins from the snapshot's files ({why})",
    }[plan.origin.way]
    kept = "the present checkpoint is moved aside, not removed"
    return replace(plan, notes=(way, kept, "what is committed until the stream has stopped is repeated too"))


def _age(snapshot: Snapshot) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(snapshot.taken_at))
