"""Airflow's scheduler asks `has_task` when it reads that a process has ended: "is there another one?"."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.executors.local_executor import LocalExecutor
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.utils.state import TaskInstanceState

from headgate.airflow.executor import ResumeSafeExecutor
from headgate.local.airflow import EXECUTOR

KEY = TaskInstanceKey("operate.logs", "approve", "manual", 1, -1)
TASK: Any = SimpleNamespace(id="01", key=KEY)
RUN = SimpleNamespace(key=KEY)


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> Iterator[ResumeSafeExecutor]:
    """Airflow's own executor beneath it takes the work and starts nothing."""
    monkeypatch.setattr(LocalExecutor, "_process_workloads", lambda self, items: None)
    yield ResumeSafeExecutor(parallelism=1)


def ended(executor: ResumeSafeExecutor) -> Any:
    executor.change_state(KEY, TaskInstanceState.SUCCESS)
    return executor.get_event_buffer()[KEY]


def test_the_configuration_names_it() -> None:
    assert f"{ResumeSafeExecutor.__module__}.{ResumeSafeExecutor.__qualname__}" == EXECUTOR


def test_a_task_is_known_until_its_process_has_ended(executor: ResumeSafeExecutor) -> None:
    assert not executor.has_task(TASK)
    executor._process_workloads([RUN])
    assert executor.has_task(TASK)
    assert ended(executor) == (TaskInstanceState.SUCCESS, None)
    assert not executor.has_task(TASK)


def test_the_end_of_the_process_that_asked_leaves_the_one_that_was_resumed(
    executor: ResumeSafeExecutor,
) -> None:
    executor._process_workloads([RUN])
    executor._process_workloads([RUN])
    ended(executor)
    assert executor.has_task(TASK)
    ended(executor)
    assert not executor.has_task(TASK)


def test_an_end_that_is_told_twice_is_not_owed_to_the_next_process(executor: ResumeSafeExecutor) -> None:
    executor._process_workloads([RUN])
    ended(executor)
    ended(executor)
    executor._process_workloads([RUN])
    assert executor.has_task(TASK)


def test_work_that_waits_for_a_free_process_is_known_as_airflow_knows_it(
    executor: ResumeSafeExecutor,
) -> None:
    executor.queued_tasks[KEY] = RUN
    assert executor.has_task(TASK)
