from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk import DAG, AssetOrTimeSchedule

from headgate.airflow.dags import (
    build_operate_dag,
    build_quality_dag,
    build_reconcile_dag,
    build_stream_dag,
)
from headgate.airflow.operators import stream_asset
from headgate.contract.frozen import Applied
from headgate.settings import Settings

DAGS = Path(__file__).parents[3] / "dags"
APPLIED = Applied("logs", "ab" * 32, 1, 1.0, "ann", "team", "Log lines.", "logs.yaml", 300.0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def tasks(dag: DAG) -> dict[str, list[str]]:
    return {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}


@pytest.mark.parametrize("file", sorted(DAGS.glob("*.py")), ids=lambda path: path.stem)
def test_dag_files_import_airflow_and_headgate_alone_and_fit_a_screen(file: Path) -> None:
    lines = file.read_text().splitlines()
    imports = [line.split()[1] for line in lines if line.startswith(("import ", "from "))]
    assert {name.partition(".")[0] for name in imports} <= {"__future__", "airflow", "headgate"}
    assert all(name == "airflow.sdk" for name in imports if name.startswith("airflow"))
    assert len(lines) < 40


def test_the_stream_dag_plans_applies_and_checks_before_it_runs(settings: Settings) -> None:
    assert tasks(build_stream_dag(APPLIED, settings)) == {
        "plan": ["apply"],
        "apply": ["preflight"],
        "preflight": ["first_commit", "run_stream"],
        "run_stream": [],
        "first_commit": [],
    }


def test_the_stream_dag_runs_once_at_a_time_without_a_schedule_or_a_timeout(settings: Settings) -> None:
    dag = build_stream_dag(APPLIED, settings)
    assert dag.dag_id == "stream.logs"
    assert not dag.timetable.can_be_scheduled
    assert (dag.max_active_runs, dag.catchup, dag.dagrun_timeout) == (1, False, None)
    assert dag.is_paused_upon_creation is True
    run = dag.get_task("run_stream")
    assert (run.retries, run.execution_timeout, run.max_active_tis_per_dag) == (0, None, 1)
    first = dag.get_task("first_commit")
    assert (first.retries, first.execution_timeout) == (0, None)


def test_the_dags_page_names_owner_contract_and_runbooks(settings: Settings) -> None:
    dag = build_stream_dag(APPLIED, settings)
    assert dag.doc_md is not None
    for part in ("Log lines.", "**team**", "`abababababab`", "runbooks/StreamDown", "Clear"):
        assert part in dag.doc_md
    assert dag.tags == {"headgate", "stream", "owner:team"}


def test_an_order_is_shown_then_approved_then_given(settings: Settings) -> None:
    dag = build_operate_dag(APPLIED, settings)
    assert tasks(dag) == {
        "show_plan": ["approve"],
        "approve": ["order"],
        "order": ["watch_again"],
        "watch_again": [],
    }
    assert not dag.timetable.can_be_scheduled
    assert (dag.max_active_runs, dag.is_paused_upon_creation) == (1, False)
    assert dag.get_task("order").retries == dag.get_task("approve").retries == 0
    assert dag.doc_md is not None and "stream.logs" in dag.doc_md


def test_the_quality_dag_runs_by_time_and_after_a_first_commit(settings: Settings) -> None:
    dag = build_quality_dag(APPLIED, settings)
    assert dag is not None
    schedule = dag.timetable
    assert isinstance(schedule, AssetOrTimeSchedule)
    assert schedule.timetable.delta == timedelta(minutes=5)
    assert schedule.asset_condition.objects == (stream_asset("logs"),)
    assert (dag.max_active_runs, dag.catchup, dag.is_paused_upon_creation) == (1, False, True)


def test_a_contract_without_a_quality_section_has_no_quality_dag(settings: Settings) -> None:
    assert build_quality_dag(replace(APPLIED, quality_every=None), settings) is None


def test_the_sweep_runs_every_minute_and_is_not_paused(settings: Settings) -> None:
    dag = build_reconcile_dag(settings)
    assert dag.timetable.delta == timedelta(minutes=1)
    assert (dag.max_active_runs, dag.catchup, dag.is_paused_upon_creation) == (1, False, False)


def test_the_stream_task_has_links_to_what_people_look_at(settings: Settings) -> None:
    run = build_stream_dag(APPLIED, settings).get_task("run_stream")
    assert [link.name for link in run.operator_extra_links] == ["Spark UI", "Status page", "Runbook"]
