from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest

from headgate.airflow import access, stopping, triggers
from headgate.airflow.triggers import FirstCommitTrigger, StreamTrigger
from headgate.errors import NotFoundError, RefusedError, SupervisorUnavailable
from headgate.streams.model import Desired, DriverStatus, Owner, Phase, QueryProgress, StreamStatus

OWNER = Owner("airflow", dag_id="stream.logs", run_id="r1", task_id="run_stream", try_number=1)
DRIVER = DriverStatus(
    stream="logs",
    pipeline="logs",
    epoch=7,
    generation=4,
    contract_hash="ab",
    lineage="l1",
    headgate_version="0.1.0",
    pid=1,
    phase="running",
    written_at=1000.0,
    ui_url="http://127.0.0.1:4040",
    queries={"records": QueryProgress(batch_id=0, last_commit_at=1000.0)},
)
RUNNING = StreamStatus(
    stream="logs",
    pipeline="logs",
    phase=Phase.RUNNING,
    desired=Desired.RUNNING,
    generation=4,
    epoch=7,
    contract_hash="ab",
    owner=OWNER,
    driver=DRIVER,
)
PARKED = replace(RUNNING, phase=Phase.PARKED, reason="a cause")


class Source:
    """Answers a script of statuses and errors, one per question; the last one for ever."""

    def __init__(self, *answers: StreamStatus | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.stops: list[dict[str, Any]] = []
        self.refusals: list[Exception] = []
        self.closed = 0

    async def status(self, stream: str) -> StreamStatus:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def stop(self, stream: str, **order: Any) -> StreamStatus:
        if self.refusals:
            raise self.refusals.pop(0)
        self.stops.append({"stream": stream, **order})
        return RUNNING

    async def close(self) -> None:
        self.closed += 1

    async def __aenter__(self) -> Source:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Xcoms:
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.error: Exception | None = None


@pytest.fixture
def xcoms(monkeypatch: pytest.MonkeyPatch) -> Xcoms:
    from airflow.sdk.execution_time.xcom import XCom

    kept = Xcoms()

    async def aset(key: str, value: Any, **at: Any) -> None:
        if kept.error:
            raise kept.error
        assert at == {"dag_id": "stream.logs", "run_id": "r1", "task_id": "run_stream"}
        kept.values[key] = json.loads(json.dumps(value))

    monkeypatch.setattr(XCom, "aset", aset)
    return kept


def use(monkeypatch: pytest.MonkeyPatch, source: Source) -> Source:
    async def client() -> Source:
        return source

    monkeypatch.setattr(access, "async_client", client)
    return source


def stream_trigger(**changes: Any) -> StreamTrigger:
    values = {"stream": "logs", "generation": 4, "owner": asdict(OWNER), "poll_seconds": 0.0, **changes}
    return StreamTrigger(**values)


def events(trigger: Any) -> list[Any]:
    """All events until the trigger returns; a trigger that would poll for ever fails the test."""

    async def collect() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    return asyncio.run(asyncio.wait_for(collect(), 10))


@pytest.mark.parametrize(
    "trigger",
    [
        stream_trigger(),
        FirstCommitTrigger(stream="logs", owner=asdict(OWNER), queries=["records"], poll_seconds=0.0),
    ],
)
def test_a_trigger_comes_back_from_what_it_serializes(trigger: Any) -> None:
    path, arguments = trigger.serialize()
    again = getattr(triggers, path.rpartition(".")[2])(**json.loads(json.dumps(arguments)))
    assert again.serialize() == (path, arguments)


def test_the_trigger_polls_until_the_wait_is_over_and_yields_one_event(
    monkeypatch: pytest.MonkeyPatch, xcoms: Xcoms
) -> None:
    source = use(monkeypatch, Source(RUNNING, RUNNING, PARKED))
    (event,) = events(stream_trigger())
    assert event["outcome"] == "parked"
    assert source.asked == 4


@pytest.mark.parametrize(
    "trouble", [SupervisorUnavailable("no answer"), TimeoutError(), OSError("no route"), KeyError("bug")]
)
def test_a_supervisor_that_cannot_be_reached_is_unknown_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, xcoms: Xcoms, trouble: Exception
) -> None:
    source = use(monkeypatch, Source(RUNNING, *[trouble] * 50, PARKED))
    (event,) = events(stream_trigger())
    assert event["outcome"] == "parked"
    assert source.asked == 53


def test_a_failed_lookup_of_the_address_ends_nothing(monkeypatch: pytest.MonkeyPatch, xcoms: Xcoms) -> None:
    source, failures = Source(PARKED), [OSError("secret not readable"), RuntimeError("API is away")]

    async def client() -> Source:
        if failures:
            raise failures.pop()
        return source

    monkeypatch.setattr(access, "async_client", client)
    assert [e["outcome"] for e in events(stream_trigger())] == ["parked"]


def test_a_supervisor_that_does_not_know_the_stream_for_long_ends_the_wait(
    monkeypatch: pytest.MonkeyPatch, xcoms: Xcoms
) -> None:
    use(monkeypatch, Source(RUNNING, NotFoundError("no stream logs")))
    (event,) = events(stream_trigger())
    assert event["outcome"] == "lost"


def test_a_supervisor_that_forgets_the_stream_for_a_moment_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, xcoms: Xcoms
) -> None:
    gone = NotFoundError("no stream logs")
    use(monkeypatch, Source(*[gone] * 11, RUNNING, *[gone] * 11, PARKED))
    assert [e["outcome"] for e in events(stream_trigger())] == ["parked"]


def test_a_phase_from_before_the_order_does_not_end_the_wait(
    monkeypatch: pytest.MonkeyPatch, xcoms: Xcoms
) -> None:
    """A parked stream that is ordered anew shows `parked` until the supervisor has moved it."""
    stopped = replace(RUNNING, phase=Phase.STOPPED, desired=Desired.STOPPED, stopped_by="cli:ann")
    use(monkeypatch, Source(PARKED, RUNNING, PARKED, RUNNING, stopped))
    assert [e["outcome"] for e in events(stream_trigger())] == ["stopped"]


def test_a_restart_by_the_command_line_is_followed(monkeypatch: pytest.MonkeyPatch, xcoms: Xcoms) -> None:
    use(monkeypatch, Source(RUNNING, replace(RUNNING, generation=6), replace(PARKED, generation=6)))
    trigger = stream_trigger()
    (event,) = events(trigger)
    assert event["generation"] == 6
    assert trigger.serialize()[1]["generation"] == 6


def test_progress_and_the_spark_ui_are_shown_while_the_task_is_deferred(
    monkeypatch: pytest.MonkeyPatch, xcoms: Xcoms
) -> None:
    use(monkeypatch, Source(RUNNING, PARKED))
    events(stream_trigger())
    assert xcoms.values["progress"]["queries"]["records"]["batch"] == 0
    assert xcoms.values["_link_SparkUiLink"] == "http://127.0.0.1:4040"


def test_progress_that_cannot_be_shown_ends_nothing(monkeypatch: pytest.MonkeyPatch, xcoms: Xcoms) -> None:
    xcoms.error = RuntimeError("the API server is away")
    use(monkeypatch, Source(RUNNING, PARKED))
    assert [e["outcome"] for e in events(stream_trigger())] == ["parked"]


def test_cleanup_stops_nothing(monkeypatch: pytest.MonkeyPatch, xcoms: Xcoms) -> None:
    source = use(monkeypatch, Source(RUNNING, PARKED))
    trigger = stream_trigger()
    events(trigger)
    asyncio.run(trigger.cleanup())
    assert source.stops == []
    assert source.closed == 1


def states(monkeypatch: pytest.MonkeyPatch, answers: Sequence[str | Exception | None]) -> None:
    left = list(answers)

    async def task_state(owner: Owner) -> str | None:
        assert owner == OWNER
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(stopping, "task_state", task_state)
    monkeypatch.setattr(stopping, "RETRY_SECONDS", 0.0)


def kill(trigger: StreamTrigger) -> None:
    asyncio.run(asyncio.wait_for(trigger.on_kill(), 10))


@pytest.mark.parametrize("state", ["success", "failed", "skipped", "removed"])
def test_a_final_task_stops_the_stream_fenced_by_owner_and_generation(
    monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    states(monkeypatch, [state])
    source = use(monkeypatch, Source(RUNNING))
    kill(stream_trigger())
    (stop,) = source.stops
    assert (stop["owner"], stop["generation"], stop["mode"]) == (OWNER, 4, "graceful")
    assert state in stop["reason"]


@pytest.mark.parametrize(
    "state", [None, "deferred", "scheduled", "queued", "running", "upstream_failed", stopping.GONE]
)
def test_a_task_that_is_not_final_stops_nothing(monkeypatch: pytest.MonkeyPatch, state: str | None) -> None:
    states(monkeypatch, [state])
    source = use(monkeypatch, Source(RUNNING))
    kill(stream_trigger())
    assert source.stops == []


def test_a_parked_stream_keeps_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    states(monkeypatch, ["failed"])
    source = use(monkeypatch, Source(PARKED))
    kill(stream_trigger())
    assert source.stops == []


def test_a_stop_follows_a_restart_that_kept_the_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    states(monkeypatch, ["failed"])
    source = use(monkeypatch, Source(replace(RUNNING, generation=9)))
    kill(stream_trigger())
    assert source.stops[0]["generation"] == 9


def test_a_stop_of_another_owners_stream_keeps_the_old_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    states(monkeypatch, ["failed"])
    source = use(monkeypatch, Source(replace(RUNNING, generation=9, owner=Owner("cli", user="ann"))))
    source.refusals = [RefusedError("owned by cli:ann")]
    kill(stream_trigger())
    assert source.stops == []
    assert source.refusals == []


def test_a_stop_is_tried_again_while_airflow_or_the_supervisor_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states(monkeypatch, [RuntimeError("the API is away"), "failed"])
    source = use(monkeypatch, Source(SupervisorUnavailable("no answer"), RUNNING))
    source.refusals = [SupervisorUnavailable("no answer")]
    kill(stream_trigger())
    assert len(source.stops) == 1


def test_a_stop_is_given_up_after_a_time_and_left_to_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    states(monkeypatch, ["failed"])
    use(monkeypatch, Source(SupervisorUnavailable("no answer")))
    told: list[str] = []
    asyncio.run(stopping.stop_if_final("logs", 4, OWNER, lambda text, *a: told.append(text % a), 0.0))
    assert "the reconcile DAG will" in told[-1]


def test_a_cancelled_on_kill_still_stops_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow cancels on_kill after one second, again and again, and goes on without it."""
    states(monkeypatch, ["failed"])
    source = use(monkeypatch, Source(RUNNING))
    may_go_on = asyncio.Event()
    original = stopping.task_state

    async def slow(owner: Owner) -> str | None:
        await may_go_on.wait()
        return await original(owner)

    monkeypatch.setattr(stopping, "task_state", slow)

    async def scenario() -> None:
        killing = asyncio.create_task(stream_trigger().on_kill())
        for _ in range(3):
            await asyncio.sleep(0)
        killing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await killing
        assert source.stops == []
        may_go_on.set()
        while stopping.pending():
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(scenario(), 10))
    assert len(source.stops) == 1


def first_commit_trigger() -> FirstCommitTrigger:
    return FirstCommitTrigger(stream="logs", owner=asdict(OWNER), queries=["records"], poll_seconds=0.0)


def test_the_first_commit_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    states(monkeypatch, ["deferred"])
    source = use(monkeypatch, Source(NotFoundError("not yet"), replace(RUNNING, driver=None), RUNNING))
    (event,) = events(first_commit_trigger())
    assert event["committed"] is True
    assert event["progress"]["generation"] == 4
    assert source.asked == 3


def test_a_commit_from_before_the_stream_task_has_ordered_again_is_not_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both tasks were cleared: until the stream task is deferred again, the old driver is what is seen."""
    states(monkeypatch, [None, "queued", "running", RuntimeError("away"), "deferred"])
    source = use(monkeypatch, Source(RUNNING))
    (event,) = events(first_commit_trigger())
    assert event["committed"] is True
    assert source.asked == 5


def test_the_wait_for_a_commit_ends_with_the_stream_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "REPORT_SECONDS", 0.0)
    states(monkeypatch, [RuntimeError("away"), None, "deferred", "failed"])
    use(monkeypatch, Source(replace(RUNNING, driver=None)))
    assert events(first_commit_trigger()) == [{"committed": False, "state": "failed"}]
