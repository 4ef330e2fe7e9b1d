"""The embedded Airflow's executor: Airflow's own on this machine, which a slow scheduler does not mislead.

A task that waits (deferred, or for a person's answer) ends its process; when it is resumed it gets another
one under the same key. Airflow's executor keeps no account of what it runs: when the scheduler reads the
end of the first process late, with the second already begun, it takes it for the end of a task that never
said how it ended, and fails it ("state mismatch"; apache/airflow issue 72716, open in Airflow 3.3.2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.executors.local_executor import LocalExecutor

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance

__all__ = ["ResumeSafeExecutor"]


class ResumeSafeExecutor(LocalExecutor):  # type: ignore[misc]
    """Knows of a task for as long as any process of it has not been heard to end.

    A process whose end is never heard, since its worker was killed, stays in the account. That costs
    nothing: Airflow finds a task without heartbeats by itself, and its next try has another key.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._processes: Counter[Any] = Counter()

    def has_task(self, task_instance: TaskInstance) -> bool:
        return self._processes[task_instance.key] > 0 or bool(super().has_task(task_instance))

    def change_state(self, key: Any, state: Any, info: Any = None, remove_running: bool = True) -> None:
        self._processes -= Counter((key,))
        super().change_state(key, state, info, remove_running)

    def _process_workloads(self, workload_list: Sequence[Any]) -> None:
        self._processes.update(each.key for each in workload_list)
        super()._process_workloads(workload_list)
