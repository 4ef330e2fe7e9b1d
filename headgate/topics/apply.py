"""Carries out a plan, exactly that plan, and then the contracts count as applied.

    1. take the lock, so that two applies do not interleave
    2. read the live system again; refuse when it is not what the plan saw
    3. topics, then tables, in the plan's order
    4. remember the topics' ids
    5. store the contracts and point at them: only now does any process see the change

A crash leaves a prefix done. The journal says which plan that was, so that the same plan may go on.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient

from headgate.contract.frozen import ContractStore
from headgate.errors import PlanChangedError, RefusedError
from headgate.settings import Settings
from headgate.streams.store import StateStore
from headgate.tables.conditional import require_conditional_put
from headgate.topics.broker import TOPIC_ACTIONS, carry_out_topic
from headgate.topics.differences import Action
from headgate.topics.kafka import admin_client
from headgate.topics.lake import TABLE_ACTIONS, carry_out_table
from headgate.topics.live import read_topics
from headgate.topics.plan import Plan, make_plan
from headgate.topics.topics import desired_topics

__all__ = ["Outcome", "apply_lock", "apply_plan"]

LOCK_SECONDS = 60.0  # DAGs of several pipelines apply at the same time; each takes a few seconds


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an apply did. `done` is empty when everything was so already."""

    plan_hash: str
    done: tuple[Action, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "plan": self.plan_hash,
            "done": [
                {"kind": each.kind, "address": each.address, "pipeline": each.pipeline, "what": each.summary}
                for each in self.done
            ],
        }


def apply_plan(settings: Settings, plan: Plan, *, by: str, lock_seconds: float = LOCK_SECONDS) -> Outcome:
    """Carry out the plan. Doing it again does nothing.

    Raises RefusedError for a plan with refusals or a store without conditional put, PlanChangedError when the
    live system is not what the plan saw, and what Kafka, the store and the tables raise.
    """
    _refuse_refused(plan, settings)
    if any(action.kind in TABLE_ACTIONS for action in plan.actions):
        require_conditional_put(settings.tables)
    with apply_lock(settings, lock_seconds):
        journal = settings.state / "apply.journal"
        actions = _still_valid(settings, plan, journal)
        _write_journal(journal, plan, by)
        with admin_client(settings) as admin:
            for action in actions:
                if action.kind in TOPIC_ACTIONS:
                    carry_out_topic(admin, action)
                elif action.kind in TABLE_ACTIONS:
                    carry_out_table(settings.tables, action)
            _remember_topics(settings, plan, admin)
        _put_contracts(settings, plan, actions, by)
        journal.unlink()
    return Outcome(plan.hash, tuple(actions))


def _refuse_refused(plan: Plan, settings: Settings) -> None:
    if plan.env != settings.env:
        raise RefusedError(
            f"the plan was made for the environment {plan.env!r}, and this is {settings.env!r}",
            help=f"HEADGATE_ENV={plan.env} headgate apply, or make a new plan",
        )
    if plan.refusals:
        told = "\n".join(f"  ! {each.address}: {each.message}" for each in plan.refusals)
        raise RefusedError(
            f"the plan is refused, and nothing was changed:\n{told}",
            help="headgate plan shows the choices; headgate apply PIPELINE applies one without the others",
        )


@contextmanager
def apply_lock(settings: Settings, seconds: float) -> Iterator[None]:
    """One apply at a time on this state folder. Raises RefusedError after waiting.

    The kernel ends it with the process, so nothing stale is left.
    """
    path = settings.state / "apply.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    with path.open("a+", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    file.seek(0)
                    raise RefusedError(
                        f"another apply is running: process {file.read().strip() or 'unknown'} holds {path}",
                        help="wait for it, or end it, and run headgate apply again",
                    ) from error
                time.sleep(0.1)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _still_valid(settings: Settings, plan: Plan, journal: Path) -> Sequence[Action]:
    """The actions to do now. Raises PlanChangedError when the plan's ground has moved."""
    now = make_plan(settings, plan.contracts, files=plan.files, removed=_removed(plan))
    if now.hash == plan.hash:
        return plan.actions
    if not now.actions and not now.refusals and now.cluster_id == plan.cluster_id:
        return ()  # it was carried out before
    if _began(journal, plan) and not now.refusals and all(_is_rest(each, plan) for each in now.actions):
        return now.actions
    raise PlanChangedError(
        "the live system is not what the plan was made for, and nothing was changed:\n"
        + "\n".join(f"  {line}" for line in _moved(plan, now)),
        help="headgate plan shows the difference as it is now",
    )


def _is_rest(action: Action, plan: Plan) -> bool:
    """Whether an action is one of the plan's, or remembers a topic that the plan had just created."""
    created = [each.address for each in plan.actions if each.kind == "create_topic"]
    return action in plan.actions or (action.kind == "adopt_topic" and action.address in created)


def _removed(plan: Plan) -> list[str]:
    return [pipeline for pipeline, change in plan.changes.items() if change == "removed"]


def _moved(plan: Plan, now: Plan) -> Iterator[str]:
    if plan.cluster_id != now.cluster_id:
        yield f"the Kafka cluster is {now.cluster_id}, and the plan was made for {plan.cluster_id}"
    for kind, before in plan.seen.items():
        for name, value in before.items():
            found = now.seen[kind].get(name)
            # Through JSON, as one side may come from a file, where tuples are lists.
            if json.dumps(found, sort_keys=True) != json.dumps(value, sort_keys=True):
                yield f"{kind}: {name} was {_short(value)}, and is {_short(found)}"
    for refusal in now.refusals:
        if refusal not in plan.refusals:
            yield f"{refusal.address}: {refusal.message}"


def _short(value: Any) -> str:
    text = "not there" if value is None else json.dumps(value, sort_keys=True)
    return text if len(text) <= 300 else f"{text[:297]}…"


def _began(journal: Path, plan: Plan) -> bool:
    try:
        return bool(json.loads(journal.read_text(encoding="utf-8"))["plan"] == plan.hash)
    except FileNotFoundError:
        return False


def _write_journal(journal: Path, plan: Plan, by: str) -> None:
    draft = journal.with_suffix(".tmp")
    draft.write_text(json.dumps({"plan": plan.hash, "by": by, "at": time.time()}), encoding="utf-8")
    draft.replace(journal)


def _remember_topics(settings: Settings, plan: Plan, admin: KafkaAdminClient) -> None:
    contracts = ContractStore(settings.state)
    applied = {name: contracts.get(each.hash) for name, each in contracts.applied().items()}
    topics = {topic for each in plan.contracts for topic in each.topics.values()}
    with closing(StateStore(settings.store_url)) as store:
        owners = {topic: owner for topic in topics if (owner := store.topic_owner(topic)) is not None}
        wanted, _, _ = desired_topics(plan.contracts, applied, owners)
        live = read_topics(admin, [each.name for each in wanted])
        for each in wanted:
            if store.topic_id(each.name) != live[each.name].topic_id:
                store.remember_topic(each.name, live[each.name].topic_id, each.pipeline, at=time.time())


def _put_contracts(settings: Settings, plan: Plan, actions: Sequence[Action], by: str) -> None:
    store = ContractStore(settings.state)
    contracts = {each.pipeline: each for each in plan.contracts}
    for action in actions:
        if action.kind == "put_contract":
            contract = contracts[action.pipeline]
            store.put(contract)
            store.set_applied(contract, at=time.time(), by=by, file=plan.files[action.pipeline])
