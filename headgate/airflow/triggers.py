"""Triggers that watch a stream from Airflow's triggerer. They observe; they own nothing.

A trigger may run more than once, on another host, and for years. It polls the supervisor, never
blocks the event loop, and never raises: a supervisor that cannot be reached is unknown, not dead.
Running a trigger again means adopt; only `execute()` orders.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from headgate.airflow import access, stopping
from headgate.airflow.decisions import (
    Decision,
    Outcome,
    ask_again,
    decide,
    first_commit,
    is_final,
    progress_line,
    snapshot,
)
from headgate.errors import NotFoundError
from headgate.streams.model import Owner, StreamStatus

if TYPE_CHECKING:
    from headgate.streams.client import AsyncSupervisorClient

__all__ = ["PROGRESS_KEY", "UI_KEY", "FirstCommitTrigger", "StreamTrigger"]

POLL_SECONDS = 5.0
CALL_SECONDS = 4.0  # below the interval, so that polls never pile up
REPORT_SECONDS = 30.0
QUIET_AFTER_SECONDS = 3600.0  # the first hour is what people watch; a log line for ever is a full disk
QUIET_REPORT_SECONDS = 300.0
LOST_ANSWERS = 12  # one minute of "no such stream" from a supervisor that answers
# Right after an order the supervisor may still show the phase before it, so these count when seen twice.
SEEN_TWICE = frozenset({Outcome.PARKED, Outcome.EXITED})

PROGRESS_KEY = "progress"
UI_KEY = "_link_SparkUiLink"


class _StreamPoll(BaseTrigger):  # type: ignore[misc]
    """What both triggers share: one careful question to the supervisor."""

    def __init__(self, stream: str, owner: dict[str, Any], poll_seconds: float = POLL_SECONDS) -> None:
        super().__init__()
        self.stream = stream
        self.owner = Owner(**owner)
        self.poll_seconds = poll_seconds
        self.unknown_answers = 0
        self._client: AsyncSupervisorClient | None = None
        self._away_since: float | None = None
        self._away_said = 0.0

    async def _status(self) -> StreamStatus | None:
        """The stream's status, or None while it is unknown. Raises nothing."""
        try:
            status = await asyncio.wait_for(self._ask(), CALL_SECONDS)
        except NotFoundError as error:
            self.unknown_answers += 1
            if self.unknown_answers == 1:
                self.log.warning("the supervisor does not know %s: %s", self.stream, error)
            return None
        except Exception as error:  # noqa: BLE001 -- whatever it is, the stream may well be alive
            await self._say_away(error)
            return None
        if self._away_since is not None:
            self.log.info("the supervisor answers again after %.0f s", time.monotonic() - self._away_since)
            self._away_since = None
        self.unknown_answers = 0
        return status

    async def _ask(self) -> StreamStatus:
        if self._client is None:
            self._client = await access.async_client()
        return await self._client.status(self.stream)

    async def _say_away(self, error: Exception) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since, self._away_said = now, float("-inf")
        if now - self._away_said >= REPORT_SECONDS:
            self._away_said = now
            self.log.warning(
                "the state of %s is unknown for %.0f s, it may well be running: %s",
                self.stream,
                now - self._away_since,
                error if str(error) else repr(error),
            )
            await self._close()  # the next question looks the address and the token up again

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            try:
                await client.close()
            except Exception as error:  # noqa: BLE001 -- a half-open connection must not end the watch
                self.log.debug("closing the connection to the supervisor: %s", error)

    async def cleanup(self) -> None:
        """Runs at every exit, a restart of the triggerer included: it stops nothing."""
        await self._close()


class StreamTrigger(_StreamPoll):
    """Watches one stream until the wait of its owner's task is over, then yields one event."""

    def __init__(
        self, stream: str, generation: int, owner: dict[str, Any], poll_seconds: float = POLL_SECONDS
    ) -> None:
        super().__init__(stream, owner, poll_seconds)
        self.generation = generation
        self._started = time.monotonic()
        self._reported = self._said = float("-inf")
        self._seen: tuple[Any, ...] = ()
        self._last: Decision | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "headgate.airflow.triggers.StreamTrigger",
            {
                "stream": self.stream,
                "generation": self.generation,
                "owner": asdict(self.owner),
                "poll_seconds": self.poll_seconds,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        while True:
            decision = await self._look()
            if decision.ends:
                self.log.info("%s: %s", decision.outcome, decision.text)
                yield TriggerEvent(decision.to_json())
                return
            await asyncio.sleep(self.poll_seconds)

    async def on_kill(self) -> None:
        """A person marked the task, or it only looks so: see `headgate.airflow.stopping`."""
        await stopping.in_background(
            stopping.stop_if_final(self.stream, self.generation, self.owner, self.log.info)
        )

    async def _look(self) -> Decision:
        status = await self._status()
        if status is None:
            if self.unknown_answers >= LOST_ANSWERS:
                return Decision(Outcome.LOST, self.generation, _lost(self.stream), runbook="StreamDown")
            return Decision(Outcome.WATCH, self.generation)
        decision = decide(status, self.generation, self.owner)
        if decision.generation > self.generation:
            self.log.info(
                "%s was ordered anew (generation %d after %d) and is still this task's: following it",
                self.stream,
                decision.generation,
                self.generation,
            )
            self.generation = decision.generation
        await self._report(status)
        again, self._last = decision == self._last, decision
        if decision.outcome in SEEN_TWICE and not again:
            return Decision(Outcome.WATCH, self.generation)
        return decision

    async def _report(self, status: StreamStatus) -> None:
        seen = (
            status.phase,
            status.generation,
            status.epoch,
            status.consecutive_failures,
            *sorted(status.conditions),
        )
        changed, self._seen = seen != self._seen, seen
        now = time.monotonic()
        if not changed and now - self._reported < REPORT_SECONDS:
            return
        quiet = now - self._started > QUIET_AFTER_SECONDS
        if changed or now - self._said >= (QUIET_REPORT_SECONDS if quiet else REPORT_SECONDS):
            self.log.info(progress_line(status))
            self._said = now
        if changed and (trouble := ask_again(status)):
            self.log.warning("%s. Runbook: StreamDown", trouble)
        self._reported = now
        await self._publish(snapshot(status))

    async def _publish(self, progress: dict[str, Any]) -> None:
        """Progress and the Spark UI's address, live in Airflow's UI while the task is deferred."""
        from airflow.sdk.execution_time.xcom import XCom

        at = {"dag_id": self.owner.dag_id, "run_id": self.owner.run_id, "task_id": self.owner.task_id}
        try:
            await asyncio.wait_for(XCom.aset(key=PROGRESS_KEY, value=progress, **at), CALL_SECONDS)
            if progress["ui_url"]:
                # Each time: the worker that deferred the task may still be writing the older value.
                await asyncio.wait_for(XCom.aset(key=UI_KEY, value=progress["ui_url"], **at), CALL_SECONDS)
        except Exception as error:  # noqa: BLE001 -- a page that is not up to date ends no watch
            self.log.warning("the progress could not be shown in Airflow: %r", error)


class FirstCommitTrigger(_StreamPoll):
    """Waits for the first commit of this DAG run, or for the end of the run's stream task."""

    def __init__(
        self, stream: str, owner: dict[str, Any], queries: list[str], poll_seconds: float = POLL_SECONDS
    ) -> None:
        super().__init__(stream, owner, poll_seconds)
        self.queries = queries

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "headgate.airflow.triggers.FirstCommitTrigger",
            {
                "stream": self.stream,
                "owner": asdict(self.owner),
                "queries": self.queries,
                "poll_seconds": self.poll_seconds,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        looked = time.monotonic()
        while True:
            status = await self._status()
            committed = status is not None and first_commit(status, self.owner, self.queries)
            if committed or time.monotonic() - looked >= REPORT_SECONDS:
                looked = time.monotonic()
                state = await self._stream_task_state()
                # One that was cleared with this task has yet to order: what is committed is the old run's.
                if committed and status is not None and state == "deferred":
                    yield TriggerEvent({"committed": True, "progress": snapshot(status)})
                    return
                if is_final(state) or state == stopping.GONE:
                    yield TriggerEvent({"committed": False, "state": state})
                    return
            await asyncio.sleep(self.poll_seconds)

    async def _stream_task_state(self) -> str:
        """Empty when it has none, or when Airflow's API is away."""
        try:
            return await asyncio.wait_for(stopping.task_state(self.owner), CALL_SECONDS) or ""
        except Exception as error:  # noqa: BLE001 -- Airflow's API is away: unknown, ask again later
            self.log.warning("the state of %s is unknown: %r", self.owner.label, error)
            return ""


def _lost(stream: str) -> str:
    return (
        f"the supervisor answers, and has not known {stream} for a minute: its store was "
        "replaced or emptied. See `headgate status`; clear this task to order the stream anew"
    )
