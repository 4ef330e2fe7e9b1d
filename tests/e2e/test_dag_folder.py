"""The DAG folder as Airflow's DAG processor imports it, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from headgate.contract.frozen import Applied

DAGS = Path(__file__).parents[2] / "dags"
APPLIED = Applied("logs", "ab" * 32, 1, 1.0, "ann", "team", "Log lines.", "logs.yaml", 300.0)

IMPORT_ALL = """
import importlib.util, json, pathlib, sys, time
from airflow.sdk import DAG, AssetOrTimeSchedule, BaseOperator, BaseOperatorLink, DeltaTriggerTimetable
before, started, dags = set(sys.modules), time.process_time(), []
for file in sorted(pathlib.Path(sys.argv[1]).glob("*.py")):
    spec = importlib.util.spec_from_file_location("dag_file_" + file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dags += sorted({value.dag_id for value in vars(module).values() if isinstance(value, DAG)})
seconds = time.process_time() - started
print(json.dumps({"dags": dags, "seconds": seconds, "new": sorted(set(sys.modules) - before)}))
"""


def write_pointers(home: Path, *pointers: Applied) -> None:
    folder = home / "var" / "contracts" / "applied"
    folder.mkdir(parents=True)
    for pointer in pointers:
        (folder / f"{pointer.pipeline}.json").write_text(json.dumps(asdict(pointer)))


def import_dag_folder(home: Path) -> dict[str, Any]:
    environ = {**os.environ, "HEADGATE_HOME": str(home), "AIRFLOW_HOME": str(home / "airflow")}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, str(DAGS)], env=environ, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_fifty_contracts_are_imported_within_two_seconds_and_nothing_heavy_with_them(tmp_path: Path) -> None:
    """Measured: processor time of running all files of dags/ in a fresh process that has loaded airflow.sdk,
    as Airflow's DAG processor has. It does not depend on what else the machine does."""
    names = [f"pipeline-{number}" for number in range(50)]
    write_pointers(tmp_path, *(replace(APPLIED, pipeline=name) for name in names))
    found = import_dag_folder(tmp_path)
    streams = {f"stream.{name}" for name in names}
    checks = {f"quality.{name}" for name in names}
    orders = {f"operate.{name}" for name in names}
    assert set(found["dags"]) == {*streams, *checks, *orders, "headgate.reconcile"}
    assert found["seconds"] < 2.0
    heavy = {"pyspark", "great_expectations", "kafka", "pandas", "pyarrow", "deltalake", "sqlglot", "redis"}
    assert heavy & {name.partition(".")[0] for name in found["new"]} == set()
    # Airflow itself brings SQLAlchemy; headgate adds nothing of it.
    assert [name for name in found["new"] if name.startswith("sqlalchemy")] == []


def test_without_applied_contracts_there_is_the_sweep_alone(tmp_path: Path) -> None:
    assert import_dag_folder(tmp_path)["dags"] == ["headgate.reconcile"]
