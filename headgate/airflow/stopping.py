"""Stopping a stream from a trigger's `on_kill`: only for a final task, fenced, and never lost to a cancel.

`on_kill` is called for more than a user's action: a triggerer that was frozen wakes up and kills
triggers that a peer runs by now, and after a clear the old trigger sees the state of the new attempt.
So the task instance is asked, and only a final state stops the stream. Airflow cancels a slow `on_kill`
after one second; the work therefore runs in a task of its own, behind `asyncio.shield`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from headgate.airflow import access
from headgate.airflow.decisions import stops
from headgate.errors import HeadgateError, NotFoundError, RefusedError
from headgate.streams.model import Owner, Phase

if TYPE_CHECKING:
    from headgate.streams.client import AsyncSupervisorClient

__all__ = ["GONE", "STOP_SECONDS", "in_background", "pending", "stop_if_final", "task_state"]

GONE = "gone"  # no such task instance; Airflow answered, so this is not a failed call
STOP_SECONDS = 60.0  # for the running batch to commit, before the driver is killed
KEEP_TRYING_SECONDS = 120.0  # afterwards the reconcile DAG sweeps
RETRY_SECONDS = 3.0
CALL_SECONDS = 10.0

_background: set[asyncio.Task[None]] = set()

Say = Callable[..., Any]


async def in_background(work: Awaitable[None]) -> None:
    """Run to the end even when the caller is cancelled; the set keeps the task from the collector."""

    async def run() -> None:
        await work

    task = asyncio.create_task(run())
    _background.add(task)
    task.add_done_callback(_background.discard)
    await asyncio.shield(task)


def pending() -> int:
    """How many stops are still being worked on in this process."""
    return len(_background)


async def task_state(owner: Owner) -> str | None:
    """The state of the owner's task instance as Airflow has it now, or GONE. Raises what Airflow raises."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    # The call blocks on the triggerer's own loop, so it needs a thread.
    found = await asyncio.to_thread(
        RuntimeTaskInstance.get_task_states,
        dag_id=owner.dag_id,
        task_ids=[owner.task_id],
        run_ids=[owner.run_id],
    )
    state: str | None = found.get(owner.run_id, {}).get(owner.task_id, GONE)
    return state


async def stop_if_final(
    stream: str, generation: int, owner: Owner, say: Say, keep_trying: float = KEEP_TRYING_SECONDS
) -> None:
    """Stop the stream when its task is over; `say` is the trigger's log. Raises nothing of its own."""
    until = time.monotonic() + keep_trying
    while True:
        try:
            await asyncio.wait_for(_attempt(stream, generation, owner, say), CALL_SECONDS)
            return
        except (RefusedError, NotFoundError) as error:
            say("%s was not stopped: %s", stream, error)
            return
        except Exception as error:  # noqa: BLE001 -- Airflow's API or the supervisor may be away: both come back
            if time.monotonic() >= until:
                say("%s was not stopped, the reconcile DAG will: %s", stream, error)
                return
            expected = isinstance(error, (HeadgateError, TimeoutError))
            say("stopping %s again in %.0f s: %s", stream, RETRY_SECONDS, error if expected else repr(error))
        await asyncio.sleep(RETRY_SECONDS)


async def _attempt(stream: str, generation: int, owner: Owner, say: Say) -> None:
    state = await task_state(owner)
    if not stops(state):
        say("%s goes on: its task instance is %s, which is not an end", stream, state or "without a state")
        return
    async with await access.async_client() as client:
        await _stop(client, stream, generation, owner, f"its task instance is {state}")
    say("%s: stop ordered, its task instance is %s", stream, state)


async def _stop(
    client: AsyncSupervisorClient, stream: str, generation: int, owner: Owner, reason: str
) -> None:
    status = await client.status(stream)
    if status.owner == owner and status.phase in (Phase.PARKED, Phase.STOPPED, Phase.RETIRED):
        return  # nothing runs; a parked stream keeps its reason for the people who look
    if status.owner == owner:
        generation = max(generation, status.generation)  # a CLI restart kept the owner
    await client.stop(
        stream,
        actor=owner.label,
        reason=reason,
        owner=owner,
        generation=generation,
        mode="graceful",
        deadline_seconds=STOP_SECONDS,
    )
