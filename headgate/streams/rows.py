"""Records as rows and rows as records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from headgate.checkpoints.origin import Origin
from headgate.streams.model import Desired, Event, FailureClass, Owner, Phase
from headgate.streams.record import Drain, Ending, Failure, Incarnation, StopOrder, StreamRecord, Upgrade

__all__ = [
    "event_from",
    "event_row",
    "incarnation_from",
    "incarnation_row",
    "owner_text",
    "record_from",
    "record_row",
]

Row = sa.RowMapping | Mapping[str, Any]


def record_row(record: StreamRecord) -> dict[str, Any]:
    return {
        "stream": record.stream,
        "pipeline": record.pipeline,
        "contract_hash": record.contract_hash,
        "desired": str(record.desired),
        "phase": str(record.phase),
        "phase_since": record.phase_since,
        "generation": record.generation,
        "attempted": record.attempted,
        "epoch": record.epoch,
        "owner": owner_text(record.owner) if record.owner else None,
        "ordered_by": record.ordered_by,
        "reason": record.reason,
        "failure_class": str(record.failure_class) if record.failure_class else None,
        "failures": json.dumps([failure.to_json() for failure in record.failures]),
        "restarts": record.restarts,
        "next_attempt_at": record.next_attempt_at,
        "stop": json.dumps(record.stop.to_json()) if record.stop else None,
        "stopped_by": record.stopped_by,
        "stopped_how": record.stopped_how,
        "conditions": json.dumps(record.conditions),
        "drain": json.dumps(record.drain.to_json()) if record.drain else None,
        "version": record.version,
        "origin": json.dumps(record.origin.to_json()) if record.origin else None,
        "stable_hash": record.stable_hash,
        "upgrade": json.dumps(record.upgrade.to_json()) if record.upgrade else None,
    }


def record_from(row: Row) -> StreamRecord:
    return StreamRecord(
        stream=row["stream"],
        pipeline=row["pipeline"],
        contract_hash=row["contract_hash"],
        desired=Desired(row["desired"]),
        phase=Phase(row["phase"]),
        phase_since=row["phase_since"],
        generation=row["generation"],
        attempted=row["attempted"],
        epoch=row["epoch"],
        owner=Owner(**json.loads(row["owner"])) if row["owner"] else None,
        ordered_by=row["ordered_by"],
        reason=row["reason"],
        failure_class=FailureClass(row["failure_class"]) if row["failure_class"] else None,
        failures=tuple(Failure.from_json(item) for item in json.loads(row["failures"])),
        restarts=row["restarts"],
        next_attempt_at=row["next_attempt_at"],
        stop=StopOrder.from_json(json.loads(row["stop"])) if row["stop"] else None,
        stopped_by=row["stopped_by"],
        stopped_how=row["stopped_how"],
        conditions=tuple(json.loads(row["conditions"])),
        drain=Drain.from_json(json.loads(row["drain"])) if row["drain"] else None,
        version=row["version"],
        origin=Origin.from_json(json.loads(row["origin"])) if row["origin"] else None,
        stable_hash=row["stable_hash"],
        upgrade=Upgrade.from_json(json.loads(row["upgrade"])) if row["upgrade"] else None,
    )


def incarnation_row(incarnation: Incarnation) -> dict[str, Any]:
    row = asdict(incarnation)
    del row["ending"]
    ending = incarnation.ending
    row["how"] = ending.how if ending else None
    row["returncode"] = ending.returncode if ending else None
    row["signal"] = ending.signal if ending else None
    row["failure_class"] = str(ending.failure) if ending and ending.failure else None
    row["text"] = ending.text if ending else None
    return row


def incarnation_from(row: Row) -> Incarnation:
    ending = None
    if row["how"] is not None:
        failure = FailureClass(row["failure_class"]) if row["failure_class"] else None
        ending = Ending(row["how"], row["returncode"], row["signal"], failure, row["text"] or "")
    own = ("how", "returncode", "signal", "failure_class", "text")
    return Incarnation(**{key: row[key] for key in row if key not in own}, ending=ending)


def event_row(event: Event) -> dict[str, Any]:
    row = asdict(event)
    del row["id"]
    return row


def event_from(row: Row) -> Event:
    return Event(**row)


def owner_text(owner: Owner) -> str:
    return json.dumps(asdict(owner), sort_keys=True)
